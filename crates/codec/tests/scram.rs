//! SCRAM: the example of RFC 7677, both sides against each other, another's client, and liars.

use std::sync::LazyLock;

use postgres_protocol::authentication::sasl;
use trunkline_codec::limits::{SCRAM_ITERATIONS_MAX, SCRAM_MESSAGE_MAX};
use trunkline_codec::scram::{
    ChannelBinding, ClientExchange, Credentials, ScramError, ServerExchange, Verifier,
};
use trunkline_codec::sqlstate::SqlState;

const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const NONCE: &str = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const PROOF: &str = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SALT: &[u8] = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";

fn verifier() -> Verifier {
    // Derived once: its iterations are slow without optimization.
    static VERIFIER: LazyLock<Verifier> =
        LazyLock::new(|| Verifier::from_password(b"pencil", SALT, 4096).expect("legal iterations"));
    VERIFIER.clone()
}

fn password(text: &[u8]) -> Credentials {
    Credentials::Password(text.to_vec().into())
}

fn hash() -> ChannelBinding {
    ChannelBinding::TlsServerEndPoint(Box::new([7; 32]))
}

/// Runs both sides against each other; the server's verdict, then the client's.
fn login(mut client: ClientExchange, mut server: ServerExchange) -> Result<(), ScramError> {
    let first = client.client_first()?;
    let reply = server.handle_client_first(&first)?;
    let last = client.handle_server_first(&reply)?;
    let (signature, key) = server.handle_client_final(&last)?;
    client.handle_server_final(&signature)?;
    assert!(verifier().accepts(&key));
    Ok(())
}

fn client(credentials: Credentials, binding: ChannelBinding) -> ClientExchange {
    ClientExchange::new(credentials, "fyko+d2lbbFgONRv9qkxdawL", binding)
}

fn server(verifier: Verifier, binding: ChannelBinding) -> ServerExchange {
    ServerExchange::new(verifier, "3rfcNHYJY1ZVvWVs7j", binding)
}

/// What a server that was given `first` says to `last`.
fn say(first: &str, last: &str) -> Result<String, ScramError> {
    let mut server = ServerExchange::new(verifier(), SERVER_NONCE, ChannelBinding::Unsupported);
    server.handle_client_first(first.as_bytes())?;
    let (reply, _) = server.handle_client_final(last.as_bytes())?;
    Ok(String::from_utf8(reply).expect("replies are text"))
}

