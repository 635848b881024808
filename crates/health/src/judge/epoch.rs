//! Which primary, on which timeline, is the truth.
//!
//! An epoch is one timeline of one cluster. A failover starts the next one: positions of the two cannot be
//! compared, so each has its own clock.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_codec::ids::{Lsn, SystemIdentifier, TimelineId};

use super::adoption::Replacement;
use super::clock::LsnClock;
use super::membership::{ClusterIdentity, Membership, Storage};
use super::server::JudgedServer;
use super::settings::JudgeSettings;
use trunkline_topology::{ExpectedRole, Origin, ServerId};

/// The clock remembers this many times `max_lag`, and at least [`HORIZON_MIN`].
const HORIZON_LAGS: u32 = 10;
/// The clock remembers at least this long.
const HORIZON_MIN: Duration = Duration::from_secs(120);

/// One timeline of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Epoch {
    pub(super) system: Option<SystemIdentifier>,
    /// `None` while no primary was seen and no standby said.
    pub(super) timeline: Option<TimelineId>,
    /// The primary. It stays so while it is down.
    pub(super) holder: Option<ServerId>,
    pub(super) held_since: Instant,
    pub(super) clock: LsnClock,
    pub(super) started_at: Instant,
    /// The primary's position when the epoch began.
    pub(super) first: Option<Lsn>,
    pub(super) origin: EpochOrigin,
    /// Since when the primary does not answer.
    pub(super) lost_at: Option<Instant>,
    /// The cluster that has taken this one's place, as it seems.
    pub(super) replacement: Option<Replacement>,
    /// What the primary says of a managed cluster.
    pub(super) membership: Option<Arc<Membership>>,
    /// Whether the primary tells its position.
    pub(super) wal: PrimaryWal,
    /// What the primary's clock showed at `started_at`, in microseconds since 1970; at most a round trip too late.
    pub(super) clock_offset_us: Option<i128>,
}

/// Whether a primary tells its WAL position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrimaryWal {
    /// It does, or has not answered yet.
    Told,
    /// It refuses to: standbys are compared with what their upstreams tell them.
    Refused,
}

/// How an epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EpochOrigin {
    /// It was there when the watching began.
    Found,
    /// A failover was seen.
    Failover,
}

/// What a server that is not in recovery is to an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The primary.
    Holder,
    /// The primary's own postmaster, at another place.
    Twin,
    /// A new primary: its epoch begins.
    Successor,
    /// Promoted, though configured as a replica, while the primary lives.
    Rogue,
    /// Promoted while the primary lives, and the other standbys do not follow it.
    Contender,
    /// Of another cluster.
    OtherSystem,
    /// A primary left behind by a failover.
    OldTimeline,
    /// A second primary on one timeline.
    Second,
}

/// A server that is not in recovery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimant<'a> {
    pub(super) id: ServerId,
    pub(super) identity: ClusterIdentity<'a>,
    pub(super) timeline: Option<TimelineId>,
    /// Who says that it is there.
    pub(super) origin: &'a Origin,
    pub(super) expected: ExpectedRole,
    pub(super) was_rogue: bool,
    pub(super) support: Support,
    /// Since when it has been a primary beside this one.
    pub(super) contends_since: Option<Instant>,
}

/// What the standbys show of a server that was promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// No other standby answers.
    NoWitness,
    /// More than half of them follow its timeline.
    Most,
    /// They do not.
    Few,
}

impl Support {
    /// Of so many witnesses.
    pub(super) fn of(following: usize, all: usize) -> Self {
        match all {
            0 => Support::NoWitness,
            all if following * 2 > all => Support::Most,
            _ => Support::Few,
        }
    }
}

impl Epoch {
    /// How far back the clock must remember to prove a lag beyond the limit.
    pub(super) fn horizon(settings: &JudgeSettings) -> Duration {
        settings.max_lag.saturating_mul(HORIZON_LAGS).max(HORIZON_MIN)
    }

    pub(super) fn new(settings: &JudgeSettings, origin: EpochOrigin, now: Instant) -> Self {
        Epoch {
            system: None,
            timeline: None,
            holder: None,
            held_since: now,
            clock: LsnClock::new(Self::horizon(settings)),
            started_at: now,
            first: None,
            origin,
            lost_at: None,
            replacement: None,
            membership: None,
            wal: PrimaryWal::Told,
            clock_offset_us: None,
        }
    }

    /// Whether `id` is the primary.
    pub(super) fn is_held_by(&self, id: ServerId) -> bool {
        self.holder == Some(id)
    }

