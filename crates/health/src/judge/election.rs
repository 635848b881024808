//! Which server is the primary: the part of the judge that moves the epoch.

use std::sync::Arc;
use std::time::Instant;

use trunkline_codec::ids::{SystemIdentifier, TimelineId};

use super::Judge;
use super::epoch::{Claim, Claimant, Epoch, EpochOrigin, HolderLife, PrimaryWal, Support};
use super::facts::Receiver;
use super::liveness::Life;
use super::membership::{Membership, Storage};
use super::server::{JudgedServer, LastAnswer, Standing};
use trunkline_topology::{ExpectedRole, ServerId};

impl Judge {
    /// The first epoch, once every server was looked at: before that a stale primary might win by being first. Servers that
    /// were only discovered, of which more may come all the time, are awaited no longer than a server takes to be found dead.
    pub(super) fn elect_first(&mut self, now: Instant) {
        if self.epoch.is_some() {
            return;
        }
        let mut here = self.servers.iter().filter(|server| !server.is_leaving);
        if here.clone().any(|server| server.liveness.is_alive()) {
            self.first_answer_at.get_or_insert(now);
        }
        let patience = self.settings.connect_timeout * (self.settings.fall + 1);
        let is_over = |since: Instant| now.saturating_duration_since(since) >= patience;
        let is_awaited = |server: &JudgedServer| {
            server.spec.origin.is_operator() || !self.first_answer_at.is_some_and(is_over)
        };
        let is_anybody = here.clone().next().is_some();
        if is_anybody && here.all(|server| is_looked_at(server) || !is_awaited(server)) {
            self.begin(None, now);
        }
    }

    /// Begins with what the servers of the cluster `system` say, or with the newest timeline of any.
    ///
    /// Whoever an operator has named goes before those that were only discovered: a stranger among these must not become
    /// the cluster. Where all are discovered, most of them decide which it is.
    pub(super) fn begin(&mut self, system: Option<SystemIdentifier>, now: Instant) {
        let mut epoch = Epoch::new(&self.settings, EpochOrigin::Found, now);
        let beginners = self.beginners();
        epoch.system = system.or_else(|| self.told_by_most(beginners));
        let best = self
            .servers
            .iter()
            .filter(|server| server.liveness.is_alive() && beginners.includes(server) && epoch.takes(server))
            .filter_map(|server| {
                let timeline = server.primary()?.timeline;
                let is_named = server.membership().is_some_and(Membership::is_writer);
                Some((timeline, is_named, rank(server), std::cmp::Reverse(server.id), server.id))
            })
            .max()
            .map(|(.., id)| id);
        match best {
            Some(id) => {
                self.epoch = Some(epoch);
                self.hold(id, now);
            }
            None => {
                (epoch.system, epoch.timeline) = self.told_by_standbys(&epoch, beginners);
                self.epoch = Some(epoch);
            }
        }
        self.update_lost(now);
        for index in 0..self.servers.len() {
            self.judge_claim(index, now);
            self.note_standby(index, now);
        }
        for index in 0..self.servers.len() {
            self.judge_standby(index, now);
        }
    }

    /// Who may say which cluster it is.
    fn beginners(&self) -> Beginners {
        let is_named = |server: &JudgedServer| server.liveness.is_alive() && server.spec.origin.is_operator();
        if self.servers.iter().any(is_named) { Beginners::NamedByOperators } else { Beginners::All }
    }

    /// Where all servers are discovered: the cluster that most of them are of.
    fn told_by_most(&self, beginners: Beginners) -> Option<SystemIdentifier> {
        if beginners == Beginners::NamedByOperators {
            return None;
        }
        let alive = self.servers.iter().filter(|server| server.liveness.is_alive());
        let told: Vec<_> = alive.filter_map(JudgedServer::system).collect();
        let votes = |system: &SystemIdentifier| told.iter().filter(|other| *other == system).count();
        // Of two that as many are of, that of the server which was there first.
        told.iter().rev().max_by_key(|system| votes(system)).copied()
    }

