//! A read that waits for a standby which shows enough: a moment, or with `read_your_writes = "wait"` as long as its listener says.
//!
//! It has no server meanwhile, as if it searched for one. Whatever a server tells is looked at when it comes, and servers are
//! asked again ever less often.

use std::rc::Rc;
use std::time::{Duration, Instant};

use trunkline_codec::ids::Lsn;
use trunkline_reactor::timer;
use trunkline_routing::{FloorPosition, WaitEnd};
use trunkline_session::ReadYourWrites;
use trunkline_topology::{ServerId, Snapshot};

use super::min_lsn::MinLsnMeaning;
use super::patience::ReadNews;
use super::shown::{Standbys, standbys};
use super::state::{Split, UnitPlace};
use crate::context::Worker;
use crate::limits::{MIN_LSN_PATIENCE, NEW_READ_WAIT, STANDBY_ASKED_AGAIN, STANDBY_ASKED_SELDOM};
use crate::relay::attachment::{Attachment, Taking};
use crate::relay::{Next, Relay};
use crate::server::connection::ReadyServer;
use crate::server::positions::{AskedPosition, ask_for_position};
use crate::server::take::TakeError;

/// What has to be known, or to happen, before a standby may have the unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MissingPosition {
    /// Nothing that a wait could bring.
    #[default]
    Nothing,
    /// Where the primary wrote when the session had written.
    Floor,
    /// A standby that shows this.
    Standby(Lsn),
    /// Where the primary writes by now: the client wants a position that may be beyond that.
    Written,
}

/// A wait for that.
#[derive(Clone, Copy, Debug)]
pub(super) struct StandbyWait {
    news: ReadNews,
    since: Instant,
    until: Instant,
    /// When servers are asked again.
    ask_at: Instant,
    pause: Duration,
}

impl Split {
    /// What becomes of reads.
    fn read_your_writes(&self, listener: ReadYourWrites) -> ReadYourWrites {
        self.hints.read_your_writes.unwrap_or(listener)
    }
}

impl Relay {
    /// Another unit has come.
    pub(super) fn unit_comes(&mut self) {
        if let Some(split) = &mut self.context.split {
            split.wait = None;
            split.came_at = Instant::now();
            if split.place == UnitPlace::NotRun {
                // The last one has failed with its server.
                split.place = UnitPlace::Undecided;
            }
        }
    }

    /// This was missing for the present unit.
    pub(super) fn misses(&mut self, what: MissingPosition) {
        if let Some(split) = &mut self.context.split {
            split.missing = what;
        }
    }

    /// What the session has written that the present unit must see.
    pub(super) fn own_floor(&mut self, snapshot: &Snapshot, now: Instant) -> FloorPosition {
        let listener = self.context.criteria.listener.settings.options.read_your_writes;
        let Some(split) = &mut self.context.split else { return FloorPosition::Unknown };
        if split.read_your_writes(listener) == ReadYourWrites::Off {
            return FloorPosition::Any;
        }
        if let Some((primary, told)) =
            snapshot.primary.and_then(|id| Some((id, self.worker.positions.of(id)?)))
        {
            split.floor.told(primary, told.asked_at, told.lsn);
        }
        split.floor.position(snapshot, now)
    }

    /// Whether the unit, which goes to this place now, waits for a standby instead, as none shows enough.
    pub(super) fn begins_wait(&mut self, place: UnitPlace) -> bool {
        let options = &self.context.criteria.listener.settings.options;
        let (listener, limit) = (options.read_your_writes, options.read_your_writes_wait);
        let news = self.news_of(place);
        let Some(split) = &mut self.context.split else { return false };
        let now = Instant::now();
        let limit = match split.missing {
            MissingPosition::Nothing => Duration::ZERO,
            MissingPosition::Written => MIN_LSN_PATIENCE,
            MissingPosition::Floor | MissingPosition::Standby(_) => match split.read_your_writes(listener) {
                ReadYourWrites::Wait => limit,
                ReadYourWrites::Session => match split.wait {
                    Some(StandbyWait { until, .. }) => {
                        until.saturating_duration_since(split.came_at).min(NEW_READ_WAIT)
                    }
                    None => split.patience.limit(news, now),
                },
                ReadYourWrites::Off => Duration::ZERO,
            },
        };
        // It has had this since it came.
        let until = split.came_at + limit;
        if now >= until {
            self.ends_wait(place, now);
            return false;
        }
        let (since, pause) = (now, STANDBY_ASKED_AGAIN);
        let first = StandbyWait { news, since, until, ask_at: now + pause, pause };
        split.wait.get_or_insert(first).until = until;
        true
    }

