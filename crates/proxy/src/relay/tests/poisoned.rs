//! Server connections that are not as the next client must find them: closed, counted, and given to nobody.

use trunkline_telemetry::metrics::PoolCloseReason;

use super::pools::{answers, clients, is_answered, logs_in, share};
use super::*;
use crate::worker::tick_pools;

/// What the server says in place of the answer that a reset must have.
#[derive(Clone, Copy, Debug)]
enum ResetAnswer {
    Refused,
    /// ReadyForQuery tells of an open transaction.
    InTransaction,
    /// There is more behind it.
    LeftOver,
}

impl ResetAnswer {
    /// The answers to these messages.
    fn to(self, asked: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut said = Vec::new();
        let mut is_skipping = false;
        for (tag, _) in asked {
            let status: &[u8] = if matches!(self, ResetAnswer::InTransaction) { b"T" } else { b"I" };
            said.push(match (tag, self) {
                (b'S', _) => wire::message(b'Z', status),
                _skipped if is_skipping => continue,
                (b'E', ResetAnswer::Refused) => {
                    is_skipping = true;
                    wire::report(b'E', "ERROR", "25001")
                }
                (b'P', _) => wire::message(b'1', b""),
                (b'B', _) => wire::message(b'2', b""),
                (b'E', _) => wire::message(b'C', b"DISCARD ALL\0"),
                (b'C', _) => wire::message(b'3', b""),
                (other, _) => panic!("no message of a reset: {}", char::from(*other)),
            });
        }
        if matches!(self, ResetAnswer::LeftOver) {
            said.push(wire::message(b'Z', b"I"));
        }
        said.concat()
    }
}

fn closed(stage: &TestWorker, reason: PoolCloseReason) -> u64 {
    stage.worker.metrics.pool_closed.of(reason).value()
}

/// Waits until one connection was closed for this reason.
async fn one_is_closed(stage: &TestWorker, reason: PoolCloseReason) {
    while closed(stage, reason) == 0 {
        tick_pools(&stage.worker);
        timer::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(closed(stage, reason), 1, "{reason:?}");
}

/// The client's request is answered by a new connection.
async fn goes_on_with_another(stage: &TestWorker, client: &mut TestPeer) {
    client.query("select 1").await;
    let (_, mut next) = logs_in(stage).await;
    loop {
        let (tag, body) = next.hear().await;
        assert_eq!(tag, b'Q');
        if body == b"select 1\0" {
            break;
        }
        next.say(&position("0/5000")).await;
    }
    next.say(&answer()).await;
    is_answered(client).await;
}

/// A client leaves something on its connection, which is reset at the client's end, and its server answers so.
fn is_poisoned_at_reset(answer: ResetAnswer) {
    share(Duration::ZERO, async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        first.query("listen c").await;
        assert_eq!(server.hear().await.0, b'Q');
        server.say(&[wire::message(b'C', b"LISTEN\0"), wire::message(b'Z', b"I")].concat()).await;
        assert_eq!(tags(&first.hear_up_to(b'Z').await), "CZ");
        first.say(b"X\0\0\0\x04").await;
        let asked = server.hear_up_to(b'S').await;
        assert!(
            asked.iter().any(|(_, body)| body.windows(11).any(|part| part == b"DISCARD ALL")),
            "{asked:?}"
        );
        server.say(&answer.to(&asked)).await;
        one_is_closed(stage, PoolCloseReason::ResetFailed).await;
        server.closes().await;
        goes_on_with_another(stage, &mut second).await;
    });
}

#[test]
fn connection_whose_reset_is_refused_is_closed_and_counted() {
    is_poisoned_at_reset(ResetAnswer::Refused);
}

#[test]
fn connection_that_is_in_a_transaction_behind_its_reset_is_closed_and_counted() {
    is_poisoned_at_reset(ResetAnswer::InTransaction);
}

#[test]
fn connection_that_has_more_to_say_behind_its_reset_is_closed_and_counted() {
    is_poisoned_at_reset(ResetAnswer::LeftOver);
}

#[test]
fn connection_that_speaks_while_nobody_has_it_is_closed_and_counted() {
    share(Duration::ZERO, async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        first.query("select 1").await;
        answers(&mut server, "select 1").await;
        is_answered(&mut first).await;
        server.say(&wire::message(b'D', b"\0\0")).await;
        one_is_closed(stage, PoolCloseReason::ServerClosed).await;
        server.closes().await;
        goes_on_with_another(stage, &mut second).await;
    });
}
