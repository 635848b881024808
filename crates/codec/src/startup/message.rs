//! The packet that asks for a session.

use bytes::{BufMut, BytesMut};

use super::options::Options;
use super::{ProtocolVersion, StartupError};
use crate::limits::{NAME_BYTES_MAX, STARTUP_PACKET_MAX};

/// Length word and version, which come before the parameters.
const PREFIX: usize = 8;

/// What the names of protocol options begin with.
const PROTOCOL_OPTION: &[u8] = b"_pq_.";

/// A StartupMessage whose layout was checked and which names a user.
///
/// Kept as the bytes that came, so that it goes on to a server unchanged, unknown protocol
/// options and duplicate parameters included.
#[derive(Clone, PartialEq, Eq)]
pub struct StartupMessage {
    version: ProtocolVersion,
    /// Names and values, each ended by NUL, and the NUL that ends the list.
    body: Box<[u8]>,
    /// Whether the list has what few clients send, so that it is not looked for each time.
    has: RareParameters,
}

/// What few clients send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RareParameters {
    /// A parameter `options`.
    options: bool,
    /// A `_pq_.` parameter.
    protocol_options: bool,
}

/// What kind of replication connection a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// None: an ordinary session.
    No,
    /// `replication=true`: of the whole cluster; no database is connected to.
    Physical,
    /// `replication=database`: with a database, SQL allowed.
    Logical,
}

/// A `replication` parameter PostgreSQL answers with FATAL 22023.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value for parameter \"replication\"")]
pub struct InvalidReplication;

/// What every packet has, or may have: see [`StartupMessage::common`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonParameters<'a> {
    /// [`StartupMessage::user`].
    pub user: &'a [u8],
    /// [`StartupMessage::database`].
    pub database: &'a [u8],
    /// The name of the application, empty where none is given.
    pub application_name: &'a [u8],
    /// [`StartupMessage::replication`].
    pub replication: Result<Replication, InvalidReplication>,
}

impl StartupMessage {
    /// A message of these parameters, in this order.
    ///
    /// # Errors
    /// When a name is empty, a name or value contains NUL, no user is named, or the packet gets
    /// longer than [`STARTUP_PACKET_MAX`].
    pub fn new<'a>(
        version: ProtocolVersion,
        parameters: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, StartupError> {
        let mut body = Vec::new();
        for (name, value) in parameters {
            if name.is_empty() || name.contains(&0) || value.contains(&0) {
                return Err(StartupError::Parameter);
            }
            body.extend_from_slice(name);
            body.push(0);
            body.extend_from_slice(value);
            body.push(0);
        }
        body.push(0);
        let length = u32::try_from(PREFIX + body.len()).unwrap_or(u32::MAX);
        if length > STARTUP_PACKET_MAX {
            return Err(StartupError::Length { length });
        }
        Self::parse(version, &body)
    }

    /// What follows the version.
    pub(super) fn parse(version: ProtocolVersion, body: &[u8]) -> Result<Self, StartupError> {
        if version.major != 3 {
            return Err(StartupError::UnsupportedProtocol(version));
        }
        let (mut rest, mut user, mut has) = (body, &[][..], RareParameters::default());
        while let Some(((name, value), after)) = split_parameter(rest) {
            rest = after;
            match name {
                b"user" => user = value,
                b"options" => has.options = true,
                _ => has.protocol_options |= name.starts_with(PROTOCOL_OPTION),
            }
        }
        if rest != [0] {
            return Err(StartupError::Layout);
        }
        if user.is_empty() {
            return Err(StartupError::NoUser);
        }
        Ok(Self { version, body: body.into(), has })
    }

