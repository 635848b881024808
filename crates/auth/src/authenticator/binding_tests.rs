//! Logins that are bound to a TLS connection, as PostgreSQL takes and refuses them.

use trunkline_codec::auth::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use trunkline_codec::scram::{self, ChannelBinding, ClientExchange};

use super::*;
use crate::secrets::Unusable;

const END_POINT: &[u8] = &[7; 32];

fn bound_to(end_point: &[u8]) -> ChannelBinding {
    ChannelBinding::TlsServerEndPoint(end_point.into())
}

/// The data of the one authentication request in `out`.
fn taken(out: &mut BytesMut) -> Vec<u8> {
    out.split()[9..].to_vec()
}

/// What comes of a login with this password by a client that chooses this mechanism, whatever it is offered.
fn login(
    secret: Secret,
    end_point: Option<&[u8]>,
    (mechanism, binding): (&str, ChannelBinding),
    password: &str,
) -> Result<AuthStep, AuthenticationError> {
    let mut out = BytesMut::new();
    let step = Authenticator::start(ClientMethod::Auto, secret, b"alice", b"mock", end_point, &mut out)?;
    let AuthStep::Ask(asked) = step else { panic!("a proof is asked for") };
    taken(&mut out);
    let password = scram::Credentials::Password(password.as_bytes().to_vec().into());
    let mut client = ClientExchange::new(password, "fyko+d2lbbFgONRv9qkxdawL", binding);
    let first = client.client_first().expect("the first turn");
    let length = u32::try_from(first.len()).expect("short").to_be_bytes();
    let step = asked.handle(&[mechanism.as_bytes(), b"\0", &length, &first].concat(), &mut out)?;
    let AuthStep::Ask(asked) = step else { panic!("a proof is asked for") };
    let last = client.handle_server_first(&taken(&mut out)).expect("a server's first message");
    let step = asked.handle(&last, &mut out)?;
    if matches!(step, AuthStep::Proved(_)) {
        client.handle_server_final(&taken(&mut out)).expect("the server has proved itself, too");
    }
    Ok(step)
}

fn secret() -> Secret {
    Secret::Scram(Verifier::from_password(b"right", &[7; 16], 1).expect("legal iterations"))
}

#[test]
fn a_login_is_bound_if_both_can() {
    let (plus, plain) = (SCRAM_SHA_256_PLUS, SCRAM_SHA_256);
    for (end_point, client) in [
        (Some(END_POINT), (plus, bound_to(END_POINT))),
        // It cannot.
        (Some(END_POINT), (plain, ChannelBinding::Unsupported)),
        // It could, and was offered nothing.
        (None, (plain, ChannelBinding::Unused)),
        (None, (plain, ChannelBinding::Unsupported)),
    ] {
        let outcome = login(secret(), end_point, client.clone(), "right");
        assert!(matches!(outcome, Ok(AuthStep::Proved(_))), "{client:?}: {outcome:?}");
        let outcome = login(secret(), end_point, client.clone(), "wrong");
        assert!(matches!(outcome, Ok(AuthStep::Failed)), "{client:?}: {outcome:?}");
    }
}

#[test]
fn who_is_in_between_is_noticed() {
    for (client, error) in [
        ((SCRAM_SHA_256_PLUS, bound_to(&[8; 32])), BindingError::Different),
        ((SCRAM_SHA_256_PLUS, bound_to(b"")), BindingError::Different),
        ((SCRAM_SHA_256, ChannelBinding::Unused), BindingError::NotSeen),
    ] {
        for secret in [secret(), Secret::Unusable(Unusable::Unknown)] {
            match login(secret, Some(END_POINT), client.clone(), "right") {
                Err(AuthenticationError::Binding(seen)) => assert_eq!(seen, error, "{client:?}"),
                other => panic!("{client:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_message_that_does_not_fit_its_mechanism_is_a_breach_of_the_protocol() {
    for (end_point, client) in [
        (Some(END_POINT), (SCRAM_SHA_256_PLUS, ChannelBinding::Unsupported)),
        (Some(END_POINT), (SCRAM_SHA_256_PLUS, ChannelBinding::Unused)),
        (Some(END_POINT), (SCRAM_SHA_256, bound_to(END_POINT))),
        (Some(END_POINT), ("SCRAM-SHA-1-PLUS", bound_to(END_POINT))),
        (None, (SCRAM_SHA_256_PLUS, bound_to(END_POINT))),
        (None, (SCRAM_SHA_256, bound_to(END_POINT))),
    ] {
        let outcome = login(secret(), end_point, client.clone(), "right");
        assert!(matches!(outcome, Err(AuthenticationError::Protocol(_))), "{client:?}: {outcome:?}");
    }
}

#[test]
fn a_user_who_cannot_log_in_is_offered_the_same() {
    let offer = |secret| {
        let mut out = BytesMut::new();
        let step = Authenticator::start(ClientMethod::Auto, secret, b"x", b"mock", Some(END_POINT), &mut out);
        assert!(matches!(step, Ok(AuthStep::Ask(_))));
        out
    };
    assert_eq!(offer(secret()), offer(Secret::Unusable(Unusable::Unknown)));
    assert!(offer(secret()).ends_with(b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"));
    for password in ["right", ""] {
        let client = (SCRAM_SHA_256_PLUS, bound_to(END_POINT));
        let outcome = login(Secret::Unusable(Unusable::Expired), Some(END_POINT), client, password);
        assert!(matches!(outcome, Ok(AuthStep::Failed)), "{outcome:?}");
    }
}
