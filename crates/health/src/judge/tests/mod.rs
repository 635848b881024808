//! The judge as a table of situations, on simulated time.

mod aurora;
mod machine;
mod refused;
mod replication;
mod roster;
mod simulation;

use std::time::{Duration, Instant};

use trunkline_codec::ids::{Lsn, SystemIdentifier, TimelineId};
use trunkline_codec::sqlstate::SqlState;

use super::*;
use trunkline_topology::{ExpectedRole, Lag, ServerStatus, State};

pub(super) const TICK: Duration = Duration::from_millis(500);
pub(super) const MAX_LAG: Duration = Duration::from_secs(2);
/// How long a simulated probe takes.
const LATENCY: Duration = Duration::from_millis(2);

pub(super) const PRIMARY: ServerId = ServerId(0);
pub(super) const R1: ServerId = ServerId(1);
pub(super) const R2: ServerId = ServerId(2);

/// A judge, its clock, and what each server would answer.
pub(super) struct Stage {
    pub(super) judge: Judge,
    pub(super) now: Instant,
    pub(super) answers: Vec<Result<RoleFacts, ProbeFailure>>,
    /// Zero where it refuses to tell.
    pub(super) system: Vec<u64>,
    pub(super) refused: Vec<Vec<RefusedFact>>,
    pub(super) membership: Vec<Option<Arc<Membership>>>,
}

impl Stage {
    /// A primary and two standbys, all in sync at LSN 1000, not yet looked at.
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut JudgeSettings)) -> Self {
        let expected = [ExpectedRole::Primary, ExpectedRole::Replica, ExpectedRole::Replica];
        Self::of(expected, change)
    }

    /// The same, of servers with these roles in the configuration.
    pub(super) fn of(expected: [ExpectedRole; 3], change: impl FnOnce(&mut JudgeSettings)) -> Self {
        let now = Instant::now() + Duration::from_secs(3600);
        let mut settings = JudgeSettings::new(MAX_LAG, TICK);
        change(&mut settings);
        let specs = expected.iter().zip(["primary", "replica1", "replica2"]).map(|(&expected_role, name)| {
            let (host, admin) = ("h".to_owned(), AdminState::Ready);
            ServerSpec {
                name: name.to_owned(),
                host,
                port: 5432,
                expected_role,
                weight: 100,
                admin,
                ..ServerSpec::default()
            }
        });
        Stage {
            judge: Judge::new(settings, specs.collect(), now),
            now,
            answers: vec![Ok(primary(1000, 1)), Ok(standby(1000, 1)), Ok(standby(1000, 1))],
            system: vec![7; 3],
            refused: vec![Vec::new(); 3],
            membership: vec![None; 3],
        }
    }

    /// As after a first full tick.
    pub(super) fn started() -> Self {
        let mut stage = Self::new();
        stage.round();
        stage
    }

    pub(super) fn observe(&mut self, id: ServerId, finding: Finding) {
        let sent_at = self.now;
        self.now += LATENCY;
        let observation = Observation { sent_at, received_at: self.now, address: None, finding };
        self.judge.observe(id, observation, self.now);
    }

    /// Asks one server; a server that fails fails logins too.
    pub(super) fn ask(&mut self, id: ServerId) {
        match self.answers[id.index()].clone() {
            Ok(role) => {
                if !self.judge.servers[id.index()].liveness.is_alive() {
                    self.observe(id, Finding::Connected);
                }
                let facts = Facts {
                    role,
                    clock_us: 0,
                    system_identifier: Some(self.system[id.index()])
                        .filter(|system| *system > 0)
                        .map(SystemIdentifier),
                    started_us: None,
                    version: Some(150_000),
                    membership: self.membership[id.index()].clone(),
                    refused: self.refused[id.index()].clone(),
                };
                self.observe(id, Finding::Answered(Box::new(facts)));
            }
            Err(failure) => self.observe(id, Finding::ConnectFailed(failure)),
        }
    }

    /// One tick: every server is asked once.
    pub(super) fn round(&mut self) {
        let until = self.now + TICK;
        for id in [PRIMARY, R1, R2] {
            self.ask(id);
        }
        self.judge.tick(self.now);
        self.now = until;
    }

    pub(super) fn rounds(&mut self, count: u32) {
        (0..count).for_each(|_| self.round());
    }

    pub(super) fn server(&self, id: ServerId) -> ServerStatus {
        self.judge.snapshot(self.now).servers[id.index()].clone()
    }

    #[track_caller]
    pub(super) fn expect(&self, id: ServerId, state: State, reason: &str) {
        let server = self.server(id);
        assert_eq!(server.state, state, "{} is {}: {}", server.name, server.state, server.reason);
        assert!(server.reason.contains(reason), "{}: {:?} lacks {reason:?}", server.name, server.reason);
    }

    pub(super) fn lag(&self, id: ServerId) -> Lag {
        self.server(id).lag.expect("its lag is known")
    }
}

pub(super) fn primary(flush: u64, timeline: u32) -> RoleFacts {
    RoleFacts::Primary(PrimaryFacts {
        flush: Some(Lsn(flush)),
        insert: None,
        timeline: Some(TimelineId(timeline)),
    })
}

pub(super) fn standby(replay: u64, timeline: u32) -> RoleFacts {
    RoleFacts::Standby(standby_facts(replay, timeline))
}

pub(super) fn standby_facts(replay: u64, timeline: u32) -> StandbyFacts {
    StandbyFacts {
        replay: Some(Lsn(replay)),
        receive: Some(Lsn(replay)),
        last_commit_us: None,
        is_paused: Some(false),
        startup: StartupWait::Stream,
        receiver: Receiver::Present { timeline: Some(TimelineId(timeline)), latest_end: None },
        apply_delay: Some(Duration::ZERO),
        told_lag: None,
        estimated_lag: None,
    }
}

pub(super) fn refusal(code: &str) -> ProbeFailure {
    let code = SqlState::parse(code.as_bytes()).expect("a code of five characters");
    ProbeFailure::Refusal { code, message: "no".to_owned() }
}

pub(super) fn timeout() -> ProbeFailure {
    ProbeFailure::TimedOut { phase: ProbePhase::Query, after: Duration::from_millis(400) }
}
