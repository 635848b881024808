//! The task that owns the judge: receives observations and commands, publishes and logs verdicts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant as TokioInstant, sleep_until};
use trunkline_codec::ids::SystemIdentifier;

use super::watchers::Watchers;
use crate::SERVERS_MAX;
use crate::judge::{
    AdoptionRefusal, Judge, JudgeSettings, Notice, NoticeKind, Observation, RosterChange, Transition,
};
use trunkline_topology::{AdminState, LogSeverity, ServerId, ServerSpec, Snapshot, State};

/// Changes of state that are kept to be shown.
const TRANSITIONS_KEPT: usize = 20;

/// Observations that are taken in at once before it is decided: as many as may wait.
const OBSERVATIONS_AT_ONCE_MAX: usize = 2 * SERVERS_MAX;

/// A decision that takes no longer than this is followed by the next one at once.
const QUICK_DECISION: Duration = Duration::from_micros(500);

/// How many times as long as a decision took the next one waits. A decision looks at every server, whoever was observed:
/// with many of them, each observation apart would take all of a core.
const REST_FACTOR: u32 = 4;

/// Longest time that an observation waits for a decision: far below what a probe takes.
const REST_MAX: Duration = Duration::from_millis(25);

/// How long observations are only gathered after a decision that took so long.
fn rest_after(took: Duration) -> Duration {
    if took <= QUICK_DECISION { Duration::ZERO } else { (took * REST_FACTOR).min(REST_MAX) }
}

/// An operator's command.
#[derive(Debug)]
pub(super) enum JudgeCommand {
    SetAdmin(ServerId, AdminState),
    Reload(Box<JudgeSettings>),
    SetServers(Vec<ServerSpec>, oneshot::Sender<RosterChange>),
    Forget(ServerId, oneshot::Sender<bool>),
    Adopt(oneshot::Sender<Result<SystemIdentifier, AdoptionRefusal>>),
}

/// Where the verdicts are read.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) generation: watch::Sender<u64>,
    /// The newest first.
    transitions: Arc<Mutex<VecDeque<Transition>>>,
}

#[derive(Debug)]
pub(super) struct JudgeTask {
    pub(super) judge: Judge,
    pub(super) observed: mpsc::Receiver<(ServerId, Observation)>,
    pub(super) commanded: mpsc::Receiver<JudgeCommand>,
    pub(super) settings: watch::Sender<JudgeSettings>,
    pub(super) published: Published,
    pub(super) watchers: Watchers,
}

impl Published {
    pub(super) fn new(snapshot: Snapshot, generation: u64) -> Self {
        Published {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            generation: watch::Sender::new(generation),
            transitions: Arc::default(),
        }
    }

    /// The last changes of state, the newest first.
    pub(super) fn transitions(&self) -> Vec<Transition> {
        self.transitions.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn keep(&self, transition: Transition) {
        let mut kept = self.transitions.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(TRANSITIONS_KEPT - 1);
        kept.push_front(transition);
    }
}

impl JudgeTask {
    pub(super) async fn run(mut self) {
        let mut tick_at = TokioInstant::now();
        let mut rest_until = tick_at;
        let mut is_undecided = false;
        loop {
            tokio::select! {
                Some((id, observation)) = self.observed.recv() => {
                    self.judge.take_in(id, observation, Instant::now());
                    is_undecided = true;
                }
                Some(command) = self.commanded.recv() => {
                    self.obey(command);
                    rest_until = TokioInstant::now();
                }
                () = sleep_until(tick_at) => {
                    self.judge.tick(Instant::now());
                    rest_until = TokioInstant::now();
                    tick_at = rest_until + self.judge.settings().tick;
                }
                () = sleep_until(rest_until), if is_undecided => {}
            }
            let began = TokioInstant::now();
            if began < rest_until {
                continue;
            }
            self.decide();
            is_undecided = false;
            let now = TokioInstant::now();
            rest_until = now + rest_after(now.saturating_duration_since(began));
        }
    }

    /// Decides by all that is known, and tells of it.
    fn decide(&mut self) {
        for _ in 0..OBSERVATIONS_AT_ONCE_MAX {
            let Ok((id, observation)) = self.observed.try_recv() else { break };
            self.judge.take_in(id, observation, Instant::now());
        }
        self.judge.refresh(Instant::now());
        while let Some(transition) = self.judge.poll_transition() {
            log(&transition);
            self.published.keep(transition);
        }
        while let Some(notice) = self.judge.poll_notice() {
            log_notice(&notice);
        }
        // Published though no verdict has changed: a moving session may wait for a newer WAL position.
        self.publish();
        let generation = self.judge.generation();
        self.published.generation.send_if_modified(|told| std::mem::replace(told, generation) != generation);
    }

    fn obey(&mut self, command: JudgeCommand) {
        let now = Instant::now();
        match command {
            JudgeCommand::SetAdmin(id, admin) => self.judge.set_admin(id, admin, now),
            JudgeCommand::Reload(settings) => {
                self.settings.send_replace((*settings).clone());
                self.judge.reload(*settings, now);
            }
            JudgeCommand::SetServers(servers, answer) => {
                let change = self.judge.set_servers(servers, now);
                for (id, spec) in &change.came {
                    self.watchers.watch(*id, spec);
                }
                for (id, spec) in self.judge.specs() {
                    self.watchers.respecify(id, spec);
                }
                log_roster(&change);
                self.publish();
                // Who asked may have left, here and below.
                let _unheard = answer.send(change);
            }
            JudgeCommand::Forget(id, answer) => {
                let was_there = self.forget(id, now);
                self.publish();
                let _unheard = answer.send(was_there);
            }
            // Who asked may have left.
            JudgeCommand::Adopt(answer) => _ = answer.send(self.judge.adopt(now)),
        }
    }
}

impl JudgeTask {
    fn publish(&self) {
        self.published.snapshot.store(Arc::new(self.judge.snapshot(Instant::now())));
    }