    /// Without a primary: what the standbys say of the cluster that `epoch` begins with.
    fn told_by_standbys(
        &self,
        epoch: &Epoch,
        beginners: Beginners,
    ) -> (Option<SystemIdentifier>, Option<TimelineId>) {
        let standbys = || {
            let alive = self.servers.iter().filter(|server| server.liveness.is_alive());
            let of_cluster = alive.filter(|server| beginners.includes(server) && epoch.takes(server));
            of_cluster.filter(|server| server.standby().is_some())
        };
        let system = epoch.system.or_else(|| standbys().find_map(JudgedServer::system));
        let timeline = standbys()
            .filter_map(|server| match server.standby()?.receiver {
                Receiver::Present { timeline, .. } => timeline,
                Receiver::Absent | Receiver::Hidden | Receiver::Refused => None,
            })
            .max();
        (system, timeline)
    }

    /// What a server that is not in recovery is; a successor starts the next epoch.
    pub(super) fn judge_claim(&mut self, index: usize, now: Instant) {
        let Some(epoch) = &self.epoch else { return };
        let server = &self.servers[index];
        let Some(facts) = server.primary().copied() else {
            let server = &mut self.servers[index];
            (server.claim, server.was_rogue, server.contends_since) = (None, false, None);
            return;
        };
        let claimant = Claimant {
            id: server.id,
            identity: server.identity(),
            timeline: facts.timeline,
            origin: &server.spec.origin,
            expected: server.spec.expected_role,
            was_rogue: server.was_rogue,
            support: match facts.timeline {
                Some(timeline) => self.support(server.id, timeline),
                None => self.named_by(server),
            },
            contends_since: server.contends_since,
        };
        let claim = match self.twin(server) {
            // One that leaves is followed to where it is wanted, and is no second primary meanwhile.
            Some(holder) if holder.is_leaving && !server.is_leaving => {
                let id = server.id;
                return self.hold(id, now);
            }
            Some(_) => Claim::Twin,
            None => epoch.claim(&claimant, self.holder_life(), &self.settings, now),
        };
        let is_new_holder = claim == Claim::Holder && !epoch.is_held_by(claimant.id);
        let id = claimant.id;
        match claim {
            Claim::Holder if is_new_holder => self.hold(id, now),
            Claim::Successor => {
                let mut next = Epoch::new(&self.settings, EpochOrigin::Failover, now);
                next.system = epoch.system;
                self.epoch = Some(next);
                self.servers.iter_mut().for_each(|server| server.unchecked = None);
                self.hold(id, now);
            }
            Claim::Holder
            | Claim::Twin
            | Claim::Rogue
            | Claim::Contender
            | Claim::OtherSystem
            | Claim::OldTimeline
            | Claim::Second => {
                let server = &mut self.servers[index];
                server.claim = Some(claim);
                server.was_rogue |= claim == Claim::Rogue;
                let contends = claim == Claim::Contender;
                server.contends_since = contends.then(|| server.contends_since.unwrap_or(now));
            }
        }
        if self.epoch.as_ref().is_some_and(|epoch| epoch.is_held_by(id)) {
            self.advance_clock(index);
        }
    }

    /// The primary, if `server` is that very postmaster at another place: under a new address, or under two names.
    fn twin(&self, server: &JudgedServer) -> Option<&JudgedServer> {
        let holder = self.epoch.as_ref()?.holder.filter(|id| *id != server.id)?;
        let holder = self.server(holder)?;
        let run = |server: &JudgedServer| {
            let facts = &server.answer.as_ref()?.facts;
            Some((facts.system_identifier?, facts.started_us?))
        };
        let is_one = run(holder).is_some() && run(holder) == run(server);
        Some(holder).filter(|_| is_one && self.holder_life() == HolderLife::Serving)
    }

