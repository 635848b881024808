//! The SCRAM-SHA-256 exchange.

use bytes::BytesMut;
use trunkline_codec::auth::{SCRAM_SHA_256, SaslInitialResponse};
use trunkline_codec::scram::{ChannelBinding, ScramError, ServerExchange, ServerKey, Verifier};
use trunkline_codec::write;
use zeroize::Zeroizing;

use super::{AuthExchange, AuthStep, AuthenticationError, Authenticator};
use crate::credentials::ServerCredentials;
use crate::nonce;

/// An exchange under way.
#[derive(Debug)]
pub(super) struct Scram {
    exchange: ServerExchange,
    server_key: ServerKey,
    yields: ScramOutcome,
    awaits: ExpectedMessage,
}

/// What a successful exchange yields for logins on servers.
#[derive(Debug)]
pub(super) enum ScramOutcome {
    /// The keys that the proof reveals.
    Keys,
    /// These.
    These(ServerCredentials),
    /// No proof is right.
    Nothing,
}

/// The client's next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExpectedMessage {
    /// The choice of a mechanism, with or without the client-first-message.
    Mechanism,
    /// The client-first-message, of a client that left it for the next round.
    First,
    /// The client-final-message.
    Final,
}

impl Scram {
    pub(super) fn start(
        verifier: Verifier,
        yields: ScramOutcome,
        out: &mut BytesMut,
    ) -> Result<AuthStep, AuthenticationError> {
        let nonce = nonce().map_err(AuthenticationError::Random)?;
        let server_key = verifier.server_key().clone();
        let exchange = ServerExchange::new(verifier, &nonce, ChannelBinding::Unsupported);
        write::authentication_sasl(out, &[SCRAM_SHA_256]).map_err(AuthenticationError::protocol)?;
        let scram = Scram { exchange, server_key, yields, awaits: ExpectedMessage::Mechanism };
        Ok(Box::new(scram).ask(ExpectedMessage::Mechanism))
    }

    fn ask(mut self: Box<Self>, awaits: ExpectedMessage) -> AuthStep {
        self.awaits = awaits;
        AuthStep::Ask(Authenticator(AuthExchange::Scram(self)))
    }

    pub(super) fn handle(
        self: Box<Self>,
        body: &[u8],
        out: &mut BytesMut,
    ) -> Result<AuthStep, AuthenticationError> {
        match self.awaits {
            ExpectedMessage::Mechanism => match initial_response(body)? {
                Some(first) => self.client_first(&first, out),
                None => {
                    write::authentication_sasl_continue(out, b"").map_err(AuthenticationError::protocol)?;
                    Ok(self.ask(ExpectedMessage::First))
                }
            },
            ExpectedMessage::First => self.client_first(body, out),
            ExpectedMessage::Final => self.client_final(body, out),
        }
    }

    fn client_first(
        mut self: Box<Self>,
        message: &[u8],
        out: &mut BytesMut,
    ) -> Result<AuthStep, AuthenticationError> {
        let answer = self.exchange.handle_client_first(message).map_err(AuthenticationError::protocol)?;
        write::authentication_sasl_continue(out, &answer).map_err(AuthenticationError::protocol)?;
        Ok(self.ask(ExpectedMessage::Final))
    }

    fn client_final(
        mut self: Box<Self>,
        message: &[u8],
        out: &mut BytesMut,
    ) -> Result<AuthStep, AuthenticationError> {
        let (answer, client_key) = match self.exchange.handle_client_final(message) {
            Ok(proved) => proved,
            Err(ScramError::AuthenticationFailed) => return Ok(AuthStep::Failed),
            Err(error) => return Err(AuthenticationError::protocol(error)),
        };
        let credentials = match self.yields {
            ScramOutcome::Keys => ServerCredentials::from_scram(client_key, self.server_key),
            ScramOutcome::These(credentials) => credentials,
            ScramOutcome::Nothing => return Ok(AuthStep::Failed),
        };
        write::authentication_sasl_final(out, &answer).map_err(AuthenticationError::protocol)?;
        Ok(AuthStep::Proved(credentials))
    }
}

/// The client-first-message within a SASLInitialResponse, if it is there already.
fn initial_response(body: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, AuthenticationError> {
    let response = SaslInitialResponse::parse(body).map_err(AuthenticationError::protocol)?;
    if response.mechanism != SCRAM_SHA_256.as_bytes() {
        let message = "client selected an invalid SASL authentication mechanism";
        return Err(AuthenticationError::protocol(message));
    }
    Ok(response.data.map(|data| Zeroizing::new(data.to_vec())))
}
