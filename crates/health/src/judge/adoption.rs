//! A cluster that was re-initialised as a whole: restored with another system identifier, or upgraded.
//!
//! Every server then belongs to "another cluster", and would be fenced for ever. The other cluster becomes this one when
//! nothing of the old one is left: each server that answers has the new identifier, for `adopt_after`, and they are a
//! primary and at least half of all servers. An operator may say so earlier.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_codec::ids::SystemIdentifier;

use super::Judge;
use super::notice::{Notice, NoticeKind};
use super::server::JudgedServer;
use trunkline_topology::{AdminState, Role};

/// The cluster to which every server that answers belongs, while it is not the one that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) system: SystemIdentifier,
    pub(super) since: Instant,
    /// Whether enough servers answer for it to be adopted without being asked.
    pub(super) has_quorum: bool,
}

/// Why no other cluster is adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdoptionRefusal {
    /// Nothing is known of a cluster yet.
    NotReady,
    /// These servers belong to the cluster that is watched.
    StillThere(Vec<Arc<str>>),
    /// No server that answers tells of another cluster.
    NoOther,
    /// The servers that answer belong to more than one.
    Several,
    /// The monitor is busy or ending.
    Unheard,
}

impl fmt::Display for AdoptionRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdoptionRefusal::NotReady => f.write_str("not every server has been probed yet"),
            AdoptionRefusal::StillThere(names) => write!(
                f,
                "{} answers as a server of the present cluster: stop it or put it in maintenance first",
                names.join(", ")
            ),
            AdoptionRefusal::NoOther => f.write_str("no server answers as one of another cluster"),
            AdoptionRefusal::Several => f.write_str(
                "the servers that answer belong to several clusters: leave only the right one running",
            ),
            AdoptionRefusal::Unheard => f.write_str("the health monitor does not answer"),
        }
    }
}

impl Judge {
    /// Takes the one other cluster that answers for the cluster to watch.
    ///
    /// # Errors
    /// Why that is none, or not the only one.
    pub fn adopt(&mut self, now: Instant) -> Result<SystemIdentifier, AdoptionRefusal> {
        let system = self.other_cluster()?;
        self.take_for_ours(system, now);
        self.refresh(now);
        Ok(system)
    }

    /// Notes whether another cluster has replaced this one, and adopts it when that has lasted.
    pub(super) fn watch_for_replacement(&mut self, now: Instant) {
        let other = self.other_cluster().ok();
        let has_quorum = self.has_quorum();
        let Some(epoch) = &mut self.epoch else { return };
        let known =
            epoch.replacement.filter(|known| Some(known.system) == other && known.has_quorum == has_quorum);
        let since = known.map_or(now, |known| known.since);
        epoch.replacement = other.map(|system| Replacement { system, since, has_quorum });
        if let Some(system) = other
            && has_quorum
            && self.settings.adopt_after > Duration::ZERO
            && now.saturating_duration_since(since) >= self.settings.adopt_after
        {
            self.take_for_ours(system, now);
        }
    }

    /// The cluster of all servers that answer, if that is not the one watched.
    fn other_cluster(&self) -> Result<SystemIdentifier, AdoptionRefusal> {
        let Some(ours) = self.epoch.as_ref().and_then(|epoch| epoch.system) else {
            return Err(AdoptionRefusal::NotReady);
        };
        let told = || self.answering().filter_map(|server| Some((server, server.system()?)));
        let still_there: Vec<Arc<str>> = told()
            .filter(|(_, system)| *system == ours)
            .map(|(server, _)| Arc::clone(&server.name))
            .collect();
        if !still_there.is_empty() {
            return Err(AdoptionRefusal::StillThere(still_there));
        }
        let mut systems = told().map(|(_, system)| system);
        let first = systems.next().ok_or(AdoptionRefusal::NoOther)?;
        if systems.all(|system| system == first) { Ok(first) } else { Err(AdoptionRefusal::Several) }
    }

    /// Whether a primary and at least half of the servers answer.
    fn has_quorum(&self) -> bool {
        let has_primary = self.answering().any(|server| server.role() == Role::Primary);
        // What was only discovered may be anybody's: where an operator has named servers, they alone count.
        let is_anybody_named = self.servers.iter().any(|server| server.spec.origin.is_operator());
        let counts = |server: &&JudgedServer| !is_anybody_named || server.spec.origin.is_operator();
        let all =
            self.servers.iter().filter(|server| server.admin() != AdminState::Maint).filter(counts).count();
        let answering = self.answering().filter(counts).count();
        has_primary && answering > 0 && answering * 2 >= all
    }

    /// The servers that answer, but for those in maintenance.
    fn answering(&self) -> impl Iterator<Item = &JudgedServer> {
        self.servers.iter().filter(|server| server.admin() != AdminState::Maint && server.liveness.is_alive())
    }

    /// Begins anew with another cluster: nothing that was known of the last one counts.
    fn take_for_ours(&mut self, system: SystemIdentifier, now: Instant) {
        let was = self.epoch.take().and_then(|epoch| epoch.system);
        self.clocked_at = None;
        let first = self.answering().next().map(|server| Arc::clone(&server.name));
        if let Some(name) = first {
            self.notices.push(Notice { name, kind: NoticeKind::Adopted { system, was } });
        }
        for server in &mut self.servers {
            server.forget_cluster();
        }
        self.begin(Some(system), now);
    }
}
