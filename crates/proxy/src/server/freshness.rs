//! A session that moves must not see older data than it has seen. Decides which servers show enough.

use std::time::Instant;

use trunkline_codec::ids::Lsn;
use trunkline_health::Health;
use trunkline_routing::Candidate;
use trunkline_routing::eligible::primary_as_fallback;
use trunkline_session::Position;
use trunkline_telemetry::metrics::MoveRefusal;
use trunkline_topology::{ServerId, Snapshot};

use super::align;
use super::connection::ReadyServer;
use super::refused::log_attempt;
use super::take::Search;
use crate::client::messages::ReadError;
use crate::limits::{REPLAY_LOOK, REPLAY_PATIENCE};
use trunkline_reactor::timer;

/// What the next server must show to a session that has been on a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    /// The server that the session was on. It is not tried first.
    pub(crate) from: ServerId,
    /// When that server last answered. The session has not seen what it showed later.
    answered_at: Instant,
    /// The latest WAL position whose changes the session may have seen; `None` while it is unknown.
    seen: Option<Lsn>,
    /// The replay position of that server at the last probe.
    replayed: Option<Lsn>,
    preference: Preference,
}

/// Which of the servers that the session may have is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preference {
    None,
    /// The primary, if it may take the place of a standby.
    Primary,
}

impl Move {
    /// For a session that leaves `from`, or has lost it.
    pub(crate) fn from(health: &Health, from: ServerId, answered_at: Instant) -> Self {
        let snapshot = health.load();
        let seen = snapshot.shown_at_most(from, answered_at);
        if let (None, Some(primary)) = (seen, snapshot.primary) {
            // The answer arrives while the session logs in to another server.
            health.ask_now(primary);
        }
        let replayed = snapshot.server(from).and_then(|status| status.replay_lsn);
        Move { from, answered_at, seen, replayed, preference: Preference::None }
    }

    /// Tries the primary first, if it may take the place of a standby.
    pub(crate) fn prefer_primary(&mut self) {
        self.preference = Preference::Primary;
    }

    /// Asks the server itself, which still answers, what it has shown at most.
    pub(super) fn ask_what_was_seen(&self, health: &Health) {
        if self.seen.is_none() {
            health.ask_now(self.from);
        }
    }

    /// What a server must show at least.
    fn bound(&self, snapshot: &Snapshot) -> SeenPosition {
        match self.seen.or_else(|| snapshot.shown_at_most(self.from, self.answered_at)) {
            Some(lsn) => SeenPosition::Known(lsn),
            None if snapshot.primary_lost_at.is_some() => SeenPosition::Lost,
            None => SeenPosition::Awaited,
        }
    }
}

/// What is known about the data that a session has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeenPosition {
    Known(Lsn),
    /// Unknown until the primary has answered a probe.
    Awaited,
    /// Unknown for good: neither the session's server nor the primary can be asked.
    Lost,
}

