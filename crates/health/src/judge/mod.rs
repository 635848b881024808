//! The judgement: observations in, verdicts out. No I/O, no clock, no log.
//!
//! ```text
//! Observation -> liveness (does it answer: fall, rise) -> damping (may it return yet)
//!             -> election (which primary, which timeline: the epoch and its LSN clock)
//!             -> standby  (how far behind on that clock, on that timeline)
//!             -> verdict  (the first rule that applies gives state and reason) -> Transition, Snapshot
//! ```

mod adoption;
mod asked;
mod clock;
mod damping;
mod election;
mod epoch;
mod facts;
mod liveness;
mod membership;
mod notice;
mod reason;
mod roster;
mod server;
mod settings;
mod standby;
mod status;
#[cfg(test)]
mod tests;
mod verdict;

pub use adoption::AdoptionRefusal;
pub use asked::{AskedFact, RefusedFact};
pub use facts::{
    Facts, Finding, Observation, PrimaryFacts, ProbeFailure, ProbePhase, Receiver, RoleFacts, SocketTrouble,
    StandbyFacts, StartupWait,
};
pub use membership::{Membership, Storage};
pub use notice::{Notice, NoticeKind};
pub use roster::RosterChange;
pub use settings::{JudgeSettings, LagUnknown, PrimaryUnknown};
pub use status::Transition;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use self::epoch::{Epoch, PrimaryWal};
use self::liveness::LivenessChange;
use self::notice::Notices;
use self::reason::Reason;
use self::roster::ServerSlots;
use self::server::{JudgedServer, LastAnswer, Verdict};
use self::standby::Following;
use self::status::Eligibility;
use crate::SERVERS_MAX;
use trunkline_topology::{AdminState, ServerId, ServerSpec};

/// Transitions kept for [`Judge::poll_transition`]; the oldest go first.
const TRANSITIONS_MAX: usize = 4 * SERVERS_MAX;

/// Judges the servers. Feed it observations and ticks; read transitions and snapshots.
#[derive(Debug)]
pub struct Judge {
    settings: JudgeSettings,
    servers: Vec<JudgedServer>,
    slots: ServerSlots,
    /// None until every server was probed once, or [`Self::elect_first`] waits no longer for some.
    epoch: Option<Epoch>,
    /// When any server was first known to answer, while there is no epoch.
    first_answer_at: Option<Instant>,
    /// The primary's answer that the clock has seen last.
    clocked_at: Option<Instant>,
    transitions: VecDeque<Transition>,
    notices: Notices,
    eligibility: Eligibility,
    generation: u64,
    ticked_at: Instant,
    /// When the monitor was found to have slept: verdicts are stale until every server was observed after it.
    overrun_at: Option<Instant>,
}

impl Judge {
    /// Judges `servers`, of which nothing is known at `now`. Those beyond [`SERVERS_MAX`] are ignored.
    #[must_use]
    pub fn new(settings: JudgeSettings, servers: Vec<ServerSpec>, now: Instant) -> Self {
        let mut slots = ServerSlots::default();
        let number = |spec| Some(JudgedServer::new(slots.take(now)?, spec, now));
        let servers = servers.into_iter().map_while(number).collect();
        Judge {
            settings,
            servers,
            slots,
            epoch: None,
            first_answer_at: None,
            clocked_at: None,
            transitions: VecDeque::new(),
            notices: Notices::default(),
            eligibility: Eligibility::default(),
            generation: 0,
            ticked_at: now,
            overrun_at: None,
        }
    }

    /// Takes in what a look at a server gave, and decides. One of a server that is not there is ignored.
    pub fn observe(&mut self, id: ServerId, observation: Observation, now: Instant) {
        self.take_in(id, observation, now);
        self.refresh(now);
    }

    /// The same without a decision, which looks at every server: [`Self::refresh`] has to follow, once for several.
    pub fn take_in(&mut self, id: ServerId, observation: Observation, now: Instant) {
        let Some(index) = self.position(id) else { return };
        let server = &mut self.servers[index];
        let Observation { sent_at, received_at, address, finding } = observation;
        server.observed_at = Some(received_at);
        if address.is_some() {
            server.address.clone_from(&address);
        }
        let settings = &self.settings;
        let (change, has_answer) = match finding {
            Finding::Answered(facts) => {
                server.answered(LastAnswer { facts: *facts, address, sent_at, received_at });
                server.liveness.answered(now);
                (LivenessChange::None, true)
            }
            Finding::Connected => {
                server.liveness.connected(now);
                (LivenessChange::None, false)
            }
            Finding::ProbeFailed(failure) => (server.liveness.probe_failed(failure, settings, now), false),
            Finding::ConnectFailed(failure) => {
                (server.liveness.connect_failed(failure, settings, now), false)
            }
        };
        if change == LivenessChange::Died {
            server.died();
        }
        self.revive(now);
        self.update_lost(now);
        if has_answer {
            self.judge_claim(index, now);
            self.update_lost(now);
            self.note_standby(index, now);
            self.judge_standby(index, now);
            self.follow_unseen_primary(index, now);
        }
    }