    fn forget(&mut self, id: ServerId, now: Instant) -> bool {
        let snapshot = self.published.snapshot.load();
        let name = snapshot.server(id).map(|server| Arc::clone(&server.name));
        let was_there = self.judge.forget(id, now);
        if was_there {
            self.watchers.forget(id);
            tracing::info!(target: "trunkline::health", { server.name = name.as_deref() }, "server forgotten");
        }
        was_there
    }
}

/// Logs which servers come and go.
fn log_roster(change: &RosterChange) {
    for (_, ServerSpec { name, host, port, origin, zone, .. }) in &change.came {
        tracing::info!(
            target: "trunkline::health",
            { server.name = %name, server.host = %host, server.port = port, %origin, zone = zone.as_deref() },
            "server joins: it serves when it has passed its checks"
        );
    }
    for (_, name) in &change.leaving {
        tracing::info!(
            target: "trunkline::health",
            { server.name = %name },
            "server leaves: it gets no new sessions, and is forgotten when those it has are gone"
        );
    }
    for (_, name) in &change.stayed {
        tracing::info!(target: "trunkline::health", { server.name = %name }, "server stays after all");
    }
    for name in &change.refused {
        tracing::error!(
            target: "trunkline::health",
            { server.name = %name, most = SERVERS_MAX },
            "no room for another server: take others out first"
        );
    }
}

/// Logs a transition: one line, constant message, values as fields.
fn log(transition: &Transition) {
    let Transition { name, from, to, reason, role, lag, in_sync, .. } = transition;
    let seconds = |of: Option<std::time::Duration>| of.map(|lag| (lag.as_secs_f64() * 1e3).round() / 1e3);
    let est = seconds(lag.map(|lag| lag.est));
    let lo = seconds(lag.map(|lag| lag.lo));
    let hi = seconds(lag.and_then(|lag| lag.hi));
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "trunkline::health",
                %from, %to, %role, server.name = %name, lag_seconds = est, lag_at_least = lo, lag_at_most = hi, in_sync,
                reason = %reason, hint = hint(*from, *to),
                "server changed state"
            )
        };
    }
    match to.severity() {
        LogSeverity::Info => line!(info),
        LogSeverity::Warning => line!(warn),
    }
}

/// What to do about a server that never served: most often it is the configuration that is wrong.
fn hint(from: State, to: State) -> Option<&'static str> {
    matches!((from, to), (State::Unknown, State::Down | State::Fenced)).then_some(
        "`trunkline check --connect` with the same configuration asks every server and says what to do",
    )
}

/// Logs what changes no state.
fn log_notice(notice: &Notice) {
    let Notice { name, kind } = notice;
    match kind {
        NoticeKind::HeldBack { hold, failures, within } => tracing::warn!(
            target: "trunkline::health",
            { server.name = %name, hold_seconds = hold.as_secs_f64(), failures, within_seconds = within.as_secs() },
            "server is held back after repeated failures"
        ),
        NoticeKind::MonitorRefused(failure) => tracing::error!(
            target: "trunkline::health",
            { server.name = %name, %failure },
            "the server refuses the monitoring role: check its password, rights and pg_hba.conf"
        ),
        NoticeKind::Adopted { system, was } => tracing::warn!(
            target: "trunkline::health",
            { server.name = %name, system_identifier = %system, was = was.map(tracing::field::display) },
            "the cluster was re-initialised: its new system identifier is adopted"
        ),
        NoticeKind::MonitorAccepted => tracing::info!(
            target: "trunkline::health",
            { server.name = %name },
            "the server accepts the monitoring role again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use trunkline_topology::Role;

    use super::*;

    #[test]
    fn only_a_server_that_never_served_gets_the_hint() {
        assert!(hint(State::Unknown, State::Down).is_some_and(|hint| hint.contains("check --connect")));
        assert!(hint(State::Unknown, State::Fenced).is_some());
        assert_eq!(hint(State::Unknown, State::Up), None);
        assert_eq!(hint(State::Up, State::Down), None);
    }

    #[test]
    fn a_decision_over_many_servers_is_followed_by_a_rest() {
        assert_eq!(rest_after(QUICK_DECISION), Duration::ZERO);
        assert_eq!(rest_after(Duration::from_millis(1)), Duration::from_millis(4));
        assert_eq!(rest_after(Duration::from_secs(1)), REST_MAX);
    }

    #[test]
    fn the_last_changes_are_kept_and_no_more() {
        let now = Instant::now();
        let judge = Judge::new(JudgeSettings::default(), Vec::new(), now);
        let published = Published::new(judge.snapshot(now), 0);
        let changes = 2 * TRANSITIONS_KEPT;
        for number in 0..changes {
            published.keep(Transition {
                server: ServerId(0),
                name: "replica1".into(),
                from: State::Up,
                to: State::Down,
                reason: number.to_string(),
                role: Role::Standby,
                lag: None,
                in_sync: None,
                at: now,
            });
        }
        let kept: Vec<String> = published.transitions().into_iter().map(|kept| kept.reason).collect();
        let newest: Vec<String> =
            (TRANSITIONS_KEPT..changes).rev().map(|number| number.to_string()).collect();
        assert_eq!(kept, newest);
    }
}
