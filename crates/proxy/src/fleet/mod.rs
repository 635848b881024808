//! The set of servers, changed while sessions live: by a reload, by operators, by discovery.
//!
//! A server that comes is watched at once and serves when it has passed its checks. One that goes takes no new sessions;
//! those that it has move at their idle points, and then it is forgotten with all that was counted for it.

#![expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]

mod sources;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use trunkline_control::fleet::{EditRefusal, EditRequest, ServerEdit};
use trunkline_discovery::Found;
use trunkline_topology::{ServerId, ServerSpec};

use self::sources::{RolesSaid, row};
use self::wanted::WantedServers;
use crate::context::Shared;
use crate::limits::{DEPARTED_REST, DEPARTURES_INTERVAL, SERVER_EDITS_WAITING_MAX};

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

/// The servers of a configuration that was read again, and who waits until they are in force.
#[derive(Debug)]
struct Configured(Vec<ServerSpec>, oneshot::Sender<()>);

/// Changes the set of servers.
#[derive(Debug)]
struct Fleet {
    shared: Arc<Shared>,
    wanted: WantedServers,
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

    /// Puts the servers of a new configuration in force.
    pub(crate) async fn configure(&self, servers: Vec<ServerSpec>) {
        let (done, is_done) = oneshot::channel();
        if self.configured.send(Configured(servers, done)).await.is_ok() {
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
    let (wanted, roles, emptied) = (WantedServers::new(configured), RolesSaid::default(), BTreeMap::new());
    let mut fleet = Fleet { shared, wanted, roles, fault: None, emptied };
    found.mark_changed();
    loop {
        let is_anybody_leaving = fleet.take_leave().await;
        tokio::select! {
            Some(EditRequest { edit, answer }) = orders.edits.recv() => {
                // Who asked may have left.
                let _unheard = answer.send(fleet.edit(edit).await);
            }
            Some(Configured(servers, done)) = orders.configured.recv() => {
                fleet.wanted.configure(servers);
                fleet.apply().await;
                let _unheard = done.send(());
            }
            Ok(()) = found.changed() => {
                let found = Arc::clone(&found.borrow_and_update());
                fleet.find(found).await;
            }
            Ok(()) = news.changed() => fleet.shared.defaults.follow(),
            () = sleep(DEPARTURES_INTERVAL), if is_anybody_leaving => {}
        }
    }
}

impl Fleet {
    async fn edit(&mut self, edit: ServerEdit) -> Result<(), EditRefusal> {
        let before = self.wanted.clone();
        let name = edit.name.clone();
        self.wanted.edit(edit)?;
        let refused = self.apply().await;
        if refused.contains(&name) {
            self.wanted = before;
            return Err(EditRefusal::TooMany(format!(
                "no room for \"{name}\" while so many servers leave: try again later"
            )));
        }
        Ok(())
    }

    /// Puts what sources say in force, unless that cannot be.
    async fn find(&mut self, found: Arc<Found>) {
        self.shared.metrics.sources().publish(found.sources.iter().map(row).collect());
        let before = self.wanted.list();
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
        if self.wanted.list() != before {
            let refused = self.apply().await;
            if !refused.is_empty() {
                tracing::warn!(
                    servers = refused.join(", "),
                    "no room for servers that sources name while so many leave"
                );
            }
        }
        // A probe sees a changed role sooner than the next tick would.
        for server in self.roles.changed(&found, &self.shared.health.load()) {
            self.shared.health.ask_now(server);
        }
    }

    /// Has the wanted servers watched, and returns the names of those for which there is no room.
    async fn apply(&mut self) -> Vec<String> {
        let change = self.shared.health.set_servers(self.wanted.list()).await;
        self.shared.defaults.follow();
        change.map(|change| change.refused).unwrap_or_default()
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
