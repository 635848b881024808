//! Why a server is in its state, in words an operator understands.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use trunkline_codec::ids::{Lsn, SystemIdentifier, TimelineId};

use super::facts::ProbeFailure;

const NOT_THE_WRITER: &str = "split brain: it is not in recovery, and the cluster's writer is";
const UNIDENTIFIED: &str = "found by discovery, and nothing tells whether it is of this cluster: let the monitoring role call pg_control_system on it \
     and on the primary, or configure it by hand";
const LAG_UNKNOWN: &str =
    "nothing tells how far behind it is: set dialect and lag_query, or lag_unknown = \"serve\"";
const PRIMARY_MUTE: &str = "the primary does not tell its position, which primary_unknown does not allow";

/// Why a server is in its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    NotProbed(Option<ProbeFailure>),
    NotAllProbed,
    Unprobed(Duration),
    LoginRefused(ProbeFailure),
    Saturated,
    Dead(ProbeFailure),
    Reviving(Return, ProbeFailure),
    Promoted,
    OtherSystem { theirs: Option<SystemIdentifier>, ours: Option<SystemIdentifier>, hint: AdoptionHint },
    OldPrimary { theirs: Option<TimelineId>, ours: Option<TimelineId> },
    SecondPrimary,
    NotTheWriter { writer: Option<Arc<str>> },
    Unidentified,
    Contender { theirs: Option<TimelineId> },
    Ahead { replay: Lsn, flush: Lsn },
    Branched { theirs: TimelineId, ours: TimelineId },
    LeftBehind { theirs: TimelineId, ours: TimelineId },
    TimelineUnknown { ours: TimelineId },
    NoPrimarySeen,
    PrimaryGone(Duration),
    Delayed { delay: Duration, max_lag: Duration },
    Behind { lo: Duration, max_lag: Duration, is_paused: bool },
    CatchingUp { lo: Duration, readmit_lag: Duration },
    Unproven,
    LagUnknown,
    PrimaryMute,
    Maint,
    Drain,
    Leaving,
    Primary { is_expected: bool },
    Standby(Fitness),
}

/// What becomes of the servers of another cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdoptionHint {
    /// Nothing: this cluster is there.
    None,
    /// An operator may adopt it.
    ByHand,
    /// It is adopted after this time.
    In(Duration),
}

impl fmt::Display for AdoptionHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdoptionHint::None => Ok(()),
            AdoptionHint::ByHand => {
                f.write_str("; `trunkline adopt`, or a restart of `trunkline health`, makes it this cluster")
            }
            AdoptionHint::In(left) => {
                let left = Seconds(*left);
                write!(
                    f,
                    "; adopted in {left} unless a server of this cluster answers, at once by `trunkline adopt`, or by a restart of `trunkline health`"
                )
            }
        }
    }
}

/// Why the monitoring role is refused, or cannot try.
pub(super) struct RefusedLogin<'a>(pub(super) &'a ProbeFailure);

/// What a server that answers again waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// A new login: those of the probe fail.
    Login,
    /// More good probes.
    Probes { good: u32, rise: u32 },
    /// The end of a hold.
    Hold(Duration),
}

/// How a standby that is up stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    InSync,
    Behind(Duration),
    PrimaryGone(Duration),
    Following,
    /// So much by `lag_query`.
    Told(Duration),
    /// Its last commit is so old: it is behind by that at most.
    Commit(Duration),
    /// It has all that standbys are told of, while the primary itself tells no position.
    Upstream,
    /// Nothing tells, and `lag_unknown` lets it serve.
    Unmeasured,
}

