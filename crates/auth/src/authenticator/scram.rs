//! The SCRAM-SHA-256 exchange, bound to the client's TLS connection if the client can (SCRAM-SHA-256-PLUS).

use bytes::BytesMut;
use trunkline_codec::auth::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS, SaslInitialResponse};
use trunkline_codec::scram::{ChannelBinding, ScramError, ServerExchange, ServerKey, Verifier};
use trunkline_codec::write;
use zeroize::Zeroizing;

use super::{AuthExchange, AuthStep, AuthenticationError, Authenticator};
use crate::credentials::ServerCredentials;
use crate::nonce;

/// An exchange under way.
#[derive(Debug)]
pub(super) struct Scram {
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
#[derive(Debug)]
enum ExpectedMessage {
    /// The choice of a mechanism, with or without the client-first-message.
    Mechanism { verifier: Verifier, nonce: String, end_point: Option<Box<[u8]>> },
    /// The client-first-message, of a client that left it for the next round.
    First(ServerExchange),
    /// The client-final-message.
    Final(ServerExchange),
}

impl Scram {
    /// `end_point` is what the login can be bound to.
    pub(super) fn start(
        verifier: Verifier,
        yields: ScramOutcome,
        end_point: Option<&[u8]>,
        out: &mut BytesMut,
    ) -> Result<AuthStep, AuthenticationError> {
        let nonce = nonce().map_err(AuthenticationError::Random)?;
        let server_key = verifier.server_key().clone();
        // In this order, the better one first. Source: PostgreSQL, src/backend/libpq/auth-scram.c, `scram_get_mechanisms`.
        let mechanisms: &[&str] = match end_point {
            Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
            None => &[SCRAM_SHA_256],
        };
        write::authentication_sasl(out, mechanisms).map_err(AuthenticationError::protocol)?;
        let awaits = ExpectedMessage::Mechanism { verifier, nonce, end_point: end_point.map(Box::from) };
        Ok(Scram { server_key, yields, awaits }.ask())
    }

    fn ask(self) -> AuthStep {
        AuthStep::Ask(Authenticator(AuthExchange::Scram(Box::new(self))))
    }

    pub(super) fn handle(self, body: &[u8], out: &mut BytesMut) -> Result<AuthStep, AuthenticationError> {
        let Scram { server_key, yields, awaits } = self;
        let awaits = match awaits {
            ExpectedMessage::Mechanism { verifier, nonce, end_point } => {
                let (binding, first) = initial_response(body, end_point)?;
                let exchange = ServerExchange::new(verifier, &nonce, binding);
                match first {
                    Some(first) => client_first(exchange, &first, out)?,
                    None => {
                        write::authentication_sasl_continue(out, b"")
                            .map_err(AuthenticationError::protocol)?;
                        ExpectedMessage::First(exchange)
                    }
                }
            }
            ExpectedMessage::First(exchange) => client_first(exchange, body, out)?,
            ExpectedMessage::Final(exchange) => return client_final(exchange, server_key, yields, body, out),
        };
        Ok(Scram { server_key, yields, awaits }.ask())
    }
}

fn client_first(
    mut exchange: ServerExchange,
    message: &[u8],
    out: &mut BytesMut,
) -> Result<ExpectedMessage, AuthenticationError> {
    let answer = exchange.handle_client_first(message).map_err(AuthenticationError::of_scram)?;
    write::authentication_sasl_continue(out, &answer).map_err(AuthenticationError::protocol)?;
    Ok(ExpectedMessage::Final(exchange))
}

fn client_final(
    mut exchange: ServerExchange,
    server_key: ServerKey,
    yields: ScramOutcome,
    message: &[u8],
    out: &mut BytesMut,
) -> Result<AuthStep, AuthenticationError> {
    let (answer, client_key) = match exchange.handle_client_final(message) {
        Ok(proved) => proved,
        Err(ScramError::AuthenticationFailed) => return Ok(AuthStep::Failed),
        Err(error) => return Err(AuthenticationError::of_scram(error)),
    };
    let credentials = match yields {
        ScramOutcome::Keys => ServerCredentials::from_scram(client_key, server_key),
        ScramOutcome::These(credentials) => credentials,
        ScramOutcome::Nothing => return Ok(AuthStep::Failed),
    };
    write::authentication_sasl_final(out, &answer).map_err(AuthenticationError::protocol)?;
    Ok(AuthStep::Proved(credentials))
}

/// The client-first-message within a SASLInitialResponse, if it is there already.
type FirstMessage = Option<Zeroizing<Vec<u8>>>;

/// What the mechanism that a client chose binds to, of what was offered.
fn initial_response(
    body: &[u8],
    end_point: Option<Box<[u8]>>,
) -> Result<(ChannelBinding, FirstMessage), AuthenticationError> {
    let response = SaslInitialResponse::parse(body).map_err(AuthenticationError::protocol)?;
    let is_plus = response.mechanism == SCRAM_SHA_256_PLUS.as_bytes();
    let binding = match end_point {
        Some(end_point) if is_plus => ChannelBinding::TlsServerEndPoint(end_point),
        Some(_) if response.mechanism == SCRAM_SHA_256.as_bytes() => ChannelBinding::Unused,
        None if response.mechanism == SCRAM_SHA_256.as_bytes() => ChannelBinding::Unsupported,
        Some(_) | None => {
            let message = "client selected an invalid SASL authentication mechanism";
            return Err(AuthenticationError::protocol(message));
        }
    };
    Ok((binding, response.data.map(|data| Zeroizing::new(data.to_vec()))))
}
