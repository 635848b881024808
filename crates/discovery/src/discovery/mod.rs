//! The handle, and the task that owns what was found.
//!
//! Each source has a task that asks and sends; one task, the ledger's, checks what they send, keeps it on disk and publishes
//! it. Nothing is shared: what was found leaves by a channel of which only the newest value counts.

mod ledger;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use self::ledger::Ledger;
use crate::found::Found;
use crate::source::SourceSettings;
use crate::surroundings::Surroundings;

/// What is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sources {
    /// In configuration order.
    sources: Vec<SourceSettings>,
    /// Where last good answers are kept. `None`: nowhere.
    state_dir: Option<PathBuf>,
}

/// Sources that are followed until this is dropped.
#[derive(Debug)]
pub struct Discovery {
    wanted: watch::Sender<Arc<Sources>>,
    found: watch::Receiver<Arc<Found>>,
    _task: AbortOnDropHandle<()>,
}

impl Discovery {
    /// Follows `sources`, at most [`SOURCES_MAX`](crate::limits::SOURCES_MAX), whose names are unique, by tasks of
    /// `runtime`. What is kept in `state_dir` is read before this returns, which may block for as long as a disk does: it
    /// is in [`found`](Self::found) at once.
    #[must_use]
    pub fn start(
        sources: Vec<SourceSettings>,
        state_dir: Option<PathBuf>,
        around: Surroundings,
        runtime: &Handle,
    ) -> Self {
        let (found_sender, found) = watch::channel(Arc::default());
        let sources = Arc::new(Sources { sources, state_dir });
        let (wanted, wanted_receiver) = watch::channel(Arc::clone(&sources));
        let ledger = Ledger::open(&sources, around, found_sender, runtime);
        let task = AbortOnDropHandle::new(runtime.spawn(ledger.run(wanted_receiver)));
        Self { wanted, found, _task: task }
    }

    /// What was found up to now; changes with each answer and each error.
    #[must_use]
    pub fn found(&self) -> watch::Receiver<Arc<Found>> {
        self.found.clone()
    }

    /// Follows these sources from now on. One of which nothing has changed goes on undisturbed; one whose settings have
    /// changed keeps its last good answer and asks anew; what one has said that is gone is forgotten.
    pub fn set(&self, sources: Vec<SourceSettings>, state_dir: Option<PathBuf>) {
        self.wanted.send_replace(Arc::new(Sources { sources, state_dir }));
    }
}
