//! What a session remembers whose requests go to standbys or the primary.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Instant;

use trunkline_codec::sqlstate::SqlState;
use trunkline_pool::PoolId;
use trunkline_routing::{Floor, TargetSessionAttrs};
use trunkline_session::{Hints, ReadUnit};
use trunkline_telemetry::metrics::RouteReason;
use trunkline_telemetry::statement_log::StatementRoute;
use trunkline_topology::ServerId;

use super::decision::Decision;
use super::own::{OwnStay, StandbyRest};
use super::patience::WaitPatience;
use super::waiting::{MissingPosition, StandbyWait};

/// What such a session remembers from one unit to the next.
#[derive(Debug)]
pub(in crate::relay) struct Split {
    /// Which servers do for what is not proven to read: the primary.
    pub(super) attrs: TargetSessionAttrs,
    pub(super) place: UnitPlace,
    /// What a standby must show.
    pub(super) floor: Floor,
    pub(super) side: SplitSide,
    /// Where the session was last on the other side.
    pub(super) other: Visit,
    /// Why the present unit goes where it does.
    pub(super) decision: Decision,
    /// The unit that a standby was asked first, from its first byte on.
    pub(super) unit: Vec<u8>,
    /// It was refused there: what is to be learnt if the primary runs it.
    pub(super) refused: Option<Lesson>,
    /// The connection that it has got may show less than is known of its server.
    pub(super) is_young: bool,
    /// The unit perhaps needs no primary.
    pub(super) may_change: bool,
    /// When that was looked at last.
    pub(super) reconsidered_at: Instant,
    /// How the last statement has failed since the unit began.
    pub(super) failed: Cell<Option<SqlState>>,
    /// Units like these have run on a standby, which has not refused them: the last few, each with a fingerprint of the session's
    /// settings, by which it may read from others.
    pub(super) run_on_standbys: [Option<(ReadUnit, u64)>; RUN_ON_STANDBYS_MAX],
    pub(super) next_run: usize,
    /// What was said of its reads before it began.
    pub(super) given: Hints,
    /// What is said of the present unit.
    pub(super) hints: Hints,
    /// Why that may go to a standby, if it may.
    pub(super) proof: RouteReason,
    /// When that has come.
    pub(super) came_at: Instant,
    /// What was missing when no standby was known to show enough for it.
    pub(super) missing: MissingPosition,
    /// It waits for that.
    pub(super) wait: Option<StandbyWait>,
    pub(super) patience: WaitPatience,
    /// The transaction that its client has begun and no server yet.
    pub(super) held: Option<Box<HeldTransaction>>,
    /// What its client has sent behind the unit that its server has.
    pub(super) behind: Vec<u8>,
    /// Since no standby takes the session.
    pub(super) rest: StandbyRest,
    pub(super) stay: OwnStay,
}

/// A transaction whose BEGIN was answered without a server.
#[derive(Debug)]
pub(super) struct HeldTransaction {
    /// The SQL that begins it.
    pub(super) sql: Arc<[u8]>,
    pub(super) since: Instant,
}

/// How many units a session remembers that have run on standbys.
pub(super) const RUN_ON_STANDBYS_MAX: usize = 16;

/// Where the present unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitPlace {
    Undecided,
    OnStandby(ReadUnit),
    /// A standby had it, which has not run it.
    NotRun,
    ReadOnPrimary(ReadUnit),
    OnPrimary,
    /// In a transaction that only reads, the first unit of which has run.
    Within(Within),
}

/// Where a transaction is that only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Within {
    /// Of its first unit.
    pub(super) key: u64,
    pub(super) on: WithinOn,
    pub(super) step: WithinStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithinOn {
    Standby,
    /// No standby would do for its first unit. It has only read so far.
    Primary,
}

/// What is done with what comes next in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithinStep {
    /// It is read as soon as the client sends it.
    Between,
    /// The same, inside a unit.
    Flushed,
    /// Its server has a whole unit, and may not have answered all of it.
    Running,
    /// Since then it waits for the catalog.
    Unjudged(Instant),
}

/// What a refusal teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    /// Such units are the primary's.
    Unit(u64),
    /// The reason may be another one next time.
    Nothing,
    /// The standby was not asked: what its connection shows is not known yet.
    Young,
}

/// What a unit that a standby has not run leaves on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StandbyConnection {
    AsBefore,
    /// Statements that the unit has prepared may be there.
    Changed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SplitSide {
    Primary,
    Standbys,
}

/// Where a session was last, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) server: Option<ServerId>,
    pub(super) answered_at: Instant,
    pub(super) chosen_at: Instant,
}

impl Split {
    /// The key of what all sessions of a pool read alike that have the same settings and defaults.
    pub(super) fn shared_key(unit: ReadUnit, settings: u64, (pool, defaults): (PoolId, u32)) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        (unit.key, unit.epoch, settings, pool, defaults).hash(&mut hasher);
        (unit.reads_tables_alone && !unit.may_call_what_writes).then(|| hasher.finish())
    }

    /// A standby has run this unit under these settings.
    pub(super) fn has_run(&mut self, unit: ReadUnit, settings: u64) {
        if !self.only_reads(unit, settings) && !unit.may_call_what_writes {
            self.run_on_standbys[self.next_run % RUN_ON_STANDBYS_MAX] = Some((unit, settings));
            self.next_run += 1;
        }
    }

    /// Whether the primary runs it without writing, as far as standbys have shown.
    pub(super) fn only_reads(&self, unit: ReadUnit, settings: u64) -> bool {
        let is_it = |(run, under): &(ReadUnit, u64)| {
            run.key == unit.key && run.epoch == unit.epoch && *under == settings
        };
        let has_run = || self.run_on_standbys.iter().flatten().any(is_it);
        unit == ReadUnit::OF_SETTINGS || (!unit.may_call_what_writes && has_run())
    }

    /// Where the present unit goes and why, for the log of its statements.
    pub(in crate::relay) fn route(&self) -> StatementRoute {
        self.decision.route()
    }

    /// How the last statement has failed, to be noted by whoever records it.
    pub(in crate::relay) fn failed(&self) -> &Cell<Option<SqlState>> {
        &self.failed
    }
}
