//! The messages of a login, and md5 passwords.

use std::fmt::Write as _;

use bytes::BytesMut;
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use crate::body::{Body, BodyError};
use crate::write::{self, EncodeError};

/// Name of SCRAM without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// Name of SCRAM with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// A server's step in a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The client is who it says. A login can still fail: only ReadyForQuery ends it.
    Ok,
    /// Wants the password as it is.
    CleartextPassword,
    /// Wants the md5 of password, user and this salt.
    Md5Password {
        /// Random bytes, new for each connection.
        salt: [u8; 4],
    },
    /// Wants a GSSAPI token.
    Gss,
    /// The next GSSAPI or SSPI token.
    GssContinue(&'a [u8]),
    /// Wants an SSPI token.
    Sspi,
    /// Wants one of these SASL mechanisms.
    Sasl(Mechanisms<'a>),
    /// The server's challenge.
    SaslContinue(&'a [u8]),
    /// The server's last word; AuthenticationOk follows.
    SaslFinal(&'a [u8]),
    /// A kind no PostgreSQL of protocol 3 sends.
    Other(i32),
}

impl<'a> Authentication<'a> {
    /// # Errors
    /// When the body is cut short, or longer than its kind.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let request = match body.take_i32()? {
            0 => Self::Ok,
            3 => Self::CleartextPassword,
            5 => {
                let salt = body.take_bytes(4)?;
                Self::Md5Password { salt: salt.try_into().expect("just taken: 4 bytes") }
            }
            7 => Self::Gss,
            8 => return Ok(Self::GssContinue(body.rest())),
            9 => Self::Sspi,
            10 => return Mechanisms::parse(body.rest()).map(Self::Sasl),
            11 => return Ok(Self::SaslContinue(body.rest())),
            12 => return Ok(Self::SaslFinal(body.rest())),
            other => return Ok(Self::Other(other)),
        };
        body.finish()?;
        Ok(request)
    }
}

/// The SASL mechanisms a server offers, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms<'a> {
    names: &'a [u8],
}

impl<'a> Mechanisms<'a> {
    fn parse(list: &'a [u8]) -> Result<Self, BodyError> {
        let mut rest = Body::new(list);
        while !rest.take_cstr()?.is_empty() {}
        rest.finish()?;
        Ok(Self { names: list })
    }

    /// Their names.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = Body::new(self.names);
        std::iter::from_fn(move || rest.take_cstr().ok().filter(|name| !name.is_empty()))
    }

    /// Whether this one is offered.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|n| n == name.as_bytes())
    }
}

/// A client's choice of SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism.
    pub mechanism: &'a [u8],
    /// Its first message; `None` makes the server ask for it with an empty challenge.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// # Errors
    /// When the body is not exactly a string and a value.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let mechanism = body.take_cstr()?;
        let data = body.take_value()?;
        body.finish()?;
        Ok(Self { mechanism, data })
    }

    /// Appends the message.
    ///
    /// # Errors
    /// When the mechanism contains NUL or the message gets too long.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        write::sasl_initial_response(out, self.mechanism, self.data)
    }
}

/// The password in a PasswordMessage.
///
/// # Errors
/// When the body is not exactly one string.
pub fn parse_password(body: &[u8]) -> Result<&[u8], BodyError> {
    let mut body = Body::new(body);
    let password = body.take_cstr()?;
    body.finish()?;
    Ok(password)
}

/// What a client answers to [`Authentication::Md5Password`]: `md5` and 32 hexadecimal digits.
#[must_use]
pub fn md5_password(user: &[u8], password: &[u8], salt: [u8; 4]) -> String {
    salted(&md5_hex(&[password, user]), salt)
}

/// The same from what `pg_authid` keeps, `md5` and 32 hexadecimal digits. `None` when `stored` is
/// not of that form.
/// Source: PostgreSQL 18, src/backend/libpq/crypt.c, `md5_crypt_verify`.
#[must_use]
pub fn md5_from_stored(stored: &str, salt: [u8; 4]) -> Option<String> {
    let hex = stored.strip_prefix("md5")?;
    let is_hex = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| salted(hex, salt))
}

/// What `pg_authid` would keep for a role with this password.
#[must_use]
pub fn md5_stored(user: &[u8], password: &[u8]) -> String {
    format!("md5{}", md5_hex(&[password, user]))
}

/// Whether two secrets are equal, in a time that depends on their lengths only.
#[must_use]
pub fn secrets_match(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn salted(hex: &str, salt: [u8; 4]) -> String {
    format!("md5{}", md5_hex(&[hex.as_bytes(), &salt]))
}

fn md5_hex(parts: &[&[u8]]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    md5.finalize().iter().fold(String::with_capacity(32), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes everything");
        hex
    })
}