    /// How many of the other standbys follow a server that was promoted to `timeline`.
    fn support(&self, id: ServerId, timeline: TimelineId) -> Support {
        let epoch = self.epoch.as_ref();
        let is_foreign = |server: &JudgedServer| epoch.is_some_and(|epoch| !epoch.takes(server));
        let (mut all, mut following) = (0_usize, 0_usize);
        for server in &self.servers {
            let Some(facts) = server.standby().filter(|_| server.liveness.is_alive()) else { continue };
            if server.id == id || is_foreign(server) {
                continue;
            }
            all += 1;
            if let Receiver::Present { timeline: Some(theirs), .. } = facts.receiver {
                following += usize::from(theirs >= timeline);
            }
        }
        Support::of(following, all)
    }

    /// How many of the other instances of a managed cluster say that `claimant` is the writer.
    fn named_by(&self, claimant: &JudgedServer) -> Support {
        let Some(own) = claimant.membership().map(|membership| &membership.own) else { return Support::Few };
        let is_ours = |server: &&JudgedServer| self.epoch.as_ref().is_none_or(|epoch| epoch.takes(server));
        let others = self.servers.iter().filter(|other| other.id != claimant.id && other.liveness.is_alive());
        let others = others.filter(is_ours);
        let named = others.filter_map(|other| other.membership()?.writer.as_ref());
        let (mut all, mut naming) = (0, 0);
        for writer in named {
            all += 1;
            naming += usize::from(writer == own);
        }
        Support::of(naming, all)
    }

    /// Makes `id` the primary of the epoch.
    fn hold(&mut self, id: ServerId, now: Instant) {
        let twin = self.server(id).and_then(|server| self.twin(server)).map(|holder| holder.id);
        let Some(epoch) = &mut self.epoch else { return };
        for server in &mut self.servers {
            match server.claim {
                Some(Claim::Holder) if server.is_leaving && Some(server.id) == twin => {
                    server.claim = Some(Claim::Twin);
                }
                Some(Claim::Holder | Claim::Twin) => {
                    server.claim = server.primary().map(|_| Claim::OldTimeline);
                }
                Some(_) | None => {}
            }
        }
        let Some(server) = self.servers.iter_mut().find(|server| server.id == id) else { return };
        let Some(facts) = server.primary().copied() else { return };
        epoch.holder = Some(id);
        epoch.held_since = now;
        epoch.timeline = facts.timeline;
        epoch.system =
            epoch.system.or(server.answer.as_ref().and_then(|answer| answer.facts.system_identifier));
        epoch.first = facts.flush;
        epoch.lost_at = None;
        server.claim = Some(Claim::Holder);
        server.contends_since = None;
    }

    /// Feeds the primary's answer to the clock, and compares the standbys' positions with it.
    fn advance_clock(&mut self, index: usize) {
        let (Some(epoch), Some(answer)) = (&mut self.epoch, &self.servers[index].answer) else { return };
        let Some(facts) = self.servers[index].primary().copied() else { return };
        let LastAnswer { sent_at, received_at, .. } = *answer;
        if self.clocked_at == Some(received_at) {
            return;
        }
        self.clocked_at = Some(received_at);
        epoch.clock_offset_us = Some(clock_offset_us(epoch.started_at, sent_at, answer.facts.clock_us));
        epoch.timeline = epoch.timeline.or(facts.timeline);
        epoch.system = epoch.system.or(answer.facts.system_identifier);
        let told = &answer.facts.membership;
        let is_settled = |of: &Option<Arc<Membership>>| of.as_ref().is_some_and(|of| of.writer.is_some());
        // An answer without a writer, as in the middle of a failover, says nothing new of who belongs together.
        if is_settled(told) || !is_settled(&epoch.membership) {
            epoch.membership.clone_from(told);
        }
        let shares_storage =
            epoch.membership.as_ref().is_some_and(|membership| membership.storage == Storage::Shared);
        let told = match facts.flush {
            Some(_) => PrimaryWal::Told,
            None => PrimaryWal::Refused,
        };
        if std::mem::replace(&mut epoch.wal, told) != told {
            // What was proven by one kind of position is not by the other.
            epoch.clock.forget_all();
            for server in &mut self.servers {
                (server.standing, server.reading) = (Standing::Unproven, None);
            }
        }
        let Some(flush) = facts.flush else { return };
        epoch.clock.push_primary(sent_at, received_at, flush);
        if shares_storage {
            // Nothing can diverge that all have in common.
            return;
        }
        for server in &mut self.servers {
            if let Some((replay, reported_at)) = server.unchecked
                && reported_at <= sent_at
            {
                server.unchecked = None;
                if replay > flush {
                    server.divergence = Some((replay, flush));
                }
            }
        }
    }