    /// By what this cluster is known.
    fn identity(&self) -> ClusterIdentity<'_> {
        ClusterIdentity { system: self.system, membership: self.membership.as_deref() }
    }

    /// Whether a server of this identity is known not to be of this cluster.
    pub(super) fn is_foreign(&self, theirs: &ClusterIdentity<'_>) -> bool {
        self.identity().is_foreign_to(theirs)
    }

    /// Whether a server may be taken for one of this cluster: an operator's word is enough, a discovery's is not.
    pub(super) fn recognises(&self, theirs: &ClusterIdentity<'_>, origin: &Origin) -> bool {
        let ours = self.identity();
        match origin {
            Origin::Configured | Origin::Added => true,
            Origin::Discovered(_) if ours.is_known() => ours.is_comparable_to(theirs),
            Origin::Discovered(_) => self.holder.is_none() && theirs.is_known(),
        }
    }

    /// Whether a server counts as one of this cluster.
    pub(super) fn takes(&self, server: &JudgedServer) -> bool {
        let theirs = server.identity();
        !self.is_foreign(&theirs) && self.recognises(&theirs, &server.spec.origin)
    }

    /// Whether standbys may still be on their way to this timeline.
    pub(super) fn is_in_grace(&self, settings: &JudgeSettings, now: Instant) -> bool {
        self.origin == EpochOrigin::Failover
            && now.saturating_duration_since(self.started_at) < settings.failover_grace
    }

    /// Whether a server was promoted by mistake, as it seems: it contended for longer than a failover takes, and the
    /// primary is gone for so short a time that it may only be restarting.
    fn is_mistaken(&self, claimant: &Claimant<'_>, grace: Duration, now: Instant) -> bool {
        let (Some(since), Some(lost_at)) = (claimant.contends_since, self.lost_at) else { return false };
        lost_at.saturating_duration_since(since) >= grace && now.saturating_duration_since(lost_at) < grace
    }

    /// What a server that is not in recovery is, while the holder serves as a primary or not.
    ///
    /// A newer timeline wins, but for two exceptions: a server configured as a replica waits until the primary is gone,
    /// and any other until most of the standbys follow it or the primary is gone.
    pub(super) fn claim(
        &self,
        claimant: &Claimant<'_>,
        holder: HolderLife,
        settings: &JudgeSettings,
        now: Instant,
    ) -> Claim {
        if self.is_foreign(&claimant.identity) || !self.recognises(&claimant.identity, claimant.origin) {
            return Claim::OtherSystem;
        }
        let is_holder = self.is_held_by(claimant.id);
        let is_vacant = is_holder || self.holder.is_none() || holder == HolderLife::Gone;
        let (Some(timeline), Some(theirs)) = (self.timeline, claimant.timeline) else {
            return self.claim_without_timelines(claimant, is_vacant);
        };
        match theirs.cmp(&timeline) {
            Ordering::Less => Claim::OldTimeline,
            Ordering::Equal if is_vacant => Claim::Holder,
            Ordering::Equal => Claim::Second,
            Ordering::Greater if is_holder => Claim::Successor,
            Ordering::Greater if claimant.was_rogue => Claim::Rogue,
            Ordering::Greater if !is_vacant && claimant.expected == ExpectedRole::Replica => Claim::Rogue,
            Ordering::Greater if claimant.support != Support::Few => Claim::Successor,
            Ordering::Greater if !is_vacant || self.is_mistaken(claimant, settings.failover_grace, now) => {
                Claim::Contender
            }
            Ordering::Greater => Claim::Successor,
        }
    }
}

impl Epoch {
    /// The same where there are no timelines to compare: on Aurora, or where a server refuses to tell. One that was
    /// promoted beside the primary is the primary once that is gone, or most others name it.
    fn claim_without_timelines(&self, claimant: &Claimant<'_>, is_vacant: bool) -> Claim {
        let membership = claimant.identity.membership;
        let names_another = membership.is_some_and(|told| told.writer.is_some() && !told.is_writer());
        // There, no second writer can write: it is never a mistake.
        let is_fenced_by_storage = membership.is_some_and(|told| told.storage == Storage::Shared);
        let is_replica = claimant.expected == ExpectedRole::Replica && !is_fenced_by_storage;
        if self.is_held_by(claimant.id) {
            Claim::Holder
        } else if names_another {
            Claim::Second
        } else if self.holder.is_none() {
            Claim::Holder
        } else if claimant.was_rogue || is_replica && !is_vacant {
            Claim::Rogue
        } else if is_vacant || claimant.support == Support::Most {
            Claim::Successor
        } else {
            Claim::Second
        }
    }
}

/// Whether the holder of an epoch serves as its primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HolderLife {
    /// It answers, and is not in recovery.
    Serving,
    /// It does not.
    Gone,
}
