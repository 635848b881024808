//! Clients that fail to prove who they are: slowed down, then refused for a while.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use trunkline_auth::failures::{ClosedTo, Door, Knock, SLOW_PAUSE_MAX};
use trunkline_reactor::timer;
use trunkline_topology::ClientAddress;

use super::LoginFailure;
use super::request::shown;
use super::told::ToldWaker;
use super::way::LoginWay;
use crate::context::Worker;
use crate::errors::{Refusal, says_wrong_proof};

/// A client that says who it is. Clients of Unix sockets have no address that could be told from others': for them the door
/// is always open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visitor<'a> {
    pub(super) client: ClientAddress,
    pub(super) user: &'a [u8],
}

impl Visitor<'_> {
    fn knock(&self) -> Option<Knock<'_>> {
        match self.client {
            ClientAddress::Tcp(address) => Some(Knock { address: address.ip(), user: self.user }),
            ClientAddress::Local => None,
        }
    }

    /// Whether too many have failed like it.
    fn door(&self, worker: &Worker) -> Door {
        let shared = &worker.shared;
        match self.knock().filter(|_| shared.failures.has_any()) {
            Some(knock) => shared.failures.look(&shared.live().auth.failures, knock, Instant::now()),
            None => Door::Open,
        }
    }

    /// Lets the client wait, or refuses it, if too many have failed like it.
    pub(super) async fn wait(&self, worker: &Worker) -> Result<(), Refusal> {
        match self.door(worker) {
            Door::Open => Ok(()),
            Door::Closed(left) => Err(Refusal::TooManyFailures { seconds: left.as_secs() + 1 }),
            Door::Slow(pause) => match worker.shared.failures.slow_down() {
                Some(_permit) => {
                    timer::sleep(pause).await;
                    Ok(())
                }
                None => Err(Refusal::TooManyFailures { seconds: SLOW_PAUSE_MAX.as_secs() }),
            },
        }
    }

    /// Runs the exchange that proves who the client is, unless the door is closed while it is under way: of many guesses at
    /// one time, all that have no answer by then get the same one at the same moment, the right one too. Neither the server's
    /// part of a proof, nor the time that a login on a server takes, tells them apart.
    pub(super) async fn unless_shut_out<T>(
        &self,
        worker: &Worker,
        exchange: impl Future<Output = Result<T, LoginFailure>>,
    ) -> Result<T, LoginFailure> {
        let mut exchange = pin!(exchange);
        self.look(worker)?;
        // One that waits for nothing is over before anybody else has a turn.
        if let Poll::Ready(outcome) = poll_fn(|cx| Poll::Ready(exchange.as_mut().poll(cx))).await {
            return outcome;
        }
        let (mut shut_out, mut told) = (pin!(self.shut_out(worker)), ToldWaker::default());
        let mut closed = None;
        poll_fn(|cx| {
            // The door first: what has come meanwhile is not looked at.
            let doors_closed = Some(worker.shared.failures.doors_closed());
            let is_news = !told.wakes(cx) || closed != doors_closed;
            closed = doors_closed;
            if is_news && let Poll::Ready(refusal) = shut_out.as_mut().poll(cx) {
                return Poll::Ready(Err(refusal.into()));
            }
            exchange.as_mut().poll(cx)
        })
        .await
    }

    /// Returns when the door is closed.
    async fn shut_out(&self, worker: &Worker) -> Refusal {
        if self.knock().is_none() {
            return pending().await;
        }
        let mut closings = worker.shared.failures.closings();
        loop {
            if let Err(refusal) = self.look(worker) {
                return refusal;
            }
            if closings.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// Refuses the client while the door is closed.
    pub(super) fn look(&self, worker: &Worker) -> Result<(), Refusal> {
        match self.door(worker) {
            Door::Closed(left) => Err(Refusal::TooManyFailures { seconds: left.as_secs() + 1 }),
            Door::Open | Door::Slow(_) => Ok(()),
        }
    }

    /// Notes a right proof. One that was found while the door was closed is worth nothing.
    pub(super) fn let_in(&self, worker: &Worker) -> Result<(), Refusal> {
        self.look(worker)?;
        let shared = &worker.shared;
        if let Some(knock) = self.knock().filter(|_| shared.failures.has_any()) {
            shared.failures.let_in(&shared.live().auth.failures, knock, Instant::now());
        }
        Ok(())
    }

    /// Notes a failure if it is a wrong proof. One that was found while the door was closed is told no more than a right
    /// one is.
    pub(super) fn failed(&self, worker: &Worker, failure: LoginFailure, way: LoginWay) -> LoginFailure {
        let shared = &worker.shared;
        let live = shared.live();
        let Some(knock) = self.knock().filter(|_| is_wrong_proof(&failure, way)) else {
            return failure;
        };
        let (limits, now) = (&live.auth.failures, Instant::now());
        if let Door::Closed(left) = shared.failures.look(limits, knock, now) {
            return Refusal::TooManyFailures { seconds: left.as_secs() + 1 }.into();
        }
        if let Some(closed_to) = shared.failures.failed(limits, knock, now) {
            self.log(worker, closed_to);
        }
        failure
    }

    fn log(&self, worker: &Worker, closed_to: ClosedTo) {
        let Some(more) = worker.doors_closed.borrow_mut().note() else { return };
        let limits = &worker.shared.live().auth.failures;
        tracing::warn!(
            client.addr = %self.client, db.user = shown(self.user), of = words(closed_to),
            pause_seconds = limits.pause.as_secs(), more = (more > 0).then_some(more),
            "too many authentication failures: logins are refused for a while"
        );
    }
}

fn words(closed_to: ClosedTo) -> &'static str {
    match closed_to {
        ClosedTo::User => "the user from that address",
        ClosedTo::Address => "the address, for users that it was not used by before",
    }
}

/// Whether a login failed because its client could not prove who it is. In `verify` a server refuses what the proxy has
/// found right: that says nothing of the client.
fn is_wrong_proof(failure: &LoginFailure, way: LoginWay) -> bool {
    match failure {
        LoginFailure::Refused(refusal) => matches!(refusal, Refusal::AuthenticationFailed { .. }),
        LoginFailure::ServerRefused(message) => match way {
            LoginWay::Verify => false,
            LoginWay::Relay | LoginWay::Login => says_wrong_proof(message),
        },
        LoginFailure::Silent(_) | LoginFailure::ClientGone | LoginFailure::NotALogin => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn refused(code: &str, routine: &str) -> LoginFailure {
        let body = format!("SFATAL\0VFATAL\0C{code}\0Mno\0R{routine}\0\0");
        let length = u32::try_from(4 + body.len()).expect("short").to_be_bytes();
        LoginFailure::ServerRefused(Bytes::from([b"E", &length[..], body.as_bytes()].concat()))
    }

    #[test]
    fn a_server_says_whether_the_proof_was_wrong() {
        for (code, routine, is_wrong) in [
            ("28P01", "auth_failed", true),
            ("28P01", "", true),
            // By LDAP, PAM or RADIUS.
            ("28000", "auth_failed", true),
            // No entry in pg_hba.conf, and no such role.
            ("28000", "ClientAuthentication", false),
            ("28000", "InitializeSessionUserId", false),
            ("53300", "auth_failed", false),
        ] {
            for way in [LoginWay::Relay, LoginWay::Login] {
                assert_eq!(is_wrong_proof(&refused(code, routine), way), is_wrong, "{code} {routine}");
            }
            assert!(!is_wrong_proof(&refused(code, routine), LoginWay::Verify), "{code} {routine}");
        }
    }
}
