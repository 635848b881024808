//! Logins: of clients that prove themselves to the proxy, and of those whose exchange with a server is relayed.

use trunkline_codec::auth;
use trunkline_topology::ClientAddress;

use super::*;

/// Has a client prove itself with `password`, where `secret` is right.
fn verify(password: &str, then: impl AsyncFnOnce(&TestWorker, TestPeer)) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "\"app\" \"secret\"\n").expect("it can be written");
    let mut settings = settings();
    settings.auth.mode = AuthMode::Verify;
    settings.auth.client_method = ClientMethod::Password;
    settings.auth.source = SecretSource::File(file.path().to_owned());
    play(settings, async |stage| {
        let mut client = TestPeer::client(&stage).await;
        assert_eq!(client.hear().await, (b'R', vec![0, 0, 0, 3]), "it is asked for the password");
        client.say(&wire::message(b'p', format!("{password}\0").as_bytes())).await;
        then(&stage, client).await;
    });
}

/// The server asks for an md5 of the password, which any connection may carry, and gets the right one.
pub(super) async fn proves_itself(server: &mut TestPeer) {
    server.say(&wire::message(b'R', b"\0\0\0\x05salt")).await;
    let right = format!("{}\0", auth::md5_password(b"app", b"secret", *b"salt"));
    assert_eq!(server.hear().await, (b'p', right.into_bytes()));
}

#[test]
fn client_that_proves_itself_is_logged_in_with_its_password() {
    verify("secret", async |stage, mut client| {
        let (_, mut server) = TestPeer::server(stage).await;
        proves_itself(&mut server).await;
        server.let_in().await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "RSSKZ");
    });
}

/// The next server asks for the password, gets proof of the right one, and refuses it with this code.
async fn refuses_the_password(stage: &TestWorker, code: &str) -> ServerId {
    let (id, mut server) = TestPeer::server(stage).await;
    proves_itself(&mut server).await;
    server.say(&wire::report(b'E', "FATAL", code)).await;
    id
}

#[test]
fn client_that_has_proved_itself_asks_every_server_and_the_primary_last() {
    for code in ["28P01", "28000", "42501", "3D000", "22023", "55000", "58P01", "0A000"] {
        verify("secret", async |stage, mut client| {
            stage.publish(|snapshot| {
                snapshot.servers[0].role = Role::Primary;
                snapshot.primary = Some(ServerId(0));
            });
            let first = refuses_the_password(stage, code).await;
            let second = refuses_the_password(stage, code).await;
            assert_eq!([first, second].map(|id| id.0).iter().sum::<u32>(), 3, "both standbys");
            let (third, _server) = TestPeer::server_in(stage).await;
            assert_eq!(third, ServerId(0));
            assert_eq!(tags(&client.hear_up_to(b'Z').await), "RSSKZ");
        });
    }
}

#[test]
fn client_that_every_server_refuses_has_the_words_of_the_last() {
    verify("secret", async |stage, mut client| {
        for code in ["28000", "42501", "3D000"] {
            refuses_the_password(stage, code).await;
        }
        assert!(has_code(&client.hear().await, "FATAL", "3D000"));
        client.closes().await;
    });
}

#[test]
fn client_that_a_server_wants_another_proof_of_is_let_in_by_the_next() {
    verify("secret", async |stage, mut client| {
        let (first, mut server) = TestPeer::server(stage).await;
        // GSSAPI, and the end of an exchange that has not begun.
        for asks in [7, 12] {
            server.say(&wire::message(b'R', &[0, 0, 0, asks])).await;
            server.closes().await;
            (_, server) = TestPeer::server(stage).await;
        }
        server.let_in().await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "RSSKZ");
        let refused = &stage.worker.metrics.server(first).failovers;
        assert_eq!(refused.of(FailoverCause::Refused).value(), 1);
        assert_eq!(refused.of(FailoverCause::LostInLogin).value(), 0);
    });
}

#[test]
fn client_that_every_server_wants_another_proof_of_is_told_so() {
    verify("secret", async |stage, mut client| {
        for _ in 0..3 {
            let (_, mut server) = TestPeer::server(stage).await;
            server.say(&wire::message(b'R', &[0, 0, 0, 7])).await;
            server.closes().await;
        }
        assert!(has_code(&client.hear().await, "FATAL", "28000"));
        client.closes().await;
    });
}

#[test]
fn single_server_that_refuses_a_password_is_asked_again_for_a_moment() {
    verify("secret", async |stage, mut client| {
        for down in [1, 2].map(ServerId) {
            stage.set_state(down, State::Down);
        }
        refuses_the_password(stage, "28P01").await;
        let (_, _server) = TestPeer::server_in(stage).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "RSSKZ");
    });
}

#[test]
fn client_with_a_wrong_password_reaches_no_server() {
    verify("guess", async |stage, mut client| {
        assert!(has_code(&client.hear().await, "FATAL", "28P01"));
        client.closes().await;
        assert!(stage.network.try_accept().is_none());
    });
}

