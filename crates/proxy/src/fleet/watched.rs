//! The set of servers of who only watches them: without sessions, whoever leaves is forgotten at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;
use trunkline_discovery::{Discovery, Found, Surroundings};
use trunkline_health::Health;
use trunkline_topology::ServerSpec;

use super::LOOK_INTERVAL;
use super::holds::{Holds, InForce};
use super::sources::RolesSaid;
use super::wanted::WantedServers;
use crate::settings::{DiscoverySettings, Settings};

/// The servers of the configuration and those that its sources name, which a monitor watches: for health checks without a
/// proxy. Its sources are asked until it is dropped.
#[derive(Debug)]
pub struct WatchedServers {
    health: Health,
    discovery: Discovery,
    found: watch::Receiver<Arc<Found>>,
    wanted: WantedServers,
    holds: Holds,
    /// The servers as they were put in force last.
    in_force: Vec<ServerSpec>,
    /// Whether there was no room for some of them.
    is_crowded: bool,
    /// What sources say of roles.
    roles: RolesSaid,
    /// Why what sources say is not in force, as it was logged.
    fault: Option<String>,
}

impl WatchedServers {
    /// Asks the sources of `settings` from now on, whose servers `health` watches already. Call [`Self::news`] and
    /// [`Self::follow`] in turn.
    #[must_use]
    pub fn start(settings: &Settings, health: &Health) -> Self {
        let DiscoverySettings { sources, state_dir } = settings.discovery.clone();
        let around = Surroundings { health: Some(health.clone()) };
        let discovery = Discovery::start(sources, state_dir, around, &Handle::current());
        let mut found = discovery.found();
        // What was kept on disk is there already.
        found.mark_changed();
        let configured = settings.health.servers.clone();
        Self {
            health: health.clone(),
            discovery,
            found,
            wanted: WantedServers::new(configured.clone()),
            holds: Holds::default(),
            in_force: configured,
            is_crowded: false,
            roles: RolesSaid::default(),
            fault: None,
        }
    }

    /// Waits until there is something to follow. It may be dropped at any time.
    pub async fn news(&mut self) {
        let look = (self.is_crowded || self.holds.is_holding()).then_some(LOOK_INTERVAL);
        tokio::select! {
            Ok(()) = self.found.changed() => {}
            () = sleep(look.unwrap_or(Duration::MAX)) => {}
        }
    }

    /// Has those watched that are wanted now, and the others forgotten.
    pub async fn follow(&mut self) {
        let found = Arc::clone(&self.found.borrow_and_update());
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
        let list = self.list();
        if self.is_crowded || list != self.in_force {
            self.apply(list).await;
        }
        for server in self.roles.changed(&found, &self.health.load()) {
            self.health.ask_now(server);
        }
    }

    /// Puts the servers and the sources of a new configuration in force. Those that it no longer names stay until its
    /// sources have answered, for a minute at most.
    pub async fn reload(&mut self, servers: Vec<ServerSpec>, discovery: DiscoverySettings) {
        let DiscoverySettings { sources, state_dir } = discovery;
        self.wanted.configure(servers);
        let names = sources.iter().map(|source| Arc::clone(&source.name)).collect();
        self.holds.reload(names, Instant::now());
        let list = self.list();
        self.apply(list).await;
        self.discovery.set(sources, state_dir);
    }

    fn list(&mut self) -> Vec<ServerSpec> {
        let snapshot = self.health.load_full();
        let there = InForce { servers: &self.in_force, snapshot: &snapshot };
        self.holds.list(&self.wanted, Instant::now(), &there)
    }

    async fn apply(&mut self, list: Vec<ServerSpec>) {
        self.in_force = list;
        // `None`: the monitor has ended, and so will this.
        let change = self.health.set_servers(self.in_force.clone()).await.unwrap_or_default();
        self.is_crowded = !change.refused.is_empty();
        for (id, _) in change.leaving {
            self.health.forget(id).await;
        }
    }
}
