//! A session whose requests go to standbys or to the primary, each by what it does: `route = "statement"`. It takes turns with
//! others on the connections of its pools, or in session mode on two of its own.
//!
//! A session without a server reads its client's next unit, and chooses by what that does. Until such a unit is answered and its
//! connection given back, nothing more is read of the client: what it sends next may go elsewhere.
//!
//! ```text
//!               reads, and a standby shows enough
//!  Undecided ------------------------------------> OnStandby ---> given back: Undecided
//!   ^   |                                             | the standby leaves it to the primary
//!   |   |  reads, and no standby will do              v
//!   |   |--------------------> ReadOnPrimary       OnPrimary, from its first byte on
//!   |   |  anything else                              |
//!   |   '----------------------------------------> OnPrimary, for as long as it keeps its connection
//!   '---- given back: what standbys must show is raised
//! ```

mod decision;
mod explain;
mod hinted;
mod lost;
mod min_lsn;
mod own;
mod patience;
mod reported;
mod rest;
mod shown;
mod state;
mod target;
mod transaction;
mod waiting;

use std::cell::Cell;
use std::task::{Context, Poll};
use std::time::Instant;

use trunkline_codec::sqlstate::SqlState;
use trunkline_routing::eligible::shows;
use trunkline_routing::{Floor, TargetSessionAttrs};
use trunkline_session::{Hints, NotProven, ReadUnit, RouteHint, ServerRole, TransactionStatus, UnitReading};
use trunkline_telemetry::metrics::RouteReason;
use trunkline_telemetry::statement_log::ShownData;
use trunkline_topology::Snapshot;

use self::decision::{Decision, UnitVisit};
pub(crate) use self::explain::Explainer;
use self::own::{OwnStay, StandbyRest};
use self::patience::WaitPatience;
use self::shown::Standbys;
pub(super) use self::state::Split;
use self::state::{Lesson, SplitSide, UnitPlace, Visit, WithinOn};
use self::target::{ReadTarget, read_target};
use self::waiting::MissingPosition;
use super::attachment::Attachment;
use super::buffer::Chunk;
use super::pooled::Staying;
use super::{Ending, Next, Relay};
use crate::limits::TICK;
use crate::pool::connection::ServerConnection;
use crate::server::take::{ChoiceReason, ReadLeg, UnitLeg};

impl Relay {
    /// Begins to choose a server for each unit, if the session's listener does that.
    pub(super) fn begin_split(&mut self, said: Hints) {
        let criteria = &self.context.criteria;
        let can_take_turns = self.context.relogin.is_some() && self.seat_in_transaction_mode().is_some();
        if !criteria.is_split() || !can_take_turns {
            return;
        }
        self.session.expect_reads();
        self.session.report_positions(said.report_lsn == Some(true));
        let given = self.given_hints(said);
        let now = self.answered_at;
        self.context.split = Some(Box::new(Split {
            attrs: criteria.attrs,
            place: UnitPlace::OnPrimary,
            floor: Floor::default(),
            side: SplitSide::Primary,
            other: Visit { server: None, answered_at: now, chosen_at: now },
            decision: Decision::none(),
            unit: Vec::new(),
            refused: None,
            is_young: false,
            may_change: false,
            reconsidered_at: now,
            failed: Cell::new(None),
            run_on_standbys: [None; state::RUN_ON_STANDBYS_MAX],
            next_run: 0,
            given,
            hints: given,
            proof: RouteReason::Proven,
            came_at: now,
            missing: MissingPosition::Nothing,
            wait: None,
            patience: WaitPatience::default(),
            held: None,
            behind: Vec::new(),
            rest: StandbyRest::default(),
            stay: OwnStay::Stays,
        }));
    }

    /// Reads the client's next unit, and chooses the servers that it may have; `Some` while it is not there.
    pub(super) fn route_unit(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        // What was read behind the last unit is looked at for the first time.
        let is_new = !self.context.split.as_ref()?.behind.is_empty();
        let worker = std::rc::Rc::clone(&self.worker);
        self.read_behind();
        loop {
            let is_again = self.to_server.input.has_read_ahead() && !is_new;
            let mut buffer = worker.buffer.borrow_mut();
            let length = match self.to_server.poll_chunk(cx, &mut self.client, &mut buffer) {
                Poll::Pending => return Some(self.begins_late().unwrap_or(Next::Wait)),
                Poll::Ready(Chunk::Bytes(length)) => length,
                Poll::Ready(Chunk::Eof) => return Some(Next::End(self.say(&[]))),
                Poll::Ready(Chunk::Broken) => return Some(Next::End(Ending::Silent)),
            };
            let chunk = &buffer[..length];
            // A Terminate needs no server.
            if chunk.first() == Some(&b'X') {
                return Some(Next::End(self.say(&[])));
            }
            self.to_server.input.keep(chunk);
            let reading = self.session.read_unit(chunk, &mut worker.known_reads.borrow_mut());
            if reading == UnitReading::Incomplete {
                continue;
            }
            if !is_again {
                // It is read for the first time, whatever it looks like later.
                self.repeats = 0;
                self.unit_comes();
            }
            if let Some(next) = self.answers_unit(cx, chunk, reading) {
                return Some(next);
            }
            self.to_server.input.process_again(Vec::new());
            return match self.hinted(chunk, reading) {
                Ok(reading) => self.choose_side(chunk, reading).or_else(|| {
                    // A connection that is as the session left its last one lacks the transaction.
                    self.held_begin().map(|_begin| self.search(None, Instant::now()))
                }),
                Err(invalid) => Some(self.refuse_hint(&invalid)),
            };
        }
    }

