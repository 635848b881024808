//! The set of servers, changed while sessions live: by a reload, by operators, by discovery.
//!
//! A server that comes is watched at once and serves when it has passed its checks. One that goes takes no new sessions;
//! those that it has move at their idle points, and then it is forgotten with all that was counted for it.

#![expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]

mod holds;
mod sources;
mod wanted;
mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use trunkline_control::fleet::{EditRefusal, EditRequest, ServerEdit, WantedServer};
use trunkline_discovery::Found;
use trunkline_topology::{ServerId, ServerSpec};

use self::holds::{Holds, InForce};
use self::sources::{RolesSaid, row};
use self::wanted::WantedServers;
pub use self::watched::WatchedServers;
use crate::context::Shared;
use crate::limits::{DEPARTED_REST, DEPARTURES_INTERVAL, SERVER_EDITS_WAITING_MAX};

/// How often those are tried again for which there was no room: a number that is given back rests for seconds. As often
/// is looked at who stays only for the time being.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// By which the set of servers is changed.
#[derive(Clone, Debug)]
pub(crate) struct FleetHandle {
    /// Takes what operators want.
    pub(crate) edits: mpsc::Sender<EditRequest>,
    configured: mpsc::Sender<Configured>,
}

/// What takes the orders.
#[derive(Debug)]
pub(crate) struct FleetOrders {
    edits: mpsc::Receiver<EditRequest>,
    configured: mpsc::Receiver<Configured>,
}

/// A configuration that was read again.
#[derive(Debug)]
struct Configured {
    servers: Vec<ServerSpec>,
    /// The names of its sources.
    sources: Vec<Arc<str>>,
    /// Who waits until the servers are in force.
    done: oneshot::Sender<()>,
}

/// Changes the set of servers.
#[derive(Debug)]
struct Fleet {
    shared: Arc<Shared>,
    wanted: WantedServers,
    /// Those that stay for the time being though they are not wanted any more.
    holds: Holds,
    /// The servers as they were put in force last.
    in_force: Vec<ServerSpec>,
    /// Names of those of them for which there was no room, as far as is known.
    refused: Vec<String>,
    /// When they were put in force.
    applied_at: Instant,
    /// For how many wanted servers there is no room, as it was logged.
    left_out: usize,
    /// What sources say of roles.
    roles: RolesSaid,
    /// Why what sources say is not in force, as it was logged.
    fault: Option<String>,
    /// Servers that leave and have no sessions any more, and since when.
    emptied: BTreeMap<ServerId, Instant>,
}

impl FleetHandle {
    pub(crate) fn new() -> (Self, FleetOrders) {
        let (edits, edits_taken) = mpsc::channel(SERVER_EDITS_WAITING_MAX);
        let (configured, configured_taken) = mpsc::channel(1);
        (Self { edits, configured }, FleetOrders { edits: edits_taken, configured: configured_taken })
    }

    /// Puts the servers of a new configuration in force, whose sources have these names: they are told of before they
    /// are asked, so that nobody leaves who may be among their answers.
    pub(crate) async fn configure(&self, servers: Vec<ServerSpec>, sources: Vec<Arc<str>>) {
        let (done, is_done) = oneshot::channel();
        if self.configured.send(Configured { servers, sources, done }).await.is_ok() {
            // Fails only when the proxy stops.
            let _stopping = is_done.await;
        }
    }
}

/// Carries the orders out until it is dropped; the servers that are there are `configured`. Those of `found` come at
/// once, and change with it.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut orders: FleetOrders,
    configured: Vec<ServerSpec>,
    mut found: watch::Receiver<Arc<Found>>,
) {
    let mut news = shared.health.changed();
    let mut fleet = Fleet::new(shared, configured);
    found.mark_changed();
    loop {
        let is_anybody_leaving = fleet.take_leave().await;
        fleet.look_again().await;
        let look = if is_anybody_leaving { Some(DEPARTURES_INTERVAL) } else { fleet.next_look() };
        tokio::select! {
            Some(EditRequest { edit, answer }) = orders.edits.recv() => {
                // Who asked may have left.
                let _unheard = answer.send(fleet.edit(edit).await);
            }
            Some(Configured { servers, sources, done }) = orders.configured.recv() => {
                fleet.wanted.configure(servers);
                fleet.holds.reload(sources, Instant::now());
                fleet.apply().await;
                let _unheard = done.send(());
            }
            Ok(()) = found.changed() => {
                let found = Arc::clone(&found.borrow_and_update());
                fleet.find(found).await;
            }
            Ok(()) = news.changed() => fleet.shared.defaults.follow(),
            () = sleep(look.unwrap_or_default()), if look.is_some() => {}
        }
    }
}

impl Fleet {
    fn new(shared: Arc<Shared>, configured: Vec<ServerSpec>) -> Self {
        Self {
            shared,
            wanted: WantedServers::new(configured.clone()),
            holds: Holds::default(),
            in_force: configured,
            refused: Vec::new(),
            applied_at: Instant::now(),
            left_out: 0,
            roles: RolesSaid::default(),
            fault: None,
            emptied: BTreeMap::new(),
        }
    }

