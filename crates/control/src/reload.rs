//! A reload of the configuration as an operator asks for it, and what became of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// Asks the process to read its configuration again; whoever reloads sends the outcome back.
pub type ReloadRequest = oneshot::Sender<ReloadOutcome>;

/// By which the configuration is read again, and where it is.
#[derive(Clone, Debug)]
pub struct Reloads {
    /// Takes the requests.
    pub queue: mpsc::Sender<ReloadRequest>,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "applied", rename_all = "lowercase")]
pub enum ReloadOutcome {
    /// All of the configuration is in force.
    All,
    /// All is in force but these keys.
    Part {
        /// Keys whose new values take effect only after a restart.
        needs_restart: Vec<String>,
    },
    /// Nothing has changed.
    Nothing {
        /// Why: each with its place and what to do.
        problems: Vec<String>,
    },
}

/// Has the configuration reloaded. `None` when another reload waits already, or the process is stopping.
pub(crate) async fn ask(reloads: &mpsc::Sender<ReloadRequest>) -> Option<ReloadOutcome> {
    let (answer, answered) = oneshot::channel();
    reloads.try_send(answer).ok()?;
    answered.await.ok()
}
