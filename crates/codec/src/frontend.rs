//! What clients send after the startup packet: tags, and readers for the messages that carry state.
//!
//! A `parse` wants the whole body and is as strict as PostgreSQL. A `parse_prefix` takes the first
//! part of a body that is too large to be kept and returns what can be known from it.

use crate::body::{Body, BodyError};

macro_rules! tags {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $byte:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// None that protocol 3 knows.
            Unknown(u8),
        }

        impl $name {
            /// The tag with this type byte.
            #[inline]
            #[must_use]
            pub fn from_byte(byte: u8) -> Self {
                match byte {
                    $($byte => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }

            /// The type byte of this tag.
            #[inline]
            #[must_use]
            pub fn byte(self) -> u8 {
                match self {
                    $(Self::$variant => $byte,)*
                    Self::Unknown(byte) => byte,
                }
            }
        }
    };
}
pub(crate) use tags;

tags! {
    /// The type of a frontend message.
    pub enum FrontendTag {
        /// A simple query.
        Query = b'Q',
        /// Makes a prepared statement.
        Parse = b'P',
        /// Makes a portal of a prepared statement.
        Bind = b'B',
        /// Asks what a statement or portal takes and returns.
        Describe = b'D',
        /// Runs a portal.
        Execute = b'E',
        /// Drops a statement or portal.
        Close = b'C',
        /// Asks for the output so far.
        Flush = b'H',
        /// Ends an extended query.
        Sync = b'S',
        /// Calls a function by its OID.
        FunctionCall = b'F',
        /// A piece of COPY data.
        CopyData = b'd',
        /// Ends COPY data.
        CopyDone = b'c',
        /// Makes a COPY fail.
        CopyFail = b'f',
        /// A password, GSS token, or SASL response: only the server's last request says which.
        Password = b'p',
        /// Ends the session.
        Terminate = b'X',
    }
}

/// A simple query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// One or more SQL statements.
    pub sql: &'a [u8],
}

impl<'a> Query<'a> {
    /// # Errors
    /// When the body is not exactly one string.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let sql = body.take_cstr()?;
        body.finish()?;
        Ok(Self { sql })
    }

    /// As much of the SQL as `prefix` holds.
    #[must_use]
    pub fn parse_prefix(prefix: &'a [u8]) -> Self {
        Self { sql: until_nul(prefix) }
    }
}

/// A request to make a prepared statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the statement; empty for the unnamed one.
    pub name: &'a [u8],
    /// Its SQL.
    pub sql: &'a [u8],
    /// Type OIDs the client chose for the first parameters, four bytes each.
    pub parameter_types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// # Errors
    /// When the body is not two strings, a count and as many OIDs.
    #[expect(clippy::self_named_constructors, reason = "every reader has a parse, also that of Parse")]
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let name = body.take_cstr()?;
        let sql = body.take_cstr()?;
        let count = usize::from(body.take_u16()?);
        let parameter_types = body.take_bytes(4 * count)?;
        body.finish()?;
        Ok(Self { name, sql, parameter_types })
    }

    /// The name, and as much of the SQL as `prefix` holds, without the parameter types. `None`
    /// when the name alone is longer.
    #[must_use]
    pub fn parse_prefix(prefix: &'a [u8]) -> Option<Self> {
        let mut body = Body::new(prefix);
        let name = body.take_cstr().ok()?;
        Some(Self { name, sql: until_nul(body.rest()), parameter_types: &[] })
    }
}

/// A request to make a portal of a prepared statement. Its parameter values are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Name of the portal; empty for the unnamed one.
    pub portal: &'a [u8],
    /// Name of the statement; empty for the unnamed one.
    pub statement: &'a [u8],
}