/// Two failures close the door.
fn with_two_failures(mut settings: Settings) -> Settings {
    let (window, pause) = (PATIENCE * 2, PATIENCE * 2);
    settings.auth.failures = FailureLimits { max: 2, window, pause };
    settings
}

#[test]
fn guesses_whose_exchange_with_a_server_is_under_way_learn_nothing_once_the_door_is_closed() {
    let mut settings = with_two_failures(settings());
    settings.auth.mode = AuthMode::Relay;
    play(settings, async |stage| {
        let mut guesses = Vec::new();
        for _ in 0..4 {
            let mut client = TestPeer::client(&stage).await;
            let (_, mut server) = TestPeer::server(&stage).await;
            server.say(&wire::message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")).await;
            assert_eq!(client.hear().await.0, b'R');
            client.say(&wire::message(b'p', b"SCRAM-SHA-256\0\0\0\0\x08n,,n=,r=")).await;
            assert_eq!(server.hear().await.0, b'p');
            server.say(&wire::message(b'R', b"\0\0\0\x0br=,s=,i=1")).await;
            assert_eq!(client.hear().await.0, b'R');
            client.say(&wire::message(b'p', b"c=biws,r=,p=")).await;
            assert_eq!(server.hear().await.0, b'p');
            guesses.push((client, server));
        }
        let under_way = guesses.split_off(2);
        for (mut client, mut server) in guesses {
            server.say(&wire::report(b'E', "FATAL", "28P01")).await;
            assert!(has_code(&client.hear().await, "FATAL", "28P01"));
        }
        // Of these one may be right: nobody hears of it, whether its server has said so or not.
        for (mut client, _server) in under_way {
            assert!(has_code(&client.hear().await, "FATAL", "28000"));
            client.closes().await;
        }
    });
}

#[test]
fn right_guess_that_a_server_is_logged_in_to_for_learns_nothing_once_the_door_is_closed() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "\"app\" \"secret\"\n").expect("it can be written");
    let mut settings = with_two_failures(settings());
    settings.auth.mode = AuthMode::Verify;
    settings.auth.client_method = ClientMethod::Password;
    settings.auth.source = SecretSource::File(file.path().to_owned());
    play(settings, async |stage| {
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = TestPeer::client(&stage).await;
            assert_eq!(client.hear().await, (b'R', vec![0, 0, 0, 3]));
            clients.push(client);
        }
        let mut clients = clients.into_iter();
        let mut next = || clients.next().expect("there are four");
        let (mut right, late) = (next(), next());
        right.say(&wire::message(b'p', b"secret\0")).await;
        let (_, mut server) = TestPeer::server(&stage).await;
        proves_itself(&mut server).await;
        for mut wrong in [next(), next()] {
            wrong.say(&wire::message(b'p', b"guess\0")).await;
            assert!(has_code(&wrong.hear().await, "FATAL", "28P01"));
        }
        for mut client in [right, late] {
            assert!(has_code(&client.hear().await, "FATAL", "28000"));
            client.closes().await;
        }
        assert!(stage.network.try_accept().is_none(), "no server is asked for a late one");
    });
}

/// Relays the login of a client from `peer` to a server that asks for an md5 of the password, and then for the password
/// itself: clients answer both.
fn asked_twice(peer: ClientAddress, then: impl AsyncFnOnce(TestPeer, TestPeer)) {
    let mut settings = settings();
    settings.auth.mode = AuthMode::Relay;
    play(settings, async |stage| {
        let mut client = TestPeer::connect_from(peer, &stage);
        client.start().await;
        let (_, mut server) = TestPeer::server(&stage).await;
        let md5 = b"\0\0\0\x05salt";
        server.say(&wire::message(b'R', md5)).await;
        assert_eq!(client.hear().await, (b'R', md5.to_vec()));
        client.say(&wire::message(b'p', b"md5\0")).await;
        assert_eq!(server.hear().await, (b'p', b"md5\0".to_vec()));
        server.say(&wire::message(b'R', &[0, 0, 0, 3])).await;
        then(client, server).await;
    });
}

#[test]
fn password_of_a_client_on_a_unix_socket_is_withheld_from_a_server_that_asks_for_it_late() {
    asked_twice(ClientAddress::Local, async |mut client, mut server| {
        assert!(has_code(&client.hear().await, "FATAL", "28000"));
        client.closes().await;
        while let Some(message) = server.try_hear().await {
            assert_ne!(message.0, b'p', "{message:?}");
        }
    });
}

#[test]
fn password_of_a_client_that_sends_it_in_the_clear_is_passed_on() {
    asked_twice(CLIENT, async |mut client, mut server| {
        assert_eq!(client.hear().await, (b'R', vec![0, 0, 0, 3]));
        client.say(&wire::message(b'p', b"secret\0")).await;
        assert_eq!(server.hear().await, (b'p', b"secret\0".to_vec()));
    });
}
