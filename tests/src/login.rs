//! How a raw client logs in.

use bytes::BytesMut;
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};

use crate::{ServerError, Wire};

/// Who logs in and with what; [`Login::default`] is the superuser of the cluster.
#[derive(Debug, Clone)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password, for any method that asks for one.
    pub password: String,
    /// Further startup parameters, the database among them.
    pub parameters: Vec<(String, String)>,
    /// The protocol version asked for.
    pub version: ProtocolVersion,
}

impl Default for Login {
    fn default() -> Self {
        Self::of("postgres", "postgres")
    }
}

impl Login {
    /// A login to `appdb`.
    #[must_use]
    pub fn of(user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            parameters: vec![("database".to_owned(), "appdb".to_owned())],
            version: ProtocolVersion::V3_0,
        }
    }

    /// With one more startup parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The startup packet.
    ///
    /// # Panics
    /// When it cannot be encoded, such as with NUL in a name.
    #[must_use]
    pub fn packet(&self) -> BytesMut {
        let user = std::iter::once(("user", self.user.as_str()));
        let others = self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all = user.chain(others).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let mut packet = BytesMut::new();
        StartupMessage::new(self.version, all).expect("the parameters are valid").encode(&mut packet);
        packet
    }

    /// A session, or the error it was refused with.
    ///
    /// # Errors
    /// What the server said, or how the connection ended.
    pub fn try_connect(&self, port: u16) -> Result<Wire, ServerError> {
        let mut wire = Wire::try_connect(port).map_err(|error| ServerError::ended(&error))?;
        std::io::Write::write_all(&mut wire.stream, &self.packet())
            .map_err(|error| ServerError::ended(&error))?;
        wire.finish_login(self)?;
        Ok(wire)
    }

    /// A session.
    ///
    /// # Panics
    /// When it is refused, with the reason.
    #[track_caller]
    #[must_use]
    pub fn connect(&self, port: u16) -> Wire {
        match self.try_connect(port) {
            Ok(wire) => wire,
            Err(error) => panic!("login as {}: {error:?}", self.user),
        }
    }
}
