//! The side that has a password, or a key recovered from someone who has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::keys::{ClientKey, ServerKey, derive, xor};
use super::message::{BindingFlag, ServerFinal, ServerFirst};
use super::{ChannelBinding, ScramError};

/// What a client logs in with.
#[derive(Clone)]
pub enum Credentials {
    /// The password. To derive the keys takes milliseconds.
    Password(Zeroizing<Vec<u8>>),
    /// The keys themselves, for a server that keeps the very verifier they belong to.
    ClientKey {
        /// To prove ourselves with.
        client_key: ClientKey,
        /// To check the server with.
        server_key: ServerKey,
    },
}

/// A client's side of one exchange.
///
/// ```text
/// Start --client-first--> AwaitingFirst --server-first--> AwaitingFinal --server-final--> Proved
///   any failure ------------------------------------------------------------------------> Over
/// ```
pub struct ClientExchange {
    credentials: Credentials,
    nonce: String,
    /// Empty, as libpq has it: the server takes the name from the startup packet.
    user: &'static str,
    channel_binding: ChannelBinding,
    state: ClientExchangeState,
}

enum ClientExchangeState {
    Start,
    AwaitingFirst,
    AwaitingFinal { client_key: ClientKey, server_key: ServerKey, auth_message: String },
    Proved { client_key: ClientKey, server_key: ServerKey },
    Over,
}

impl ClientExchange {
    /// An exchange with a server.
    ///
    /// `nonce` must be new and random for each exchange: at least 18 bytes, in base64 as libpq has
    /// it, or other printable characters without a comma.
    #[must_use]
    pub fn new(credentials: Credentials, nonce: &str, channel_binding: ChannelBinding) -> Self {
        debug_assert!(!nonce.is_empty(), "an exchange without a nonce can be replayed");
        Self {
            credentials,
            nonce: nonce.to_owned(),
            user: "",
            channel_binding,
            state: ClientExchangeState::Start,
        }
    }

    /// The client's first message.
    ///
    /// # Errors
    /// When it was asked for before.
    pub fn client_first(&mut self) -> Result<Vec<u8>, ScramError> {
        let ClientExchangeState::Start = std::mem::replace(&mut self.state, ClientExchangeState::Over) else {
            return Err(ScramError::OutOfTurn);
        };
        self.state = ClientExchangeState::AwaitingFirst;
        Ok(format!("{}{}", self.flag().gs2_header(), self.client_first_bare()).into_bytes())
    }

    /// Takes the server's first message and returns the client's last. With a password this takes
    /// milliseconds.
    ///
    /// # Errors
    /// When the server's message is malformed, does not extend our nonce, or wants too many
    /// iterations.
    pub fn handle_server_first(&mut self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let ClientExchangeState::AwaitingFirst =
            std::mem::replace(&mut self.state, ClientExchangeState::Over)
        else {
            return Err(ScramError::OutOfTurn);
        };
        let first = ServerFirst::parse(message)?;
        let extension = first.nonce.strip_prefix(self.nonce.as_str()).unwrap_or_default();
        if extension.is_empty() {
            return Err(ScramError::NonceMismatch);
        }
        let (client_key, server_key) = self.keys(&first)?;
        let without_proof = format!("c={},r={}", BASE64.encode(self.binding_data()), first.nonce);
        let server_first = std::str::from_utf8(message).expect("checked by ServerFirst::parse: UTF-8");
        let auth_message = format!("{},{server_first},{without_proof}", self.client_first_bare());
        let signature = client_key.stored_key().client_signature(auth_message.as_bytes());
        let proof = BASE64.encode(xor(client_key.as_bytes(), &signature));
        self.state = ClientExchangeState::AwaitingFinal { client_key, server_key, auth_message };
        Ok(format!("{without_proof},p={proof}").into_bytes())
    }

    /// Takes the server's last message and checks that the server knows the verifier.
    ///
    /// # Errors
    /// `RefusedByServer` when our proof was wrong; `ServerSignature` when its own is.
    pub fn handle_server_final(&mut self, message: &[u8]) -> Result<(), ScramError> {
        let ClientExchangeState::AwaitingFinal { client_key, server_key, auth_message } =
            std::mem::replace(&mut self.state, ClientExchangeState::Over)
        else {
            return Err(ScramError::OutOfTurn);
        };
        let last = ServerFinal::parse(message)?;
        let expected = server_key.signature(auth_message.as_bytes());
        if !bool::from(expected.ct_eq(&last.signature)) {
            return Err(ScramError::ServerSignature);
        }
        self.state = ClientExchangeState::Proved { client_key, server_key };
        Ok(())
    }

