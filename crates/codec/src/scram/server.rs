//! The side that checks a password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq;

use super::keys::{ClientKey, xor};
use super::message::{BindingFlag, ClientFinal, ClientFirst};
use super::verifier::Verifier;
use super::{ChannelBinding, ScramError};

/// Bytes of a server's first message without the nonce: a salt of 16 bytes, as PostgreSQL makes them, and the iterations.
const SERVER_FIRST_BYTES: usize = 48;

/// Bytes of its last: a signature in base64.
const SERVER_FINAL_BYTES: usize = 46;

/// A server's side of one exchange.
///
/// ```text
/// Start --client-first--> AwaitingFinal --client-final--> Over
///   any failure ------------------------------------------^
/// ```
pub struct ServerExchange {
    verifier: Verifier,
    channel_binding: ChannelBinding,
    state: ServerExchangeState,
}

enum ServerExchangeState {
    Start { server_nonce: String },
    AwaitingFinal { flag: BindingFlag, client_first_bare: String, server_first: String, nonce: String },
    Over,
}

impl ServerExchange {
    /// An exchange with a client that claims to know the password behind `verifier`.
    ///
    /// `server_nonce` must be new and random for each exchange: at least 18 bytes, in base64 as
    /// PostgreSQL has it, or other printable characters without a comma.
    #[must_use]
    pub fn new(verifier: Verifier, server_nonce: &str, channel_binding: ChannelBinding) -> Self {
        debug_assert!(!server_nonce.is_empty(), "an exchange without a nonce can be replayed");
        let state = ServerExchangeState::Start { server_nonce: server_nonce.to_owned() };
        Self { verifier, channel_binding, state }
    }

    /// Takes the client's first message and returns the server's.
    ///
    /// # Errors
    /// When the client's message is malformed, wants what PostgreSQL does not support, or does not
    /// fit the mechanism chosen.
    pub fn handle_client_first(&mut self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let ServerExchangeState::Start { server_nonce } =
            std::mem::replace(&mut self.state, ServerExchangeState::Over)
        else {
            return Err(ScramError::OutOfTurn);
        };
        let first = ClientFirst::parse(message)?;
        check_flag(first.flag, &self.channel_binding)?;
        let nonce = [first.nonce, &server_nonce].concat();
        let mut server_first = String::with_capacity(SERVER_FIRST_BYTES + nonce.len());
        server_first.extend(["r=", &nonce, ",s="]);
        BASE64.encode_string(&self.verifier.salt, &mut server_first);
        server_first.extend([",i=", &self.verifier.iterations.to_string()]);
        let reply = server_first.clone().into_bytes();
        self.state = ServerExchangeState::AwaitingFinal {
            flag: first.flag,
            client_first_bare: first.bare.to_owned(),
            server_first,
            nonce,
        };
        Ok(reply)
    }

    /// Takes the client's last message and returns the server's, with the key the client has
    /// proved to know.
    ///
    /// # Errors
    /// `AuthenticationFailed` when the proof is wrong or the verifier a mock; others when the
    /// message is malformed or belongs to another exchange.
    pub fn handle_client_final(&mut self, message: &[u8]) -> Result<(Vec<u8>, ClientKey), ScramError> {
        let ServerExchangeState::AwaitingFinal { flag, client_first_bare, server_first, nonce } =
            std::mem::replace(&mut self.state, ServerExchangeState::Over)
        else {
            return Err(ScramError::OutOfTurn);
        };
        let last = ClientFinal::parse(message)?;
        self.check_binding(flag, last.binding)?;
        if !bool::from(last.nonce.as_bytes().ct_eq(nonce.as_bytes())) {
            return Err(ScramError::NonceMismatch);
        }
        let auth_message = [&client_first_bare, &server_first, last.without_proof].join(",");
        let auth_message = auth_message.as_bytes();
        // Whoever made the proof knows ClientKey; H(ClientKey) is what the verifier keeps.
        let client_signature = self.verifier.stored_key.client_signature(auth_message);
        let client_key = ClientKey::new(xor(&last.proof, &client_signature));
        let mut answer = String::with_capacity(SERVER_FINAL_BYTES);
        answer.push_str("v=");
        BASE64.encode_string(self.verifier.server_key.signature(auth_message), &mut answer);
        // Last, so that the time taken does not tell a mock verifier from a wrong password.
        if !self.verifier.accepts(&client_key) {
            return Err(ScramError::AuthenticationFailed);
        }
        Ok((answer.into_bytes(), client_key))
    }

    /// Whether the client's last message binds to the TLS session its first one announced.
    fn check_binding(&self, flag: BindingFlag, binding: &str) -> Result<(), ScramError> {
        let mut expected = flag.gs2_header().as_bytes().to_vec();
        if let ChannelBinding::TlsServerEndPoint(hash) = &self.channel_binding {
            expected.extend_from_slice(hash);
        }
        if BASE64.encode(expected).as_bytes().ct_eq(binding.as_bytes()).into() {
            return Ok(());
        }
        Err(match flag {
            BindingFlag::TlsServerEndPoint => ScramError::ChannelBinding,
            BindingFlag::Unsupported | BindingFlag::Unused => {
                ScramError::Malformed("unexpected SCRAM channel-binding attribute in client-final-message")
            }
        })
    }
}

/// Source: PostgreSQL 18, src/backend/libpq/auth-scram.c, `read_client_first_message`.
fn check_flag(flag: BindingFlag, binding: &ChannelBinding) -> Result<(), ScramError> {
    match (flag, binding) {
        (BindingFlag::TlsServerEndPoint, ChannelBinding::TlsServerEndPoint(_))
        | (BindingFlag::Unsupported, ChannelBinding::Unsupported | ChannelBinding::Unused)
        | (BindingFlag::Unused, ChannelBinding::Unsupported) => Ok(()),
        // We offered it, the client could, and yet it did not see the offer.
        (BindingFlag::Unused, ChannelBinding::Unused) => Err(ScramError::ChannelBindingNegotiation),
        (BindingFlag::Unsupported | BindingFlag::Unused, ChannelBinding::TlsServerEndPoint(_)) => {
            Err(ScramError::Malformed("client selected SCRAM-SHA-256-PLUS, but sent no channel binding data"))
        }
        (BindingFlag::TlsServerEndPoint, ChannelBinding::Unsupported | ChannelBinding::Unused) => {
            Err(ScramError::Malformed("client selected SCRAM-SHA-256, but sent channel binding data"))
        }
    }
}

impl std::fmt::Debug for ServerExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            ServerExchangeState::Start { .. } => "start",
            ServerExchangeState::AwaitingFinal { .. } => "awaiting client-final",
            ServerExchangeState::Over => "over",
        };
        write!(f, "ServerExchange({state})")
    }
}