    /// Takes note that time passed. Call every tick.
    pub fn tick(&mut self, now: Instant) {
        let patience = self.settings.tick * 3 + self.settings.probe_timeout;
        if now.saturating_duration_since(self.ticked_at) > patience {
            self.overrun_at = Some(now);
        }
        self.ticked_at = now;
        if let Some(at) = self.overrun_at
            && self.servers.iter().all(|server| server.observed_at.is_some_and(|observed| observed > at))
        {
            self.overrun_at = None;
        }
        self.update_lost(now);
        self.refresh(now);
    }

    /// Tells what the operator wants of a server, until the next [`Self::reload`].
    pub fn set_admin(&mut self, id: ServerId, admin: AdminState, now: Instant) {
        if let Some(index) = self.position(id) {
            self.servers[index].by_hand = Some(admin);
            self.refresh(now);
        }
    }

    /// New settings. What operators have set by hand is over.
    pub fn reload(&mut self, settings: JudgeSettings, now: Instant) {
        self.settings = settings;
        if let Some(epoch) = &mut self.epoch {
            epoch.clock.set_horizon(Epoch::horizon(&self.settings));
        }
        self.servers.iter_mut().for_each(|server| server.by_hand = None);
        self.generation += 1;
        self.refresh(now);
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &JudgeSettings {
        &self.settings
    }

    /// The next change of a state, oldest first.
    pub fn poll_transition(&mut self) -> Option<Transition> {
        self.transitions.pop_front()
    }

    /// The next thing to log that is no change of a state, oldest first.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Grows whenever a state, a role or an eligibility changes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Notes a standby's timeline and position. Before any reading, so that all are read by the same frontier.
    fn note_standby(&mut self, index: usize, now: Instant) {
        let (Some(epoch), server) = (&mut self.epoch, &mut self.servers[index]) else { return };
        let (Some(answer), Some(facts)) = (server.answer.as_ref(), server.standby().copied()) else { return };
        let received_at = answer.received_at;
        if !epoch.takes(server) {
            return;
        }
        standby::note_timeline(server, &facts, epoch, now);
        match standby::following(server, &facts, epoch, &self.settings, now) {
            Following::Yes => {
                let frontier = match (epoch.lost_at, epoch.wal) {
                    (Some(_), _) => Some(standby::frontier(&facts)),
                    // Its own position proves nothing while the primary lives: only what its upstream says does.
                    (None, PrimaryWal::Refused) => standby::upstream(&facts),
                    (None, PrimaryWal::Told) => None,
                };
                if let Some(frontier) = frontier.filter(|_| server.divergence.is_none()) {
                    epoch.clock.push_frontier(received_at, frontier);
                }
            }
            Following::Grace if server.on_newer_since.is_none() => {}
            Following::Grace
            | Following::LeftBehind { .. }
            | Following::Unknown { .. }
            | Following::Branched { .. } => return,
        }
        if let Some(replay) = facts.replay
            && server.unchecked.is_none_or(|(lsn, _)| lsn < replay)
        {
            server.unchecked = Some((replay, received_at));
        }
    }

    /// Reads the clock for a standby's answer and moves its standing.
    fn judge_standby(&mut self, index: usize, now: Instant) {
        let (Some(epoch), server) = (&self.epoch, &mut self.servers[index]) else { return };
        let (Some(answer), Some(facts)) = (server.answer.as_ref(), server.standby()) else { return };
        if !epoch.takes(server) {
            return;
        }
        let reading = standby::read(answer, facts, epoch, &self.settings);
        server.standing = standby::next_standing(server.standing, &reading, epoch, &self.settings, now);
        server.reading = Some(reading);
    }

    /// Decides every server anew and notes what changed.
    pub fn refresh(&mut self, now: Instant) {
        self.elect_first(now);
        self.watch_for_replacement(now);
        self.decide(now);
        // Whoever was held back while another served may be the last that is left.
        while self.revive(now) {
            self.update_lost(now);
            self.decide(now);
        }
        let eligibility = self.eligibility();
        if eligibility != self.eligibility {
            self.eligibility = eligibility;
            self.generation += 1;
        }
    }

    fn decide(&mut self, now: Instant) {
        for index in 0..self.servers.len() {
            let server = &self.servers[index];
            let (state, reason) = verdict::decide(server, self.epoch.as_ref(), &self.settings, now);
            let before = &server.verdict;
            let is_news = state != before.state;
            let (from, since) = (before.state, if state == before.state { before.since } else { now });
            let is_said = matches!(reason, Reason::LoginRefused(_));
            let server = &mut self.servers[index];
            let has_more_to_say = server.liveness.is_alive() && !is_said;
            let warning = server.liveness.refusal().filter(|_| has_more_to_say).cloned();
            let refusals = server.refusals();
            server.verdict = Verdict { state, reason, warning, refusals, since };
            if let Some(kind) = server.refusal_news() {
                self.notices.push(Notice { name: Arc::clone(&server.name), kind });
            }
            if is_news {
                server.entered(from, now);
                let transition = Transition::new(&self.servers[index], from, now);
                if self.transitions.len() >= TRANSITIONS_MAX {
                    self.transitions.pop_front();
                }
                self.transitions.push_back(transition);
            }
        }
    }
}
