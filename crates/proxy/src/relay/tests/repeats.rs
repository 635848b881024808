//! A request that its server has canceled for a conflict with recovery, while that server serves on.

use trunkline_model::wire;
use trunkline_reactor::timer;
use trunkline_topology::ServerId;

use super::{answer, has_code, next_answers, play, position, session, tags};
use crate::limits::TICK;
use crate::testing::{TestPeer, TestWorker, settings};

/// A session whose request its server has just canceled.
async fn canceled(stage: &TestWorker) -> (TestPeer, TestPeer) {
    let (mut client, _, mut server) = session(stage).await;
    cancel(&mut client, &mut server).await;
    (client, server)
}

/// The server cancels the client's request.
async fn cancel(client: &mut TestPeer, server: &mut TestPeer) {
    client.query("select 1").await;
    server.hear().await;
    server.say(&[wire::report(b'E', "ERROR", "40001"), wire::message(b'Z', b"I")].concat()).await;
}

async fn refuse(stage: &TestWorker, code: &str) {
    let (_, mut other) = TestPeer::server(stage).await;
    other.say(&wire::report(b'E', "FATAL", code)).await;
    other.closes().await;
}

#[test]
fn session_has_its_server_until_another_takes_its_request() {
    play(settings(), async |stage| {
        let (mut client, mut server) = canceled(&stage).await;
        let (_, mut next) = TestPeer::server(&stage).await;
        next.let_in().await;
        assert_eq!(next.hear().await.0, b'Q', "how far it has replayed");
        next.say(&position("0/5000")).await;
        assert_eq!(next.hear().await, (b'Q', b"select 1\0".to_vec()));
        assert_eq!(server.try_hear().await.map(|(tag, _)| tag), Some(b'X'));
        next.say(&answer()).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn session_that_all_others_refuse_for_good_gets_the_error_and_goes_on() {
    play(settings(), async |stage| {
        let (mut client, mut server) = canceled(&stage).await;
        refuse(&stage, "28P01").await;
        refuse(&stage, "28000").await;
        let told = client.hear_up_to(b'Z').await;
        assert_eq!(tags(&told), "EZ");
        assert!(has_code(&told[0], "ERROR", "40001"), "{told:?}");
        client.query("select 2").await;
        assert_eq!(server.hear().await, (b'Q', b"select 2\0".to_vec()));
        server.say(&answer()).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn request_is_sent_again_once_a_server_that_was_full_has_room() {
    play(settings(), async |stage| {
        let (mut client, server) = canceled(&stage).await;
        refuse(&stage, "53300").await;
        refuse(&stage, "53300").await;
        drop(server);
        next_answers(&stage).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn conflict_in_what_is_prepared_for_a_message_sends_the_message_elsewhere() {
    play(settings(), async |stage| {
        let (mut client, _, mut server) = session(&stage).await;
        let ready = || wire::message(b'Z', b"I");
        client.query("prepare s as select 1").await;
        server.hear().await;
        server.say(&[wire::message(b'C', b"PREPARE\0"), ready()].concat()).await;
        client.hear_up_to(b'Z').await;
        let described = [wire::message(b't', b"\0\0"), wire::message(b'n', b""), ready()].concat();
        assert_eq!(tags(&server.hear_up_to(b'S').await), "DS");
        server.say(&described).await;
        client.query("select 2").await;
        assert_eq!(server.hear().await.0, b'Q');
        server.say(&answer()).await;
        client.hear_up_to(b'Z').await;
        server.reset();
        timer::sleep(TICK).await;
        client.query("execute s").await;
        let (_, mut standby) = prepares(&stage).await;
        standby.hear_up_to(b'S').await;
        standby.say(&[wire::report(b'E', "ERROR", "40001"), ready()].concat()).await;
        let (_, mut next) = prepares(&stage).await;
        for (tag, _) in next.hear_up_to(b'S').await {
            next.say(&match tag {
                b'C' => wire::message(b'3', b""),
                b'P' => wire::message(b'1', b""),
                b'B' => wire::message(b'2', b""),
                b'E' => wire::message(b'C', b"PREPARE\0"),
                b'D' => [wire::message(b't', b"\0\0"), wire::message(b'n', b"")].concat(),
                _sync => ready(),
            })
            .await;
        }
        assert_eq!(next.hear().await, (b'Q', b"execute s\0".to_vec()));
        next.say(&answer()).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

/// The next server, which shows all that the session has seen.
async fn prepares(stage: &TestWorker) -> (ServerId, TestPeer) {
    let (id, mut server) = TestPeer::server_in(stage).await;
    assert_eq!(server.hear().await.0, b'Q', "how far it has replayed");
    server.say(&position("0/5000")).await;
    (id, server)
}

#[test]
fn session_goes_back_to_its_server_where_the_others_show_less() {
    play(settings(), async |stage| {
        let (mut client, own, mut server) = session(&stage).await;
        cancel(&mut client, &mut server).await;
        for _ in 0..2 {
            let (id, mut other) = TestPeer::server_in(&stage).await;
            assert_ne!(id, own);
            // Until it is given up.
            while let Some((b'Q', _)) = other.try_hear().await {
                other.say(&position("0/4000")).await;
            }
        }
        let (id, _server) = next_answers(&stage).await;
        assert_eq!(id, own);
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}