    /// The version asked for.
    #[must_use]
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// All parameters as (name, value), in their order, duplicates and protocol options included.
    #[must_use]
    pub fn parameters(&self) -> Parameters<'_> {
        Parameters(&self.body)
    }

    /// The value of a parameter. Of duplicates the last wins, as in PostgreSQL.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.parameters().filter(|(n, _)| *n == name.as_bytes()).last().map(|(_, value)| value)
    }

    /// What is asked of every packet, in one pass.
    #[must_use]
    pub fn common(&self) -> CommonParameters<'_> {
        let (mut user, mut database): (&[u8], Option<&[u8]>) = (&[], None);
        let (mut application_name, mut replication) = (None, None);
        for (name, value) in self.parameters() {
            match name {
                b"user" => user = value,
                b"database" => database = Some(value),
                b"application_name" => application_name = Some(value),
                b"replication" => replication = Some(value),
                _ => {}
            }
        }
        CommonParameters {
            user: cut(user),
            database: cut(database.filter(|name| !name.is_empty()).unwrap_or(user)),
            application_name: application_name.unwrap_or_default(),
            replication: replication.map_or(Ok(Replication::No), parse_replication),
        }
    }

    /// Bytes of the packet.
    #[must_use]
    pub fn packet_bytes(&self) -> usize {
        PREFIX + self.body.len()
    }

    /// The role to log in as, its name cut as the server cuts it; never empty.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        cut(self.get("user").unwrap_or_default())
    }

    /// The database to connect to, its name cut likewise: the user's name when none is given.
    #[must_use]
    pub fn database(&self) -> &[u8] {
        match self.get("database") {
            None | Some([]) => self.user(),
            Some(name) => cut(name),
        }
    }

    /// The kind of replication connection asked for, if any.
    ///
    /// # Errors
    /// When the value is neither a boolean nor `database`.
    pub fn replication(&self) -> Result<Replication, InvalidReplication> {
        self.get("replication").map_or(Ok(Replication::No), parse_replication)
    }

    /// The `_pq_.` parameters, which extend the protocol rather than set a variable.
    pub fn protocol_options(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let looked_at = if self.has.protocol_options { self.parameters() } else { Parameters(&[]) };
        looked_at.filter(|(name, _)| name.starts_with(PROTOCOL_OPTION))
    }

    /// Whether `user` is the only parameter, as in the health check HAProxy calls `pgsql-check`.
    #[must_use]
    pub fn is_user_only(&self) -> bool {
        self.parameters().all(|(name, _)| name == b"user")
    }

    /// The settings in the `options` parameter.
    #[must_use]
    pub fn options(&self) -> Options<'_> {
        let options = if self.has.options { self.get("options") } else { None };
        Options::new(options.unwrap_or_default())
    }

    /// The same message without any parameter of this name. `user` stays: no session lacks one.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let kept = self.parameters().filter(|(n, _)| *n == b"user" || *n != name.as_bytes());
        Self::new(self.version, kept).expect("a part of a checked message that keeps its user")
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut BytesMut) {
        let length =
            u32::try_from(PREFIX + self.body.len()).expect("checked by new and decode_first: at most 10004");
        out.reserve(length as usize);
        out.put_u32(length);
        out.put_u32(self.version.code());
        out.put_slice(&self.body);
    }
}

impl std::fmt::Debug for StartupMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parameters =
            self.parameters().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v)));
        write!(f, "StartupMessage({} ", self.version)?;
        f.debug_map().entries(parameters).finish()?;
        f.write_str(")")
    }
}

/// The parameters of a StartupMessage; see [`StartupMessage::parameters`].
#[derive(Clone, Debug)]
pub struct Parameters<'a>(&'a [u8]);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (parameter, rest) = split_parameter(self.0)?;
        self.0 = rest;
        Some(parameter)
    }
}

type Parameter<'a> = (&'a [u8], &'a [u8]);

/// The first name and value of a list, and what follows; `None` at its end or when cut short.
fn split_parameter(list: &[u8]) -> Option<(Parameter<'_>, &[u8])> {
    let (name, rest) = split_cstr(list)?;
    if name.is_empty() {
        return None;
    }
    let (value, rest) = split_cstr(rest)?;
    Some(((name, value), rest))
}

/// A name's first bytes, though a character may break.
/// Source: PostgreSQL 18, src/backend/tcop/backend_startup.c, `ProcessStartupPacket`; 17.0 to 17.2 do not cut.
fn cut(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_BYTES_MAX)]
}

fn split_cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&b| b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn parse_replication(value: &[u8]) -> Result<Replication, InvalidReplication> {
    if value == b"database" {
        return Ok(Replication::Logical);
    }
    match parse_bool(value) {
        Some(true) => Ok(Replication::Physical),
        Some(false) => Ok(Replication::No),
        None => Err(InvalidReplication),
    }
}

/// Source: PostgreSQL 18, src/backend/utils/adt/bool.c, `parse_bool_with_len`: any unambiguous
/// prefix of the words, in any case.
fn parse_bool(value: &[u8]) -> Option<bool> {
    let value = value.to_ascii_lowercase();
    let is = |word: &str, least: usize| value.len() >= least && word.as_bytes().starts_with(&value);
    if is("true", 1) || is("yes", 1) || is("on", 2) || is("1", 1) {
        Some(true)
    } else if is("false", 1) || is("no", 1) || is("off", 2) || is("0", 1) {
        Some(false)
    } else {
        None
    }
}