    /// A standby follows a timeline newer than any primary seen, and the old primary is gone: reads go on there.
    pub(super) fn follow_unseen_primary(&mut self, index: usize, now: Instant) {
        let Some(epoch) = &self.epoch else { return };
        let Some((timeline, since)) = self.servers[index].on_newer_since else { return };
        let is_settled =
            now.saturating_duration_since(since) >= self.settings.tick + self.settings.probe_timeout;
        let is_rogues = self.servers.iter().any(|server| server.was_rogue);
        if epoch.lost_at.is_none() || !is_settled || is_rogues {
            return;
        }
        let mut next = Epoch::new(&self.settings, EpochOrigin::Failover, now);
        (next.system, next.timeline, next.lost_at) = (epoch.system, Some(timeline), Some(now));
        self.epoch = Some(next);
        for server in &mut self.servers {
            (server.unchecked, server.on_newer_since) = (None, None);
        }
    }

    /// Whether the primary answers.
    pub(super) fn holder_life(&self) -> HolderLife {
        let holder = self.epoch.as_ref().and_then(|epoch| epoch.holder);
        match holder.and_then(|id| self.server(id)) {
            Some(server) if server.is_serving_as_primary() => HolderLife::Serving,
            Some(_) | None => HolderLife::Gone,
        }
    }

    pub(super) fn update_lost(&mut self, now: Instant) {
        let life = self.holder_life();
        if let Some(epoch) = &mut self.epoch {
            match life {
                HolderLife::Serving => epoch.lost_at = None,
                HolderLife::Gone => _ = epoch.lost_at.get_or_insert(now),
            }
        }
    }
}

/// Who may say which cluster it is, before that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginners {
    /// Those that an operator has named, of which there are some that answer.
    NamedByOperators,
    /// All, as none of those answers.
    All,
}

impl Beginners {
    fn includes(self, server: &JudgedServer) -> bool {
        match self {
            Self::NamedByOperators => server.spec.origin.is_operator(),
            Self::All => true,
        }
    }
}

/// Whether enough is known of a server to choose the primary without it.
fn is_looked_at(server: &JudgedServer) -> bool {
    match server.liveness.life() {
        Life::Alive => server.answer.is_some(),
        Life::Dead { .. } => true,
        Life::Unseen(_) => server.liveness.refusal().is_some() || server.liveness.is_saturated,
    }
}

fn rank(server: &JudgedServer) -> u8 {
    match server.spec.expected_role {
        ExpectedRole::Replica => 0,
        ExpectedRole::Any => 1,
        ExpectedRole::Primary => 2,
    }
}

/// What the server's clock showed at `base`, if it read `clock_us` when the question was sent.
fn clock_offset_us(base: Instant, sent: Instant, clock_us: i64) -> i128 {
    let micros = |d: std::time::Duration| i128::try_from(d.as_micros()).unwrap_or(i128::MAX);
    let elapsed = if sent >= base { micros(sent - base) } else { -micros(base - sent) };
    i128::from(clock_us).saturating_sub(elapsed)
}
