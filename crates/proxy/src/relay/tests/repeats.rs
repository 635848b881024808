//! A request that its server has canceled for a conflict with recovery, while that server serves on.

use trunkline_model::wire;

use super::{answer, has_code, play, position, session, tags};
use crate::testing::{TestPeer, TestWorker, settings};

/// A session whose request its server has just canceled.
async fn canceled(stage: &TestWorker) -> (TestPeer, TestPeer) {
    let (mut client, _, mut server) = session(stage).await;
    client.query("select 1").await;
    server.hear().await;
    server.say(&[wire::report(b'E', "ERROR", "40001"), wire::message(b'Z', b"I")].concat()).await;
    (client, server)
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
        super::next_answers(&stage).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}