    /// Whether the unit that waits for a primary would go to a standby by now: there is no primary, and meanwhile the catalog is read
    /// on a standby, or one shows enough.
    pub(super) fn reconsiders(&mut self) -> bool {
        if let Some(is_over) = self.is_wait_over() {
            return is_over;
        }
        let now = Instant::now();
        let Some(split) = &mut self.context.split else { return false };
        if !split.may_change {
            return false;
        }
        let is_due = now >= split.reconsidered_at + TICK;
        if is_due {
            split.reconsidered_at = now;
        }
        let next = split.reconsidered_at + TICK;
        self.slot.due_by(next);
        let snapshot = self.worker.shared.health.load();
        if !is_due || snapshot.serving_primary().is_some() {
            return false;
        }
        let unit = self.to_server.input.unprocessed();
        let reading = self.session.read_unit(&unit, &mut self.worker.known_reads.borrow_mut());
        let Ok(reading) = self.hinted(&unit, reading) else { return false };
        matches!(self.judge_unit(&unit, reading, &snapshot), (UnitPlace::OnStandby(_), ..))
    }

    /// `Some` if it is chosen later.
    fn choose_side(&mut self, unit: &[u8], reading: UnitReading) -> Option<Next> {
        let snapshot = self.worker.shared.health.load();
        let (place, leg, reason) = self.judge_unit(unit, reading, &snapshot);
        drop(snapshot);
        if self.begins_wait(place) {
            return Some(self.wait_for_standby());
        }
        let side = if leg == UnitLeg::Any { SplitSide::Primary } else { SplitSide::Standbys };
        self.turn_to(side, leg);
        self.session.ask_standby_first(side == SplitSide::Standbys);
        let is_repeated = self.repeated().is_some();
        let split = self.context.split.as_mut()?;
        let is_again = is_repeated || split.place == UnitPlace::NotRun;
        split.decision.made(reason, if is_again { UnitVisit::Again } else { UnitVisit::First });
        split.may_change = matches!(reading, UnitReading::Reads(_) | UnitReading::Other(NotProven::Unjudged));
        split.reconsidered_at = Instant::now();
        split.place = place;
        split.failed.set(None);
        if let UnitPlace::OnStandby(_) = place {
            // It counts once it has run there.
            split.unit.clear();
            split.unit.extend_from_slice(unit);
        } else {
            split.decision.count(&self.worker.metrics.routed);
        }
        None
    }

