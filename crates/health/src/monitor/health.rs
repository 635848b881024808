//! The handle everyone else holds.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;
use trunkline_codec::sqlstate::SqlState;

use crate::judge::JudgeSettings;
use crate::monitor::MonitorSettings;
use crate::snapshot::{AdminState, NodeId, NodeSpec, Snapshot};

/// The verdicts, and a way to tell the monitor what was noticed elsewhere. Clones share; the last one ends the monitor.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
}

/// What a session noticed about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassiveFailure {
    /// A connection could not be made.
    ConnectFailed,
    /// An established connection ended.
    ServerLost,
    /// The server refused or ended it with this code.
    SqlState(SqlState),
}

impl Health {
    pub(super) fn new(settings: MonitorSettings) -> Self {
        let judge = crate::judge::Judge::new(settings.judge, settings.nodes, Instant::now());
        let shared = Shared {
            snapshot: ArcSwap::from_pointee(judge.snapshot(Instant::now())),
            generation: watch::Sender::new(0),
        };
        Health { shared: Arc::new(shared) }
    }

    /// The newest verdicts.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.shared.snapshot.load()
    }

    /// A number that grows whenever a state, role or eligibility changes.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Has a server looked at at once. Never a ban: the verdict is the probe's.
    pub fn suspect(&self, node: NodeId, failure: PassiveFailure) {
        let _ = (node, failure);
    }

    /// Tells what the operator wants of a server.
    pub fn set_admin(&self, node: NodeId, admin: AdminState) {
        let _ = (node, admin);
    }

    /// New settings; of the servers only weight, expected role and admin state change live, matched by name.
    pub fn reload(&self, settings: JudgeSettings, nodes: Vec<NodeSpec>) {
        let _ = (settings, nodes);
    }
}