    async fn edit(&mut self, edit: ServerEdit) -> Result<(), EditRefusal> {
        let before = self.wanted.clone();
        let name = edit.name.clone();
        let there = self.in_force.iter().find(|spec| spec.name == name);
        match (&edit.wanted, there) {
            // Also one that only stays for the time being.
            (WantedServer::Removed, Some(spec)) => self.wanted.take_out(spec),
            (WantedServer::Removed | WantedServer::Added(..) | WantedServer::Changed(_), _) => {
                self.wanted.edit(edit)?;
            }
        }
        self.apply().await;
        if self.refused.contains(&name) {
            self.wanted = before;
            self.apply().await;
            return Err(EditRefusal::TooMany(format!(
                "no room for \"{name}\" while so many servers leave: try again later"
            )));
        }
        Ok(())
    }

    /// Puts what sources say in force, unless that cannot be.
    async fn find(&mut self, found: Arc<Found>) {
        self.shared.metrics.sources().publish(found.sources.iter().map(row).collect());
        match self.wanted.find(Arc::clone(&found)) {
            Ok(()) => self.fault = None,
            Err(fault) => {
                let fault = fault.to_string();
                if self.fault.as_ref() != Some(&fault) {
                    tracing::error!(%fault, "what sources say is not in force: the set of servers stays as it is");
                }
                self.fault = Some(fault);
            }
        }
        // Most answers say what the one before said.
        if self.list() != self.in_force {
            self.apply().await;
            if !self.refused.is_empty() {
                tracing::warn!(
                    servers = self.refused.join(", "),
                    "no room yet for servers that sources name, while so many leave"
                );
            }
        }
        // A probe sees a changed role sooner than the next tick would.
        for server in self.roles.changed(&found, &self.shared.health.load()) {
            self.shared.health.ask_now(server);
        }
    }

    /// The servers that are to be in force now.
    fn list(&mut self) -> Vec<ServerSpec> {
        let snapshot = self.shared.health.load_full();
        let there = InForce { servers: &self.in_force, snapshot: &snapshot };
        self.holds.list(&self.wanted, Instant::now(), &there)
    }

    /// Has the wanted servers watched.
    async fn apply(&mut self) {
        let left_out = self.wanted.left_out();
        if left_out > 0 && left_out != self.left_out {
            tracing::warn!(
                servers = left_out,
                "no room for servers that sources name: more are configured than before"
            );
        }
        self.left_out = left_out;
        self.in_force = self.list();
        self.applied_at = Instant::now();
        let change = self.shared.health.set_servers(self.in_force.clone()).await;
        self.shared.defaults.follow();
        self.refused = change.map(|change| change.refused).unwrap_or_default();
    }

    /// Whether there is room now for those for which there was none, and others serve for those that stay.
    async fn look_again(&mut self) {
        let is_due = is_due(&self.refused, self.applied_at.elapsed());
        if is_due || (self.holds.is_holding() && self.list() != self.in_force) {
            self.apply().await;
        }
    }

    /// When to look again; news of health are a reason, too.
    fn next_look(&self) -> Option<Duration> {
        (!self.refused.is_empty() || self.holds.is_holding()).then_some(LOOK_INTERVAL)
    }

    /// Forgets the servers whose last session has gone. Whether any others leave.
    async fn take_leave(&mut self) -> bool {
        let (snapshot, now) = (self.shared.health.load_full(), Instant::now());
        let is_leaving = |id: &ServerId| snapshot.server(*id).is_some_and(|server| server.is_leaving);
        self.emptied.retain(|id, _| is_leaving(id));
        let leaving = || snapshot.servers.iter().filter(|server| server.is_leaving);
        for server in leaving() {
            if self.shared.attached.sessions_on(server.id) > 0 {
                self.emptied.remove(&server.id);
                continue;
            }
            // A session that has just left may still count something, and a choice may be under way.
            let since = *self.emptied.entry(server.id).or_insert(now);
            if now.saturating_duration_since(since) >= DEPARTED_REST {
                self.forget(server.id).await;
            }
        }
        leaving().next().is_some()
    }

    async fn forget(&mut self, id: ServerId) {
        self.emptied.remove(&id);
        if self.shared.health.forget(id).await {
            self.shared.metrics.forget(id);
            self.shared.defaults.follow();
            for listener in self.shared.listeners.load().iter() {
                listener.balancer.forget(id);
            }
        }
    }
}

/// Whether those for which there was no room so long ago are tried again.
fn is_due(refused: &[String], since: Duration) -> bool {
    !refused.is_empty() && since >= LOOK_INTERVAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_for_which_there_was_no_room_are_tried_again() {
        let refused = ["pg1".to_owned()];
        assert!(is_due(&refused, LOOK_INTERVAL));
        assert!(
            !is_due(&refused, LOOK_INTERVAL / 2),
            "a change of the set is news, and would be one for ever"
        );
        assert!(!is_due(&[], LOOK_INTERVAL));
    }
}
