//! The set of servers, changed while sessions live: by a reload, by operators, by discovery.
//!
//! A server that comes is watched at once and serves when it has passed its checks. One that goes takes no new sessions;
//! those that it has move at their idle points, and then it is forgotten with all that was counted for it.

#![expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]

mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use trunkline_control::fleet::{EditRefusal, EditRequest, ServerEdit};
use trunkline_topology::{ServerId, ServerSpec};

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

/// Carries the orders out until it is dropped; the servers that are there are `configured`.
pub(crate) async fn run(shared: Arc<Shared>, mut orders: FleetOrders, configured: Vec<ServerSpec>) {
    let mut news = shared.health.changed();
    let mut fleet = Fleet { shared, wanted: WantedServers::new(configured), emptied: BTreeMap::new() };
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