impl Reason {
    /// Whether the verdict is for want of answers: what the server said last is too old to be believed.
    pub(super) fn is_for_want_of_answers(&self) -> bool {
        matches!(
            self,
            Reason::NotProbed(_) | Reason::Unprobed(_) | Reason::LoginRefused(_) | Reason::Saturated
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotProbed(None) => f.write_str("not probed yet"),
            Reason::NotProbed(Some(failure)) => write!(f, "not reached yet: {failure}"),
            Reason::NotAllProbed => f.write_str("waiting until every server has been probed once"),
            Reason::Unprobed(age) => write!(f, "no probe was answered for {}", Seconds(*age)),
            Reason::LoginRefused(failure) => RefusedLogin(failure).fmt(f),
            Reason::Saturated => f.write_str("no connection slot left for the probe"),
            Reason::Dead(failure) => write!(f, "{failure}"),
            Reason::Reviving(awaited, failure) => write!(f, "{awaited}: {failure}"),
            Reason::Promoted => f.write_str("promoted: it is configured as a replica but not in recovery"),
            Reason::OtherSystem { theirs, ours, hint } => {
                let (theirs, ours) = (OrUnknown(theirs.as_ref()), OrUnknown(ours.as_ref()));
                write!(
                    f,
                    "belongs to another cluster: system identifier {theirs}, this cluster's is {ours}{hint}"
                )
            }
            Reason::OldPrimary { theirs, ours } => {
                let (theirs, ours) = (OrUnknown(theirs.as_ref()), OrUnknown(ours.as_ref()));
                write!(f, "split brain: a primary on timeline {theirs}, while this cluster's is on {ours}")
            }
            Reason::SecondPrimary => f.write_str("split brain: a second primary on the same timeline"),
            Reason::NotTheWriter { writer } => write!(f, "{NOT_THE_WRITER} {}", OrUnknown(writer.as_ref())),
            Reason::Unidentified => f.write_str(UNIDENTIFIED),
            Reason::Contender { theirs } => write!(
                f,
                "split brain: promoted to timeline {} beside the primary; most standbys do not follow it",
                OrUnknown(theirs.as_ref())
            ),
            Reason::Ahead { replay, flush } => {
                write!(f, "diverged: it replayed to {replay}, ahead of the primary at {flush}")
            }
            Reason::Branched { theirs, ours } => {
                write!(f, "follows timeline {theirs}, while the primary is on {ours}")
            }
            Reason::LeftBehind { theirs, ours } => {
                write!(f, "still on timeline {theirs}, while the primary is on {ours}")
            }
            Reason::TimelineUnknown { ours } => {
                write!(f, "not known to follow the primary to timeline {ours}")
            }
            Reason::NoPrimarySeen => f.write_str("no primary was seen yet to compare with"),
            Reason::PrimaryGone(since) => {
                let since = Seconds(*since);
                write!(f, "the primary has not answered for {since}, beyond what primary_unknown allows")
            }
            Reason::Delayed { delay, max_lag } => write!(
                f,
                "recovery_min_apply_delay is {}, above max_lag {}",
                Seconds(*delay),
                Seconds(*max_lag)
            ),
            Reason::Behind { lo, max_lag, is_paused } => {
                let paused = if *is_paused { ", replay is paused" } else { "" };
                write!(f, "at least {} behind, above max_lag {}{paused}", Seconds(*lo), Seconds(*max_lag))
            }
            Reason::CatchingUp { lo, readmit_lag } => write!(
                f,
                "catching up, at least {} behind; returns below {}",
                Seconds(*lo),
                Seconds(*readmit_lag)
            ),
            Reason::Unproven => f.write_str("not yet known how far behind it is"),
            Reason::LagUnknown => f.write_str(LAG_UNKNOWN),
            Reason::PrimaryMute => f.write_str(PRIMARY_MUTE),
            Reason::Maint => f.write_str("in maintenance by the operator"),
            Reason::Drain => f.write_str("draining by the operator"),
            Reason::Leaving => {
                f.write_str("no longer one of the servers: forgotten when its sessions have left")
            }
            Reason::Primary { is_expected: true } => f.write_str("primary"),
            Reason::Primary { is_expected: false } => {
                f.write_str("primary after its promotion, though configured as a replica")
            }
            Reason::Standby(fitness) => fitness.fmt(f),
        }
    }
}

impl fmt::Display for RefusedLogin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = self.0;
        if failure.is_refused_role() {
            write!(f, "the monitoring role is refused, check its login and rights: {failure}")
        } else {
            failure.fmt(f)
        }
    }
}

impl fmt::Display for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Return::Login => f.write_str("answers on its old connection, but new logins fail"),
            Return::Probes { good, rise } => write!(f, "answers again ({good} of {rise} good probes) after"),
            Return::Hold(left) => {
                let left = Seconds(*left);
                write!(f, "answers again, held back for {left} more after repeated failures, the last")
            }
        }
    }
}

impl fmt::Display for Fitness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fitness::InSync => f.write_str("in sync"),
            Fitness::Behind(est) => write!(f, "about {} behind", Seconds(*est)),
            Fitness::PrimaryGone(since) => {
                write!(f, "has all that is known; the primary has not answered for {}", Seconds(*since))
            }
            Fitness::Following => f.write_str("following the new primary"),
            Fitness::Told(lag) => write!(f, "{} behind by lag_query", Seconds(*lag)),
            Fitness::Commit(age) => {
                write!(f, "at most {} behind by the last commit replayed", Seconds(*age))
            }
            Fitness::Upstream => {
                f.write_str("has all that its upstream sent; the primary does not tell its position")
            }
            Fitness::Unmeasured => f.write_str("how far behind is unknown; it serves by lag_unknown"),
        }
    }
}

/// A duration as operators read it: seconds with two decimals.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s", self.0.as_secs_f64())
    }
}

struct OrUnknown<'a, T>(Option<&'a T>);

impl<T: fmt::Display> fmt::Display for OrUnknown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}
