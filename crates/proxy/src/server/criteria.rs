//! Which servers a session may have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_codec::ids::Lsn;
use trunkline_routing::eligible::{may_stay, primary_as_fallback, shows};
use trunkline_routing::{Attached, Eligible, Fallback, Rules, TargetSessionAttrs, eligible};
use trunkline_topology::{ServerId, Snapshot};

use crate::context::{BoundListener, Live};
use crate::settings::RouteBy;

/// Which servers a session may have.
#[derive(Clone, Debug)]
pub(crate) struct ServerCriteria {
    /// The listener that it came by.
    pub(crate) listener: Arc<BoundListener>,
    /// The attributes of the listener, or stricter ones.
    pub(crate) attrs: TargetSessionAttrs,
    /// Only this server.
    pub(crate) only: Option<ServerId>,
    /// What is wanted for the session's present request.
    pub(crate) leg: UnitLeg,
}

/// For which request a server is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum UnitLeg {
    /// For any of the session's.
    #[default]
    Any,
    /// For one that reads: a standby that shows at least this, else the primary.
    Read(Box<ReadLeg>),
}

/// What a standby must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadLeg {
    pub(crate) at_least: Lsn,
    /// How far behind it may be.
    pub(crate) within: Option<Duration>,
    /// This one is known to show it, though health does not know yet.
    pub(crate) shown_by: Option<ServerId>,
}

impl ServerCriteria {
    /// Whether a server is chosen for each request of such a session.
    pub(crate) fn is_split(&self) -> bool {
        self.listener.settings.options.route == RouteBy::Statement
            && self.only.is_none()
            && self.attrs.is_primary_only()
    }

    /// Where a session on `server` counts for the balance of its listener; `None` for a session that named its
    /// server.
    pub(crate) fn place_on(&self, server: ServerId) -> Option<(u64, ServerId)> {
        self.only.is_none().then_some((self.listener.number, server))
    }

    /// The routing rules under the settings in force.
    pub(crate) fn rules(&self, live: &Live) -> Rules {
        let rules = Rules { attrs: self.attrs, only: self.only, ..live.rules() };
        match &self.leg {
            UnitLeg::Any => rules,
            UnitLeg::Read(_) => Rules { fallback: Fallback::Primary, standing_in_max: 0, ..rules },
        }
    }

    /// The servers that such a session may have now.
    pub(crate) fn eligible(&self, snapshot: &Snapshot, live: &Live, attached: &Attached) -> Eligible {
        let rules = self.rules(live);
        let mut eligible = eligible(&rules, snapshot, attached);
        if let UnitLeg::Read(_) = self.leg {
            eligible.servers.retain(|candidate| self.shows_enough(snapshot, candidate.id));
            if eligible.servers.is_empty() {
                eligible.servers = primary_as_fallback(&rules, snapshot, attached);
            }
        }
        eligible
    }

    fn shows_enough(&self, snapshot: &Snapshot, server: ServerId) -> bool {
        match &self.leg {
            UnitLeg::Any => true,
            UnitLeg::Read(leg) => {
                let is_shown = |status| shows(snapshot, status, leg.at_least);
                let is_fresh = |within| {
                    snapshot.primary == Some(server) || snapshot.is_within(server, within, Instant::now())
                };
                (leg.shown_by == Some(server) || snapshot.server(server).is_some_and(is_shown))
                    && leg.within.is_none_or(is_fresh)
            }
        }
    }

    /// Whether such a session may stay on a server.
    pub(crate) fn may_stay(&self, snapshot: &Snapshot, live: &Live, server: ServerId) -> bool {
        self.shows_enough(snapshot, server) && may_stay(&self.rules(live), snapshot, server)
    }
}