    /// Where a unit goes, what is asked of servers for it, and why.
    fn judge_unit(
        &mut self,
        bytes: &[u8],
        reading: UnitReading,
        snapshot: &Snapshot,
    ) -> (UnitPlace, UnitLeg, RouteReason) {
        let now = Instant::now();
        let primarys = |reason| (UnitPlace::OnPrimary, UnitLeg::Any, reason);
        let Some(split) = &mut self.context.split else { return primarys(RouteReason::Unknown) };
        split.missing = MissingPosition::Nothing;
        match split.refused {
            Some(Lesson::Unit(_) | Lesson::Nothing) if *split.unit == *bytes => {
                return primarys(RouteReason::Refused);
            }
            Some(Lesson::Young) if *split.unit == *bytes => {
                split.refused = None;
                return match reading {
                    UnitReading::Reads(unit) => {
                        (UnitPlace::ReadOnPrimary(unit), UnitLeg::Any, RouteReason::Floor)
                    }
                    UnitReading::Incomplete | UnitReading::Other(_) => primarys(RouteReason::Floor),
                };
            }
            Some(_) => split.refused = None,
            None => {}
        }
        let unit = match reading {
            UnitReading::Reads(unit) => unit,
            UnitReading::Incomplete | UnitReading::Other(NotProven::Unknown | NotProven::Unjudged) => {
                return primarys(RouteReason::Unknown);
            }
            UnitReading::Other(NotProven::Settings) => {
                return (UnitPlace::ReadOnPrimary(ReadUnit::OF_SETTINGS), UnitLeg::Any, RouteReason::Unknown);
            }
            UnitReading::Other(NotProven::Transaction) => return primarys(RouteReason::Transaction),
            UnitReading::Other(NotProven::Session) => return primarys(RouteReason::Session),
        };
        let read_there = |reason| (UnitPlace::ReadOnPrimary(unit), UnitLeg::Any, reason);
        let (proof, within) = (split.proof, split.hints.max_staleness);
        let is_left_alone = split.rest.lasts(now) && snapshot.serving_primary().is_some();
        if split.hints.route == Some(RouteHint::Primary) {
            return read_there(RouteReason::Hint);
        }
        let position = match unit.position.map(|position| self.with_min_lsn(position, snapshot)) {
            Some(None) => return read_there(RouteReason::Floor),
            Some(position) => position,
            None => None,
        };
        let floor = self.own_floor(snapshot, now);
        let (learned, positions) = (&self.worker.shared.learned, &self.worker.positions);
        match read_target(ReadUnit { position, ..unit }, floor, within, learned, snapshot, positions) {
            ReadTarget::Learned => primarys(RouteReason::Learned),
            ReadTarget::UndatedCatalog => primarys(RouteReason::Unknown),
            ReadTarget::UnknownFloor => {
                self.misses(MissingPosition::Floor);
                read_there(RouteReason::Floor)
            }
            ReadTarget::Of(..) if is_left_alone => read_there(RouteReason::NoStandby),
            ReadTarget::Of(at_least, Standbys::OneShows(shown_by)) => {
                let leg = UnitLeg::Read(Box::new(ReadLeg { at_least, within, shown_by }));
                (UnitPlace::OnStandby(unit), leg, proof)
            }
            ReadTarget::Of(_, Standbys::NoneUp) => read_there(RouteReason::NoStandby),
            ReadTarget::Of(_, Standbys::NoneFresh) => read_there(RouteReason::Floor),
            ReadTarget::Of(at_least, Standbys::NoneShows(behind)) => {
                self.misses(MissingPosition::Standby(at_least));
                self.ask_behind(behind);
                read_there(RouteReason::Floor)
            }
        }
    }

    /// From here on the session wants servers of this side, and goes on from where it was last among them.
    fn turn_to(&mut self, side: SplitSide, leg: UnitLeg) {
        let Some(split) = &mut self.context.split else { return };
        let attrs = match side {
            SplitSide::Primary => split.attrs,
            SplitSide::Standbys => TargetSessionAttrs::PreferStandby,
        };
        if split.side != side {
            split.side = side;
            let Visit { server, answered_at, chosen_at } = split.other;
            split.other = Visit {
                server: self.context.last,
                answered_at: self.answered_at,
                chosen_at: self.context.chosen_at,
            };
            (self.context.last, self.answered_at, self.context.chosen_at) = (server, answered_at, chosen_at);
            // What was seen on the other side is the floor's matter.
            self.context.left = None;
        }
        self.context.criteria.attrs = attrs;
        self.context.criteria.leg = leg;
        self.context.staying = Staying::Unknown;
    }

    /// The session gets this server in this role: no standby was left for its unit if it is the primary.
    pub(super) fn split_attaches(
        &mut self,
        role: ServerRole,
        server: &ServerConnection,
        choice: ChoiceReason,
    ) {
        if self.context.split.is_none() {
            return;
        }
        let is_young = role == ServerRole::Standby && self.is_younger_than_known(server);
        let Some(split) = &mut self.context.split else { return };
        split.is_young = is_young;
        if let (ServerRole::Standby, UnitLeg::Read(leg)) = (role, &self.context.criteria.leg)
            && self.live.statement_log.is_on()
        {
            let behind_at_most =
                self.worker.shared.health.load().lag_at_most(server.lease.server(), Instant::now());
            split.decision.shows(ShownData { lsn: leg.at_least, behind_at_most });
        }
        split.rest.note(role, choice, Instant::now());
        split.stay = OwnStay::Stays;
        if split.side == SplitSide::Standbys && role == ServerRole::Primary {
            if let UnitPlace::OnStandby(unit) = split.place {
                split.place = UnitPlace::ReadOnPrimary(unit);
                split.decision.made(RouteReason::NoStandby, UnitVisit::Again);
                split.decision.count(&self.worker.metrics.routed);
            }
            self.turn_to(SplitSide::Primary, UnitLeg::Any);
            self.session.ask_standby_first(false);
        }
        self.leaves_own_other(server.lease.server());
        self.notes_effect();
    }