    /// The keys that this exchange has proved, for the next one with a server that keeps the same verifier; `None`
    /// unless both sides have proved themselves.
    #[must_use]
    pub fn into_keys(self) -> Option<(ClientKey, ServerKey)> {
        match self.state {
            ClientExchangeState::Proved { client_key, server_key } => Some((client_key, server_key)),
            ClientExchangeState::Start
            | ClientExchangeState::AwaitingFirst
            | ClientExchangeState::AwaitingFinal { .. }
            | ClientExchangeState::Over => None,
        }
    }

    fn keys(&self, first: &ServerFirst<'_>) -> Result<(ClientKey, ServerKey), ScramError> {
        match &self.credentials {
            Credentials::Password(password) => derive(password, &first.salt, first.iterations),
            Credentials::ClientKey { client_key, server_key } => Ok((client_key.clone(), server_key.clone())),
        }
    }

    fn client_first_bare(&self) -> String {
        format!("n={},r={}", self.user, self.nonce)
    }

    fn flag(&self) -> BindingFlag {
        match self.channel_binding {
            ChannelBinding::Unsupported => BindingFlag::Unsupported,
            ChannelBinding::Unused => BindingFlag::Unused,
            ChannelBinding::TlsServerEndPoint(_) => BindingFlag::TlsServerEndPoint,
        }
    }

    /// What the last message binds to: the header of the first, and the certificate's hash.
    fn binding_data(&self) -> Vec<u8> {
        let mut data = self.flag().gs2_header().as_bytes().to_vec();
        if let ChannelBinding::TlsServerEndPoint(hash) = &self.channel_binding {
            data.extend_from_slice(hash);
        }
        data
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(..)",
            Self::ClientKey { .. } => "ClientKey(..)",
        })
    }
}

impl std::fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            ClientExchangeState::Start => "start",
            ClientExchangeState::AwaitingFirst => "awaiting server-first",
            ClientExchangeState::AwaitingFinal { .. } => "awaiting server-final",
            ClientExchangeState::Proved { .. } => "proved",
            ClientExchangeState::Over => "over",
        };
        write!(f, "ClientExchange({state})")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ServerExchange, Verifier};
    use super::*;

    #[test]
    fn the_client_speaks_the_example_of_rfc_7677() {
        let password = Credentials::Password(Zeroizing::new(b"pencil".to_vec()));
        let mut client = ClientExchange::new(password, "rOprNGfwEbeRWgbNEkqO", ChannelBinding::Unsupported);
        client.user = "user";
        assert_eq!(client.client_first(), Ok(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO".to_vec()));
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server_first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let client_final = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(client.handle_server_first(server_first.as_bytes()), Ok(client_final.into_bytes()));
        let server_final = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(client.handle_server_final(server_final), Ok(()));
        assert!(client.into_keys().is_some());
    }

    #[test]
    fn keys_of_an_exchange_are_given_once_both_sides_have_proved_themselves() {
        let verifier = Verifier::from_password(b"pencil", b"0123456789abcdef", 4096).expect("few iterations");
        let password = Credentials::Password(Zeroizing::new(b"pencil".to_vec()));
        let mut server = ServerExchange::new(verifier.clone(), "theirs", ChannelBinding::Unsupported);
        let run = |server: &mut ServerExchange, credentials, spoils: bool| {
            let mut client = ClientExchange::new(credentials, "ours", ChannelBinding::Unsupported);
            let first = server.handle_client_first(&client.client_first().expect("it begins"));
            let last = client.handle_server_first(&first.expect("it is well-formed")).expect("so is this");
            let (mut signature, _) = server.handle_client_final(&last).expect("the password is right");
            if spoils {
                signature[2] ^= 1;
            }
            let _may_fail = client.handle_server_final(&signature);
            client.into_keys()
        };
        let (client_key, server_key) =
            run(&mut server, password.clone(), false).expect("both have proved it");
        let mut again = ServerExchange::new(verifier.clone(), "theirs", ChannelBinding::Unsupported);
        assert!(run(&mut again, Credentials::ClientKey { client_key, server_key }, false).is_some());
        let mut spoilt = ServerExchange::new(verifier, "theirs", ChannelBinding::Unsupported);
        assert!(run(&mut spoilt, password, true).is_none());
    }
}