    /// The unit goes to this place, and has perhaps waited.
    fn ends_wait(&mut self, place: UnitPlace, now: Instant) {
        let Some(split) = &mut self.context.split else { return };
        if let Some(StandbyWait { news, since, .. }) = split.wait.take() {
            let how = match place {
                UnitPlace::OnStandby(_) => WaitEnd::Shown,
                _primarys => WaitEnd::InVain,
            };
            split.patience.waited(news, since, now, how);
        }
        if split.missing == MissingPosition::Floor {
            let since = split.floor.awaited_since().unwrap_or(now);
            self.ask_primary(&self.worker.shared.health.load(), UnitPlace::Undecided, since);
        }
    }

    /// Has the primary asked where it wrote when the session had written, for a unit that waits for that. A connection of the
    /// session's own is of no other use meanwhile.
    fn ask_written(&self, snapshot: &Snapshot, now: Instant) {
        let since = self.context.split.as_ref().and_then(|split| split.floor.awaited_since());
        if let Some(primary) = snapshot.primary {
            self.ask_position(primary, AskedPosition::Insert, Some(since.unwrap_or(now)));
        }
    }

    /// Has standbys asked that are not known to show enough.
    pub(super) fn ask_behind(&self, behind: Vec<ServerId>) {
        behind.into_iter().for_each(|standby| self.ask_position(standby, AskedPosition::Replay, None));
    }

    /// Waits, for as long as [`Self::is_wait_over`] does not say that it is over.
    pub(super) fn wait_for_standby(&mut self) -> Next {
        let now = Instant::now();
        let wait = self.context.split.as_ref().and_then(|split| split.wait);
        let until = wait.map_or(now, |wait| wait.until);
        if self.context.split.as_ref().is_some_and(|split| split.missing == MissingPosition::Floor) {
            self.ask_written(&self.worker.shared.health.load(), now);
        }
        let search = Box::pin(wake_at_news(Rc::clone(&self.worker), until));
        self.server = Attachment::Taking(Box::new(Taking { search, since: now }));
        Next::Again
    }

    /// Whether the unit is to be judged again, if it waits; or judged at all, if a server is sought for a transaction in which the
    /// client has asked for nothing before.
    pub(super) fn is_wait_over(&mut self) -> Option<bool> {
        if self.begins_unasked() && self.client.may_read() {
            return Some(true);
        }
        let now = Instant::now();
        let split = self.context.split.as_mut()?;
        let wait = split.wait.as_mut()?;
        if now >= wait.until {
            return Some(true);
        }
        let is_due = now >= wait.ask_at;
        if is_due {
            wait.pause = (wait.pause * 2).min(STANDBY_ASKED_SELDOM);
            wait.ask_at = now + wait.pause;
        }
        let (missing, within) = (split.missing, split.hints.max_staleness);
        let snapshot = self.worker.shared.health.load_full();
        Some(match missing {
            MissingPosition::Nothing => true,
            MissingPosition::Floor => {
                let is_known = self.own_floor(&snapshot, now) != FloorPosition::Unknown;
                if is_due && !is_known {
                    self.ask_written(&snapshot, now);
                }
                is_known
            }
            MissingPosition::Written => {
                let is_known = self.min_lsn(&snapshot) != Some(MinLsnMeaning::Awaited);
                if is_due && !is_known {
                    self.ask_primary(&snapshot, UnitPlace::Undecided, now);
                }
                is_known
            }
            MissingPosition::Standby(at_least) => {
                match standbys(&snapshot, &self.worker.positions, at_least, within) {
                    Standbys::OneShows(_) | Standbys::NoneUp | Standbys::NoneFresh => true,
                    Standbys::NoneShows(behind) => {
                        if is_due {
                            self.ask_behind(behind);
                        }
                        false
                    }
                }
            }
        })
    }

    /// Has the primary asked where it writes, at `since` or later, since a unit has ended there that was at this place. A connection
    /// of the session's own is left for what it writes next: it is asked on once the session reads.
    pub(super) fn ask_primary(&self, snapshot: &Snapshot, ended: UnitPlace, since: Instant) {
        let Some(primary) = snapshot.primary else { return };
        if self.has_own_connections() && !matches!(ended, UnitPlace::ReadOnPrimary(_)) {
            self.worker.shared.health.ask_now(primary);
        } else {
            self.ask_position(primary, AskedPosition::Insert, Some(since));
        }
    }

    pub(super) fn ask_position(&self, server: ServerId, what: AskedPosition, since: Option<Instant>) {
        if let Some(seat) = self.seat_in_transaction_mode() {
            ask_for_position(&self.worker, seat, self.context.carried, (server, what), since);
        }
    }
}

/// Wakes its task, without an end, whenever a server has told something, when it is time to ask again, and at the end of the wait.
async fn wake_at_news(worker: Rc<Worker>, until: Instant) -> Result<ReadyServer, TakeError> {
    let mut pause = STANDBY_ASKED_AGAIN;
    loop {
        let now = Instant::now();
        let next = (now + pause).min(until).max(now + STANDBY_ASKED_AGAIN);
        // Either is a reason to look.
        let _news = timer::timeout_at(next, worker.positions.told()).await;
        pause = (pause * 2).min(STANDBY_ASKED_SELDOM);
    }
}
