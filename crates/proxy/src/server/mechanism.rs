//! Which SASL mechanism a server is answered with, and what the login is bound to: as libpq has it.
//!
//! Source: PostgreSQL, src/interfaces/libpq/fe-auth.c, `pg_SASL_init`; fe-auth-scram.c, `build_client_first_message`.

use trunkline_codec::auth::{Mechanisms, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use trunkline_codec::scram::ChannelBinding;
use trunkline_net::Transport;

use super::login::LoginError;

/// The mechanism for a server on this connection that offers these.
pub(super) fn choose(
    offered: Mechanisms<'_>,
    stream: &Transport,
) -> Result<(&'static str, ChannelBinding), LoginError> {
    let offers_plus = offered.contains(SCRAM_SHA_256_PLUS);
    if offers_plus && !stream.is_encrypted() {
        let message = "it offered SCRAM-SHA-256-PLUS over a connection without TLS";
        return Err(LoginError::Exchange(message.to_owned()));
    }
    let binding = match stream.end_point() {
        Some(end_point) if offers_plus => {
            let end_point = ChannelBinding::TlsServerEndPoint(end_point.as_bytes().into());
            return Ok((SCRAM_SHA_256_PLUS, end_point));
        }
        // A server that has offered it knows that somebody has taken the offer away.
        Some(_) => ChannelBinding::Unused,
        // Nothing to bind to: no TLS, or a certificate without a hash, where libpq gives up.
        None => ChannelBinding::Unsupported,
    };
    match offered.contains(SCRAM_SHA_256) {
        true => Ok((SCRAM_SHA_256, binding)),
        false => Err(LoginError::NoMeans { wanted: "a SASL mechanism other than SCRAM-SHA-256" }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use trunkline_auth::credentials::{ServerCredentials, ServerLeg};
    use trunkline_codec::auth::{Authentication, SaslInitialResponse};
    use trunkline_codec::backend::TransactionStatus;
    use trunkline_codec::scram::{ScramError, ServerExchange, Verifier};
    use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
    use trunkline_codec::write;
    use trunkline_net::memory;
    use trunkline_reactor::block_on;
    use trunkline_tls::testing;

    use super::*;
    use crate::client::messages::MessageReader;
    use crate::server::login::log_in;

    fn chosen(offered: &[&str], stream: &Transport) -> Result<(&'static str, ChannelBinding), LoginError> {
        let mut out = BytesMut::new();
        write::authentication_sasl(&mut out, offered).expect("it is short");
        match Authentication::parse(&out[5..]) {
            Ok(Authentication::Sasl(offered)) => choose(offered, stream),
            other => panic!("{other:?}"),
        }
    }

    /// A server's end and ours, over TLS.
    async fn ends() -> (Transport, Transport) {
        let (server, client) = memory::pair(10_000);
        let (mut server, mut client) = (Transport::Memory(server), Transport::Memory(client));
        let (of_server, of_client) = testing::records();
        let ends = tokio::join!(server.begin_tls(of_server, b""), client.begin_tls(of_client, b""));
        assert!(matches!(ends, (Ok(()), Ok(()))));
        (server, client)
    }

    #[test]
    fn a_login_is_bound_to_the_servers_certificate_where_the_server_can() {
        block_on(async {
            let (_server, client) = ends().await;
            let (mechanism, binding) = chosen(&[SCRAM_SHA_256_PLUS, SCRAM_SHA_256], &client).expect("it can");
            assert_eq!(mechanism, SCRAM_SHA_256_PLUS);
            let certificate = client.end_point().expect("it has shown one");
            assert_eq!(binding, ChannelBinding::TlsServerEndPoint(certificate.as_bytes().into()));
            let (mechanism, binding) = chosen(&[SCRAM_SHA_256], &client).expect("it can");
            assert_eq!((mechanism, binding), (SCRAM_SHA_256, ChannelBinding::Unused));
            assert!(matches!(chosen(&["OAUTHBEARER"], &client), Err(LoginError::NoMeans { .. })));
        })
        .expect("a thread of its own");
    }

    /// A server that takes only bound logins, to a certificate with this hash.
    async fn serve(mut stream: Transport, verifier: Verifier, end_point: &[u8]) -> Result<(), ScramError> {
        let mut packet = [0; 1000];
        let _startup = stream.read(&mut packet).await.expect("it writes");
        let mut out = BytesMut::new();
        write::authentication_sasl(&mut out, &[SCRAM_SHA_256_PLUS]).expect("it is short");
        stream.write_all(&out.split()).await.expect("it reads");
        let mut reader = MessageReader::frontend(BytesMut::new());
        let binding = ChannelBinding::TlsServerEndPoint(end_point.into());
        let mut exchange = ServerExchange::new(verifier, "nonce", binding);
        let message = reader.next(&mut stream).await.expect("it answers");
        let response = SaslInitialResponse::parse(message.body()).expect("it is one");
        assert_eq!(response.mechanism, SCRAM_SHA_256_PLUS.as_bytes());
        let first = exchange.handle_client_first(response.data.expect("it is there"))?;
        write::authentication_sasl_continue(&mut out, &first).expect("it is short");
        stream.write_all(&out.split()).await.expect("it reads");
        let message = reader.next(&mut stream).await.expect("it answers");
        let (last, _key) = exchange.handle_client_final(message.body())?;
        write::authentication_sasl_final(&mut out, &last).expect("it is short");
        write::authentication_ok(&mut out);
        write::ready_for_query(&mut out, TransactionStatus::Idle);
        stream.write_all(&out).await.expect("it reads");
        Ok(())
    }

    #[test]
    fn a_recovered_key_logs_in_where_only_bound_logins_are_taken() {
        let verifier = Verifier::from_password(b"secret", &[7; 16], 4096).expect("legal iterations");
        let client_key = verifier.check_password(b"secret").expect("it is right");
        let credentials = ServerCredentials::from_scram(client_key, verifier.server_key().clone());
        let user = [(&b"user"[..], &b"app"[..])];
        let startup = StartupMessage::new(ProtocolVersion::V3_0, user).expect("it is short");
        block_on(async {
            let (server, mut client) = ends().await;
            let end_point = client.end_point().expect("it has shown one");
            let serving = serve(server, verifier.clone(), end_point.as_bytes());
            let (served, reply) =
                tokio::join!(serving, log_in(&mut client, &startup, &credentials, ServerLeg::Exposed));
            assert_eq!(served, Ok(()));
            assert!(reply.is_ok(), "{reply:?}");

            let (server, mut client) = ends().await;
            let serving = serve(server, verifier, b"of another");
            let (served, reply) =
                tokio::join!(serving, log_in(&mut client, &startup, &credentials, ServerLeg::Exposed));
            assert_eq!(served, Err(ScramError::ChannelBinding), "somebody is in between");
            assert!(reply.is_err(), "{reply:?}");
        })
        .expect("a thread of its own");
    }

    #[test]
    fn nothing_is_bound_without_tls_and_a_server_that_offers_it_there_is_not_believed() {
        let (_server, client) = memory::pair(1000);
        let client = Transport::Memory(client);
        let (mechanism, binding) = chosen(&[SCRAM_SHA_256], &client).expect("it can");
        assert_eq!((mechanism, binding), (SCRAM_SHA_256, ChannelBinding::Unsupported));
        for offered in [&[SCRAM_SHA_256_PLUS, SCRAM_SHA_256][..], &[SCRAM_SHA_256_PLUS]] {
            let refused = chosen(offered, &client);
            assert!(matches!(refused, Err(LoginError::Exchange(_))), "{refused:?}");
        }
    }
}