#[test]
fn the_server_speaks_the_example_of_rfc_7677() {
    let mut server = ServerExchange::new(verifier(), SERVER_NONCE, ChannelBinding::Unsupported);
    let first = server.handle_client_first(CLIENT_FIRST.as_bytes()).expect("the example");
    assert_eq!(String::from_utf8_lossy(&first), format!("r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
    let last = format!("c=biws,r={NONCE},p={PROOF}");
    let (reply, key) = server.handle_client_final(last.as_bytes()).expect("the example");
    assert_eq!(reply, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert!(verifier().accepts(&key));
    assert_eq!(key.as_bytes(), verifier().check_password(b"pencil").expect("the password").as_bytes());
}

#[test]
fn both_sides_agree_whatever_the_binding() {
    use ChannelBinding::{Unsupported, Unused};
    for (ours, theirs) in
        [(Unsupported, Unsupported), (Unsupported, Unused), (Unused, Unsupported), (hash(), hash())]
    {
        assert_eq!(login(client(password(b"pencil"), ours), server(verifier(), theirs)), Ok(()));
    }
}

#[test]
fn a_recovered_key_logs_in_where_the_same_verifier_is_kept() {
    let mut first_login = server(verifier(), ChannelBinding::Unsupported);
    let mut user = client(password(b"pencil"), ChannelBinding::Unsupported);
    let reply = first_login.handle_client_first(&user.client_first().expect("first")).expect("first");
    let last = user.handle_server_first(&reply).expect("last");
    let (_, client_key) = first_login.handle_client_final(&last).expect("the right password");

    let server_key = verifier().server_key().clone();
    let keys = || Credentials::ClientKey { client_key: client_key.clone(), server_key: server_key.clone() };
    let proxy = || client(keys(), ChannelBinding::Unsupported);
    assert_eq!(login(proxy(), server(verifier(), ChannelBinding::Unsupported)), Ok(()));
    // Another salt, another key.
    let other = Verifier::from_password(b"pencil", b"other salt", 4096).expect("legal iterations");
    assert!(!verifier().is_same_as(&other) && verifier().is_same_as(&verifier()));
    let refused = login(proxy(), server(other, ChannelBinding::Unsupported));
    assert_eq!(refused, Err(ScramError::AuthenticationFailed));
}

#[test]
fn wrong_passwords_and_unknown_users_fail_alike() {
    let wrong = login(client(password(b"pen"), hash()), server(verifier(), hash()));
    let mock = Verifier::mock(b"secret of this installation", b"nobody");
    let unknown = login(client(password(b"pencil"), hash()), server(mock, hash()));
    assert_eq!(wrong, Err(ScramError::AuthenticationFailed));
    assert_eq!(unknown, wrong);
    assert_eq!(ScramError::AuthenticationFailed.sqlstate(), SqlState::INVALID_PASSWORD);
}

#[test]
fn a_mock_verifier_looks_like_a_real_one_and_stays_the_same() {
    let first = |user: &[u8]| {
        let mut server = server(Verifier::mock(b"nonce", user), ChannelBinding::Unsupported);
        let reply = server.handle_client_first(CLIENT_FIRST.as_bytes()).expect("as any other");
        String::from_utf8(reply).expect("replies are text")
    };
    assert_eq!(first(b"nobody"), first(b"nobody"));
    assert_ne!(first(b"nobody"), first(b"somebody"));
    let (_, salt) =
        first(b"nobody").split_once(",s=").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a salt");
    assert_eq!(salt.len(), "W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".len());
    assert!(salt.ends_with(",i=4096"));
}

#[test]
fn the_client_of_postgres_protocol_logs_in() {
    let binding = || sasl::ChannelBinding::tls_server_end_point(vec![7; 32]);
    for (theirs, ours) in [
        (sasl::ChannelBinding::unsupported(), ChannelBinding::Unsupported),
        (sasl::ChannelBinding::unrequested(), ChannelBinding::Unsupported),
        (binding(), hash()),
    ] {
        let mut client = sasl::ScramSha256::new("pen\u{AD}cil".as_bytes(), theirs);
        let mut server = server(verifier(), ours);
        let reply = server.handle_client_first(client.message()).expect("client-first");
        client.update(&reply).expect("server-first");
        let (signature, key) = server.handle_client_final(client.message()).expect("the right password");
        client.finish(&signature).expect("our signature");
        assert!(verifier().accepts(&key));
    }
}

#[test]
fn channel_bindings_that_do_not_fit_are_refused() {
    use ChannelBinding::{Unsupported, Unused};
    let other = ChannelBinding::TlsServerEndPoint(Box::new([8; 32]));
    let result = |ours, theirs| login(client(password(b"pencil"), ours), server(verifier(), theirs));
    assert_eq!(result(hash(), other), Err(ScramError::ChannelBinding));
    assert_eq!(result(Unused, Unused), Err(ScramError::ChannelBindingNegotiation));
    for (ours, theirs) in [(hash(), Unsupported), (hash(), Unused), (Unsupported, hash()), (Unused, hash())] {
        assert!(matches!(result(ours, theirs), Err(ScramError::Malformed(_))));
    }
    // The flag of the first message must come back in the last.
    let last = format!("c=eSws,r={NONCE},p={PROOF}");
    assert!(matches!(say(CLIENT_FIRST, &last), Err(ScramError::Malformed(_))));
}

#[test]
fn client_first_is_refused_as_postgres_refuses_it() {
    let first = |text: &str| say(text, "").expect_err("an exchange without its last message");
    for malformed in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=",
        "n,,n=u",
        "n,,r=abc",
        "n,,n=u,",
        "n,,n=u,r=",
        "n,,n=u,x=1,r=abc",
        "x,,n=u,r=abc",
        "n,x=1,n=u,r=abc",
        "n,,n=u,r=a c",
        "n,,n=u,r=\u{E4}",
        "n,,n=u,r=abc,",
        "n,,n=u,r=abc,1=2",
        "n,,n=u,r=abc,xx",
        "p=tls-unique,,n=u,r=abc",
        "p,,n=u,r=abc",
        "n,,n=u,r=abc\0",
        "nn,,n=u,r=abc",
    ] {
        assert!(matches!(first(malformed), ScramError::Malformed(_)), "{malformed:?}");
    }
    for unsupported in ["n,a=root,n=u,r=abc", "n,,m=x,n=u,r=abc"] {
        assert!(matches!(first(unsupported), ScramError::NotSupported(_)), "{unsupported:?}");
    }
    assert!(
        say("n,,n=,r=rOprNGfwEbeRWgbNEkqO,x=1,y=", "").is_err(),
        "extensions are ignored, the empty answer is not"
    );
}

#[test]
fn client_final_is_refused_as_postgres_refuses_it() {
    for malformed in [
        String::new(),
        "c=biws".into(),
        format!("c=biws,r={NONCE}"),
        format!("r={NONCE},p={PROOF}"),
        format!("c=biws,r={NONCE},p="),
        format!("c=biws,r={NONCE},p=AAAA"),
        format!("c=biws,r={NONCE},p=!{PROOF}"),
        format!("c=biws,r={NONCE},p={PROOF},x=1"),
        format!("c=biws,r={NONCE},p={PROOF},"),
        format!("c=,r={NONCE},p={PROOF}"),
        format!("c=biws,r={NONCE},xp={PROOF}"),
    ] {
        assert!(matches!(say(CLIENT_FIRST, &malformed), Err(ScramError::Malformed(_))), "{malformed:?}");
    }
    for nonce in ["rOprNGfwEbeRWgbNEkqO", &NONCE[..NONCE.len() - 1], &format!("{NONCE}x"), ""] {
        let last = format!("c=biws,r={nonce},p={PROOF}");
        assert_eq!(say(CLIENT_FIRST, &last), Err(ScramError::NonceMismatch), "{nonce:?}");
    }
    // An extension is covered by the proof, which was made without it.
    let extended = format!("c=biws,r={NONCE},x=1,p={PROOF}");
    assert_eq!(say(CLIENT_FIRST, &extended), Err(ScramError::AuthenticationFailed));
}

#[test]
fn messages_are_limited_in_length() {
    let padded = |length: usize| format!("n,,n={},r=abc", "u".repeat(length - "n,,n=,r=abc".len()));
    let server = || server(verifier(), ChannelBinding::Unsupported);
    assert!(server().handle_client_first(padded(SCRAM_MESSAGE_MAX).as_bytes()).is_ok());
    let length = SCRAM_MESSAGE_MAX + 1;
    let refused = server().handle_client_first(padded(length).as_bytes());
    assert_eq!(refused, Err(ScramError::TooLong { length }));
}

#[test]
fn steps_out_of_turn_are_refused() {
    let mut server = server(verifier(), ChannelBinding::Unsupported);
    assert_eq!(server.handle_client_final(b"c=biws").err(), Some(ScramError::OutOfTurn));
    assert_eq!(server.handle_client_first(CLIENT_FIRST.as_bytes()), Err(ScramError::OutOfTurn));
    let mut client = client(password(b"pencil"), ChannelBinding::Unsupported);
    assert!(client.client_first().is_ok());
    assert_eq!(client.client_first(), Err(ScramError::OutOfTurn));
    assert_eq!(client.handle_server_final(b"v="), Err(ScramError::OutOfTurn));
}

/// What our client says to this first message of a server.
fn answer(nonce: &str, rest: &str) -> Result<Vec<u8>, ScramError> {
    let mut client = client(password(b"pencil"), ChannelBinding::Unsupported);
    client.client_first()?;
    client.handle_server_first(format!("r={nonce},{rest}").as_bytes())
}

#[test]
fn the_client_checks_what_the_server_says() {
    let nonce = "fyko+d2lbbFgONRv9qkxdawLabc";
    assert!(answer(nonce, "s=QUFB,i=1").is_ok());
    for other in ["fyko+d2lbbFgONRv9qkxdawL", "abc", "xfyko+d2lbbFgONRv9qkxdawLabc"] {
        assert_eq!(answer(other, "s=QUFB,i=1"), Err(ScramError::NonceMismatch), "{other}");
    }
    for malformed in [
        "",
        "s=QUFB",
        "s=QUFB,i=",
        "s=QUFB,i=0",
        "s=QUFB,i=-1",
        "s=QUFB,i=+1",
        "s=QUFB,i=1x",
        "s=QUFB,i=4294967296",
        "s=!,i=1",
        "i=1,s=QUFB",
        "s=QUFB,i=1,x=1",
        "s=QUFB,i=1,",
    ] {
        assert!(matches!(answer(nonce, malformed), Err(ScramError::Malformed(_))), "{malformed:?}");
    }
    let iterations = SCRAM_ITERATIONS_MAX + 1;
    let refused = answer(nonce, &format!("s=QUFB,i={iterations}"));
    assert_eq!(refused, Err(ScramError::TooManyIterations { iterations }));
    assert!(Verifier::from_password(b"x", b"salt", iterations).is_err());
}

#[test]
fn a_server_that_does_not_know_the_verifier_is_found_out() {
    let finish = |last: &[u8]| {
        let mut client = client(password(b"pencil"), ChannelBinding::Unsupported);
        let mut server = server(verifier(), ChannelBinding::Unsupported);
        let reply = server.handle_client_first(&client.client_first().expect("first")).expect("first");
        client.handle_server_first(&reply).expect("last");
        client.handle_server_final(last)
    };
    let wrong = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert_eq!(finish(wrong.as_bytes()), Err(ScramError::ServerSignature));
    assert_eq!(finish(b"e=invalid-proof"), Err(ScramError::RefusedByServer));
    for malformed in [&b""[..], b"v=", b"v=AAAA", b"x=1", b"\xFF"] {
        assert!(matches!(finish(malformed), Err(ScramError::Malformed(_))));
    }
}

#[test]
fn verifiers_are_read_as_postgres_writes_them() {
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let read = Verifier::parse(text).expect("a verifier");
    assert!(read.is_same_as(&verifier()));
    assert_eq!(read.to_string(), text);
    assert_eq!(read.server_key().as_bytes(), verifier().server_key().as_bytes());
    assert!(read.check_password(b"pencil").is_ok());
    assert_eq!(read.check_password(b"pen").err(), Some(ScramError::AuthenticationFailed));
    assert_eq!(format!("{read:?}"), "Verifier(Genuine, 4096 iterations)");
    for end in 0..text.len() {
        assert!(Verifier::parse(&text[..end]).is_err(), "{end}");
    }
    for wrong in [
        text.replace("4096", "0"),
        text.replace("4096", "-1"),
        text.replace("SHA-256", "SHA-1"),
        format!("{text}x"),
    ] {
        assert!(Verifier::parse(&wrong).is_err(), "{wrong}");
    }
}