impl Search<'_> {
    /// The eligible servers that the session should move to: no server that failed and none that is behind. If all
    /// are behind, the primary where the fallback allows it, and otherwise the most advanced of them.
    pub(super) fn for_moving(
        &self,
        snapshot: &Snapshot,
        mut servers: Vec<Candidate>,
        moving: &Move,
    ) -> Vec<Candidate> {
        servers.retain(|candidate| !self.excluded.contains(&candidate.id));
        if moving.preference == Preference::Primary {
            let primary = self.primary_instead(snapshot);
            if !primary.is_empty() {
                return primary;
            }
        }
        // Behind what the session has seen, its own server is the better one.
        if self.behind.is_empty() || self.is_planned {
            keep_advanced(snapshot, &mut servers, moving.replayed);
            return servers;
        }
        let is_behind = |candidate: &Candidate| self.behind.iter().any(|(server, _)| *server == candidate.id);
        let mut others: Vec<Candidate> = servers.iter().filter(|c| !is_behind(c)).copied().collect();
        if others.is_empty() {
            others = self.primary_instead(snapshot);
        }
        if !others.is_empty() {
            return others;
        }
        let most = self.behind.iter().filter(|(server, _)| servers.iter().any(|c| c.id == *server));
        let most = most.max_by_key(|(_, shown)| *shown).map(|(server, _)| *server);
        servers.retain(|candidate| Some(candidate.id) == most);
        servers
    }

    /// The primary, if it may take the place of a standby and has not failed.
    pub(super) fn primary_instead(&self, snapshot: &Snapshot) -> Vec<Candidate> {
        let shared = &self.worker.shared;
        let rules = self.criteria.rules(&shared.live());
        let mut primary = primary_as_fallback(&rules, snapshot, &shared.attached);
        primary.retain(|candidate| {
            !self.excluded.contains(&candidate.id) && self.can_be_asked(snapshot, candidate.id)
        });
        primary
    }

    /// Whether the server's replay position must be compared with what the session has seen.
    pub(super) fn must_be_fresh(&self) -> bool {
        self.moving.is_some() && !self.criteria.attrs.is_primary_only()
    }

    /// Whether the server, which reported `position`, shows all that the session has seen. It has
    /// [`REPLAY_PATIENCE`] to catch up; after that it is recorded as behind.
    pub(super) async fn is_fresh(
        &mut self,
        taken: &mut ReadyServer,
        mut position: Position,
    ) -> Result<bool, ReadError> {
        let Some(moving) = self.moving else { return Ok(true) };
        let server = taken.server.lease.server();
        // It was chosen although it is behind, so no other server is better.
        let is_best = self.behind.iter().any(|(behind, _)| *behind == server);
        let until = Instant::now() + REPLAY_PATIENCE;
        let mut pause = REPLAY_LOOK;
        // The login is done: the next session may log in.
        self.turn = None;
        loop {
            let Position::UpTo(shown) = position else { return Ok(true) };
            let bound = moving.bound(&self.worker.shared.health.load());
            let is_late = Instant::now() >= until;
            match bound {
                _ if is_best => return Ok(true),
                SeenPosition::Known(seen) if shown >= seen => return Ok(true),
                // Nobody can tell. A session that still has its server stays there, unless that says more.
                SeenPosition::Lost if !self.is_planned => return Ok(true),
                SeenPosition::Awaited if is_late && !self.is_planned => return Ok(true),
                _ if is_late => {
                    log_attempt!(self, info, server.name = %taken.server.name, %shown, seen = ?bound, "server has not replayed what the session has seen");
                    self.behind.push((server, shown));
                    self.refused(server, MoveRefusal::Behind);
                    if self.is_planned {
                        self.excluded.push(server);
                    } else {
                        // The server that the session comes from may be the only one that shows enough.
                        self.excluded.retain(|excluded| *excluded != moving.from);
                    }
                    return Ok(false);
                }
                SeenPosition::Known(_) | SeenPosition::Awaited | SeenPosition::Lost => {}
            }
            timer::sleep(pause).await;
            if let SeenPosition::Known(_) = bound {
                position = align::position(taken).await?;
                // Many sessions may be waiting, and their queries must not slow the replay down.
                pause *= 2;
            }
        }
    }
}

/// Keeps the candidates that have replayed up to `replayed` according to health, or else the most advanced.
fn keep_advanced(snapshot: &Snapshot, servers: &mut Vec<Candidate>, replayed: Option<Lsn>) {
    let position = |candidate: &Candidate| {
        let status = snapshot.server(candidate.id)?;
        status.replay_lsn.or(status.flush_lsn)
    };
    let best = servers.iter().filter_map(position).max();
    if let (Some(replayed), Some(best)) = (replayed, best) {
        let enough = replayed.min(best);
        servers.retain(|candidate| position(candidate).is_some_and(|lsn| lsn >= enough));
    }
}
