//! The login of a client.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use trunkline_codec::auth::{self, Authentication};
use trunkline_codec::scram::{ChannelBinding, ClientExchange, Credentials};
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_codec::write;

use crate::dsn::Dsn;

/// The startup packet of protocol 3.0.
///
/// # Errors
/// A parameter with a NUL in it, or too many of them.
pub fn startup_packet(dsn: &Dsn, parameters: &[(String, String)]) -> io::Result<BytesMut> {
    let own = [("user", dsn.user.as_str()), ("database", dsn.database.as_str())];
    let others = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let all = own.into_iter().chain(others).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let message = StartupMessage::new(ProtocolVersion::V3_0, all).map_err(io::Error::other)?;
    let mut packet = BytesMut::new();
    message.encode(&mut packet);
    Ok(packet)
}

/// What a client answers to what authentication asks.
#[derive(Debug, Default)]
pub struct LoginExchange {
    scram: Option<ClientExchange>,
}

impl LoginExchange {
    /// The bytes that answer an authentication request; none where it asks for nothing.
    ///
    /// # Errors
    /// A request that is malformed, of a method not known here, or of a server that does not know the password.
    pub fn answer(&mut self, body: &[u8], dsn: &Dsn) -> io::Result<BytesMut> {
        let password = dsn.password.as_bytes();
        let mut out = BytesMut::new();
        match Authentication::parse(body).map_err(io::Error::other)? {
            Authentication::CleartextPassword => {
                write::password(&mut out, password).map_err(io::Error::other)?;
            }
            Authentication::Md5Password { salt } => {
                let answer = auth::md5_password(dsn.user.as_bytes(), password, salt);
                write::password(&mut out, answer.as_bytes()).map_err(io::Error::other)?;
            }
            Authentication::Sasl(_) => {
                let credentials = Credentials::Password(password.to_vec().into());
                let exchange = ClientExchange::new(credentials, &nonce(), ChannelBinding::Unsupported);
                let first = self.scram.insert(exchange).client_first().map_err(io::Error::other)?;
                write::sasl_initial_response(&mut out, b"SCRAM-SHA-256", Some(&first))
                    .map_err(io::Error::other)?;
            }
            Authentication::SaslContinue(data) => {
                let last = self.exchange()?.handle_server_first(data).map_err(io::Error::other)?;
                write::sasl_response(&mut out, &last).map_err(io::Error::other)?;
            }
            Authentication::SaslFinal(data) => {
                self.exchange()?.handle_server_final(data).map_err(io::Error::other)?;
            }
            Authentication::Ok => {}
            other => return Err(io::Error::other(format!("{other:?} is no method spoken here"))),
        }
        Ok(out)
    }

    fn exchange(&mut self) -> io::Result<&mut ClientExchange> {
        self.scram.as_mut().ok_or_else(|| io::Error::other("SASL goes on that has not begun"))
    }
}

/// Unique, which is all that a test client needs of it.
fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("torture{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
