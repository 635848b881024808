//! Each method with the right proof, a wrong one, and for a user who cannot log in.

use std::time::{Duration, Instant};

use trunkline_codec::auth::md5_password;
use trunkline_codec::scram::{self, ClientExchange};

use super::*;
use crate::credentials::{PasswordAnswer, ServerLeg};
use crate::secrets::Unusable;

const USER: &[u8] = b"alice";
const RIGHT: &str = "right";

fn verifier() -> Verifier {
    Verifier::from_password(RIGHT.as_bytes(), &[7; 16], 4096).expect("legal iterations")
}

/// The body of the only message in `out`, its kind and length left out.
fn taken(out: &mut BytesMut) -> Vec<u8> {
    let message = out.split();
    assert_eq!(message[0], b'R');
    let length = u32::from_be_bytes(message[1..5].try_into().expect("four bytes"));
    assert_eq!(message.len(), 1 + length as usize, "one message");
    message[9..].to_vec()
}

fn answered(step: AuthStep, body: &[u8], out: &mut BytesMut) -> Result<AuthStep, AuthenticationError> {
    match step {
        AuthStep::Ask(authenticator) => authenticator.handle(body, out),
        other => panic!("nothing is asked: {other:?}"),
    }
}

/// Whether a client with this password is let in, by whatever it is asked for.
fn is_let_in(method: ClientMethod, secret: Secret, password: &str, first: First) -> bool {
    let mut out = BytesMut::new();
    let step = Authenticator::start(method, secret, USER, b"mock", None, &mut out).expect("random bytes");
    let step = match (method, &step) {
        (_, AuthStep::Ask(Authenticator(AuthExchange::Md5 { salt, .. }))) => {
            let answer = md5_password(USER, password.as_bytes(), *salt) + "\0";
            answered(step, answer.as_bytes(), &mut out)
        }
        (_, AuthStep::Ask(Authenticator(AuthExchange::Password { .. }))) => {
            match answered(step, format!("{password}\0").as_bytes(), &mut out) {
                Ok(AuthStep::Check(check)) => Ok(check.run()),
                other => panic!("a password is checked: {other:?}"),
            }
        }
        (_, AuthStep::Ask(Authenticator(AuthExchange::Scram(_)))) => {
            by_scram(step, password, first, &mut out)
        }
        (_, AuthStep::Proved(_) | AuthStep::Failed | AuthStep::Check(_)) => Ok(step),
    };
    match step.expect("the client keeps to the protocol") {
        AuthStep::Proved(_) => true,
        AuthStep::Failed => false,
        other => panic!("the exchange has no end: {other:?}"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    WithTheMechanism,
    InTheNextRound,
}

fn by_scram(
    mut step: AuthStep,
    password: &str,
    first: First,
    out: &mut BytesMut,
) -> Result<AuthStep, AuthenticationError> {
    taken(out);
    let password = scram::Credentials::Password(password.as_bytes().to_vec().into());
    let mut client = ClientExchange::new(
        password,
        "fyko+d2lbbFgONRv9qkxdawL",
        trunkline_codec::scram::ChannelBinding::Unsupported,
    );
    let message = client.client_first().expect("the first turn");
    let message: &[u8] = message.as_ref();
    if first == First::WithTheMechanism {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        step = answered(step, &[b"SCRAM-SHA-256\0", &length[..], message].concat(), out)?;
    } else {
        step = answered(step, b"SCRAM-SHA-256\0\xff\xff\xff\xff", out)?;
        assert!(taken(out).is_empty(), "it is asked for its first message");
        step = answered(step, message, out)?;
    }
    let last = client.handle_server_first(&taken(out)).expect("a server's first message");
    step = answered(step, last.as_ref(), out)?;
    if matches!(step, AuthStep::Proved(_)) {
        client.handle_server_final(&taken(out)).expect("the server has proved itself, too");
    }
    Ok(step)
}

#[test]
fn the_right_password_is_let_in_by_every_method_and_a_wrong_one_by_none() {
    let secrets = || {
        [
            Secret::Scram(verifier()),
            Secret::Md5(md5_stored(USER, RIGHT.as_bytes()).into()),
            Secret::Password { password: RIGHT.to_owned().into(), verifier: verifier() },
        ]
    };
    for method in [ClientMethod::Auto, ClientMethod::Password] {
        for first in [First::WithTheMechanism, First::InTheNextRound] {
            for secret in secrets() {
                let shown = format!("{method:?} {secret:?} {first:?}");
                assert!(is_let_in(method, secret.clone(), RIGHT, first), "{shown}");
                assert!(!is_let_in(method, secret, "wrong", first), "{shown}");
            }
        }
    }
}

/// The least time that it takes to refuse a password.
fn time_of_refusal(secret: &Secret) -> Duration {
    let once = || {
        let check =
            PasswordCheck { secret: secret.clone(), user: USER.into(), given: "wrong".to_owned().into() };
        let began = Instant::now();
        assert!(matches!(check.run(), AuthStep::Failed));
        began.elapsed()
    };
    (0..5).map(|_| once()).min().expect("it is refused five times")
}

#[test]
fn no_kind_of_secret_is_told_from_none_by_the_time_of_a_refusal() {
    let of_nobody = time_of_refusal(&Secret::Unusable(Unusable::Unknown));
    let password = Secret::Password { password: RIGHT.to_owned().into(), verifier: verifier() };
    for secret in
        [Secret::Scram(verifier()), Secret::Md5(md5_stored(USER, RIGHT.as_bytes()).into()), password]
    {
        let took = time_of_refusal(&secret);
        // A comparison alone takes less than a hundredth.
        assert!(took * 5 > of_nobody && took < of_nobody * 5, "{secret:?}: {took:?}, {of_nobody:?}");
    }
}

#[test]
fn a_password_goes_to_servers_over_protected_connections_only_on_file_or_not() {
    let on_file = Secret::Password { password: RIGHT.to_owned().into(), verifier: verifier() };
    let md5 = Secret::Md5(md5_stored(USER, RIGHT.as_bytes()).into());
    for secret in [Secret::Scram(verifier()), md5, on_file] {
        let check = PasswordCheck { secret, user: USER.into(), given: RIGHT.to_owned().into() };
        let AuthStep::Proved(credentials) = check.run() else { panic!("it is right") };
        assert_eq!(credentials.password(ServerLeg::Protected), PasswordAnswer::Given(RIGHT.as_bytes()));
        assert_eq!(credentials.password(ServerLeg::Exposed), PasswordAnswer::Withheld);
    }
}

#[test]
fn a_password_on_file_is_withheld_where_the_client_has_proved_nothing_or_by_scram() {
    let on_file = || Secret::Password { password: RIGHT.to_owned().into(), verifier: verifier() };
    let mut out = BytesMut::new();
    let start = |method, out: &mut BytesMut| {
        Authenticator::start(method, on_file(), USER, b"mock", None, out).expect("random bytes")
    };
    let trusted = start(ClientMethod::Trust, &mut out);
    let asked = start(ClientMethod::Auto, &mut out);
    let proved = by_scram(asked, RIGHT, First::WithTheMechanism, &mut out).expect("it keeps to the protocol");
    for step in [trusted, proved] {
        let AuthStep::Proved(credentials) = step else { panic!("it is let in: {step:?}") };
        assert_eq!(credentials.password(ServerLeg::Exposed), PasswordAnswer::Withheld);
        assert_eq!(credentials.password(ServerLeg::Protected), PasswordAnswer::Given(RIGHT.as_bytes()));
        assert!(credentials.scram().is_some() && credentials.md5_answer(USER, [1; 4]).is_some());
    }
}

#[test]
fn a_user_who_cannot_log_in_is_asked_like_others_and_fails() {
    for why in [Unusable::Unknown, Unusable::NoPassword, Unusable::NoLogin, Unusable::Expired] {
        for method in [ClientMethod::Auto, ClientMethod::Password] {
            assert!(!is_let_in(method, Secret::Unusable(why), RIGHT, First::WithTheMechanism), "{why:?}");
        }
    }
}

#[test]
fn by_scram_alone_nobody_is_let_in_with_an_md5_hash_and_others_are_as_ever() {
    let method = ClientMethod::ScramSha256;
    let password = Secret::Password { password: RIGHT.to_owned().into(), verifier: verifier() };
    for secret in [Secret::Scram(verifier()), password] {
        assert!(is_let_in(method, secret.clone(), RIGHT, First::WithTheMechanism));
        assert!(!is_let_in(method, secret, "wrong", First::WithTheMechanism));
    }
    for secret in
        [Secret::Md5(md5_stored(USER, RIGHT.as_bytes()).into()), Secret::Unusable(Unusable::Unknown)]
    {
        let mut out = BytesMut::new();
        let step = Authenticator::start(method, secret.clone(), USER, b"", None, &mut out);
        let asked = matches!(step, Ok(AuthStep::Ask(Authenticator(AuthExchange::Scram(_)))));
        assert!(asked, "{secret:?} looks like any other");
        assert!(!is_let_in(method, secret, RIGHT, First::WithTheMechanism));
    }
}

#[test]
fn trust_asks_for_nothing() {
    let mut out = BytesMut::new();
    let step =
        Authenticator::start(ClientMethod::Trust, Secret::Scram(verifier()), USER, b"", None, &mut out);
    assert!(matches!(step, Ok(AuthStep::Proved(_))));
    assert!(out.is_empty());
}

#[test]
fn what_its_turn_does_not_demand_is_a_breach_of_the_protocol() {
    for (secret, body) in [
        (Secret::Scram(verifier()), &b"SCRAM-SHA-1\0\xff\xff\xff\xff"[..]),
        (Secret::Scram(verifier()), b"SCRAM-SHA-256\0\0\0\0\x01n"),
        (Secret::Scram(verifier()), b""),
        (Secret::Md5(md5_stored(USER, b"").into()), b"no zero byte"),
    ] {
        let mut out = BytesMut::new();
        let step = Authenticator::start(ClientMethod::Auto, secret, USER, b"", None, &mut out)
            .expect("random bytes");
        let answer = answered(step, body, &mut out);
        assert!(matches!(answer, Err(AuthenticationError::Protocol(_))), "{body:?}: {answer:?}");
    }
}
