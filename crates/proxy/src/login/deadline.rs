//! The time limit of one login.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use trunkline_reactor::timer;

use super::LoginFailure;
use super::told::ToldWaker;
use crate::context::{RunPhase, Worker};
use crate::errors::Refusal;

/// When a login has taken too long. The search for a server extends it once: the client has done its part, and
/// must not be refused in the middle of a failover.
#[derive(Debug)]
pub(super) struct LoginDeadline {
    at: Cell<Instant>,
    is_extended: Cell<bool>,
}

impl LoginDeadline {
    pub(super) fn within(limit: Duration) -> Self {
        LoginDeadline { at: Cell::new(Instant::now() + limit), is_extended: Cell::new(false) }
    }

    /// Extends the deadline.
    pub(super) fn extend(&self, by: Duration) {
        self.at.set(self.at.get() + by);
        self.is_extended.set(true);
    }

    /// Whether it is past the deadline.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.at.get()
    }

    /// What a login comes to, unless it takes too long, or the proxy is to end.
    pub(super) async fn unless_over<T>(
        &self,
        worker: &Worker,
        mut login: Pin<&mut impl Future<Output = Result<T, LoginFailure>>>,
    ) -> Result<T, LoginFailure> {
        let is_ending = |phase: &RunPhase| *phase != RunPhase::Running;
        let runs_on = || worker.phase.has_changed().is_ok() && !is_ending(&worker.phase.borrow());
        let mut over = pin!(async {
            let mut phase = worker.phase.clone();
            tokio::select! {
                biased;
                () = self.passed() => Err(LoginFailure::Refused(Refusal::LoginTimeout)),
                _ = phase.wait_for(is_ending) => Err(LoginFailure::Refused(Refusal::NoNewSessions)),
            }
        });
        let mut told = ToldWaker::default();
        poll_fn(|cx| match login.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            // A login that waits for nothing sets no timer. Once it is extended, what wakes may be the timer of before.
            Poll::Pending if !self.is_extended.get() && told.wakes(cx) && !self.is_over() && runs_on() => {
                Poll::Pending
            }
            Poll::Pending => over.as_mut().poll(cx),
        })
        .await
    }

    /// Returns at the deadline.
    pub(super) async fn passed(&self) {
        while !self.is_over() {
            timer::sleep_until(self.at.get()).await;
        }
    }
}