    /// Whether a connection was begun after its standby was last known to show enough: that may have been restarted since, and
    /// show less for a moment.
    fn is_younger_than_known(&self, server: &ServerConnection) -> bool {
        let UnitLeg::Read(leg) = &self.context.criteria.leg else { return false };
        let at_least = leg.at_least;
        let id = server.lease.server();
        let snapshot = self.worker.shared.health.load();
        let looked = snapshot.server(id).filter(|status| shows(&snapshot, status, at_least));
        let looked = looked.and_then(|status| status.asked_at);
        let told = self.worker.positions.of(id).filter(|told| told.lsn >= at_least);
        looked.max(told.map(|told| told.asked_at)).is_none_or(|known| server.since > known)
    }

    /// What is done before the pumps; `None` if they go on. Gives the connection back that has just been taken if it is too young
    /// for the unit, which then goes to the primary: the next look at its server tells more.
    #[inline]
    pub(super) fn chooses_first(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        if self.context.split.is_none() { None } else { self.chooses_before_pumps(cx) }
    }

    /// Whether the client must wait: what it sends next may not go where the present unit goes.
    #[inline]
    pub(super) fn holds_next_unit(&self) -> bool {
        self.context.split.as_ref().is_some_and(|split| match split.place {
            UnitPlace::OnStandby(_) | UnitPlace::ReadOnPrimary(_) | UnitPlace::Within(_) => {
                matches!(self.server, Attachment::Attached(_)) && !self.to_server.input.has_read_ahead()
            }
            UnitPlace::Undecided | UnitPlace::NotRun | UnitPlace::OnPrimary => false,
        })
    }

    /// The session is about to leave its server.
    pub(super) fn unit_ends(&mut self) {
        let is_primary = self.session.server_role() == ServerRole::Primary || self.is_promoted();
        let (shared, now) = (&self.worker.shared, Instant::now());
        let is_begun = self.session.transaction_status() == TransactionStatus::InTransaction;
        let settings = self.session.settings_fingerprint();
        let pool = self.context.seat.as_ref().map(|seat| (seat.id(), self.context.own.digest()));
        let shared_key = |unit| pool.and_then(|pool| Split::shared_key(unit, settings, pool));
        let Some(split) = &mut self.context.split else { return };
        if !matches!(self.server, Attachment::Attached(_)) {
            return;
        }
        // Its next server begins it again, if nothing was done in it.
        split.held = split.held.take().filter(|_| is_begun);
        let failed = split.failed.take();
        let is_answered = self.session.outstanding() == 0;
        if let (UnitPlace::OnStandby(_), false, false) = (split.place, is_primary, is_answered) {
            // The standby is lost: the unit goes on elsewhere, or has failed.
            return;
        }
        let place = std::mem::replace(&mut split.place, UnitPlace::Undecided);
        let has_written = match place {
            UnitPlace::NotRun => {
                split.place = place;
                return;
            }
            // It was promoted meanwhile, and has run it as a primary does.
            UnitPlace::Within(within) => within.on == WithinOn::Standby && is_primary,
            UnitPlace::OnStandby(_) if is_primary => {
                split.decision.count(&self.worker.metrics.routed);
                true
            }
            UnitPlace::OnStandby(unit) => {
                split.decision.count(&self.worker.metrics.routed);
                match failed {
                    None if split.only_reads(unit, settings) => {}
                    None => {
                        split.has_run(unit, settings);
                        let key = shared_key(unit).filter(|key| !shared.run_on_standbys.knows(*key, now));
                        if let Some(key) = key {
                            shared.run_on_standbys.learn(key, now);
                        }
                    }
                    Some(SqlState::READ_ONLY_SQL_TRANSACTION) => shared.learned.learn(unit.key, now),
                    Some(_) => {}
                }
                false
            }
            // No standby was asked whether it writes.
            UnitPlace::ReadOnPrimary(unit) => {
                let is_known = || shared_key(unit).is_some_and(|key| shared.run_on_standbys.knows(key, now));
                !split.only_reads(unit, settings) && !is_known() && !self.session.is_pristine()
            }
            UnitPlace::Undecided | UnitPlace::OnPrimary => {
                if let Some(Lesson::Unit(key)) = split.refused.take()
                    && failed.is_none()
                    && is_answered
                {
                    shared.learned.learn(key, now);
                }
                !self.session.is_pristine()
            }
        };
        if has_written {
            let snapshot = shared.health.load();
            split.floor.raise(&snapshot, now);
            self.ask_primary(&snapshot, place, now);
        } else if matches!(place, UnitPlace::ReadOnPrimary(_)) {
            self.asks_behind_read();
        }
    }
}