impl<'a> Bind<'a> {
    /// # Errors
    /// When the body is not two strings, formats, values and result formats.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let portal = body.take_cstr()?;
        let statement = body.take_cstr()?;
        let formats = usize::from(body.take_u16()?);
        body.take_bytes(2 * formats)?;
        for _ in 0..body.take_u16()? {
            body.take_value()?;
        }
        let result_formats = usize::from(body.take_u16()?);
        body.take_bytes(2 * result_formats)?;
        body.finish()?;
        Ok(Self { portal, statement })
    }

    /// The value of a parameter (the first is 0) of the whole body of a Bind, when its type is text: that is the same
    /// in text and in binary format. `None` for NULL, for a value in another format, and for one that is not there.
    #[must_use]
    pub fn text_value(body: &'a [u8], parameter: u16) -> Option<&'a [u8]> {
        let mut body = Body::new(body);
        body.take_cstr().ok()?;
        body.take_cstr().ok()?;
        let formats = body.take_u16().ok()?;
        let mut format = 0;
        for index in 0..formats {
            let next = body.take_u16().ok()?;
            // A single one is for all.
            if index == parameter || formats == 1 {
                format = next;
            }
        }
        let values = body.take_u16().ok()?;
        if parameter >= values || format > 1 {
            return None;
        }
        for _ in 0..parameter {
            body.take_value().ok()?;
        }
        body.take_value().ok()?
    }

    /// Whether a whole body of a Bind has values of parameters, or formats of such.
    #[must_use]
    pub fn has_parameters(body: &'a [u8]) -> bool {
        let counts = Self::parse_prefix(body).map(|bind| bind.portal.len() + bind.statement.len() + 2);
        counts.and_then(|at| body.get(at..at + 4)).is_some_and(|counts| counts != [0; 4])
    }

    /// The names, when `prefix` holds them both.
    #[must_use]
    pub fn parse_prefix(prefix: &'a [u8]) -> Option<Self> {
        let mut body = Body::new(prefix);
        let portal = body.take_cstr().ok()?;
        let statement = body.take_cstr().ok()?;
        Some(Self { portal, statement })
    }
}

/// What a Describe or Close names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

impl Target {
    /// Its byte on the wire.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }

    fn from_byte(byte: u8) -> Result<Self, BodyError> {
        match byte {
            b'S' => Ok(Self::Statement),
            b'P' => Ok(Self::Portal),
            other => Err(BodyError::UnknownKind(other)),
        }
    }
}

/// A question what a statement or portal takes and returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Describe<'a> {
    /// What the name names.
    pub kind: Target,
    /// The name; empty for the unnamed one.
    pub name: &'a [u8],
}

impl<'a> Describe<'a> {
    /// # Errors
    /// When the body is not a kind and a string.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let (kind, name) = parse_target(body)?;
        Ok(Self { kind, name })
    }
}

/// A request to drop a statement or portal; to drop none is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// What the name names.
    pub kind: Target,
    /// The name; empty for the unnamed one.
    pub name: &'a [u8],
}

impl<'a> Close<'a> {
    /// # Errors
    /// When the body is not a kind and a string.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let (kind, name) = parse_target(body)?;
        Ok(Self { kind, name })
    }
}

/// A request to run a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// Name of the portal; empty for the unnamed one.
    pub portal: &'a [u8],
    /// Rows after which to suspend the portal; zero or less for no limit.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// # Errors
    /// When the body is not a string and a number.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let portal = body.take_cstr()?;
        let max_rows = body.take_i32()?;
        body.finish()?;
        Ok(Self { portal, max_rows })
    }
}

/// A call of a function by its OID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionCall;

/// An argument of a FunctionCall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Argument<'a> {
    /// Its bytes.
    pub value: &'a [u8],
    /// Whether it is in binary format.
    pub is_binary: bool,
}

impl FunctionCall {
    /// The OID of the function, when `prefix` holds it.
    #[must_use]
    pub fn function(prefix: &[u8]) -> Option<u32> {
        Body::new(prefix).take_u32().ok()
    }

    /// The arguments, when there are so many and none is NULL.
    #[must_use]
    pub fn arguments<const N: usize>(body: &[u8]) -> Option<[Argument<'_>; N]> {
        let mut body = Body::new(body);
        body.take_u32().ok()?;
        let formats = usize::from(body.take_u16().ok()?);
        let mut codes = Body::new(body.take_bytes(2 * formats).ok()?);
        let mut arguments = [Argument::default(); N];
        if usize::from(body.take_u16().ok()?) != N || (formats > 1 && formats != N) {
            return None;
        }
        let mut code = 0;
        for argument in &mut arguments {
            // A single one is for all; none is text.
            code = codes.take_u16().unwrap_or(code);
            *argument = Argument { value: body.take_value().ok()??, is_binary: code == 1 };
        }
        Some(arguments)
    }
}

fn parse_target(body: &[u8]) -> Result<(Target, &[u8]), BodyError> {
    let mut body = Body::new(body);
    let kind = Target::from_byte(body.take_u8()?)?;
    let name = body.take_cstr()?;
    body.finish()?;
    Ok((kind, name))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}
