//! Verdicts that a test publishes in the place of the monitor.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Health;
use super::judge_task::{JudgeCommand, Published};
use super::watchers::AllSignals;
use crate::login::MonitorLogin;
use crate::termination::Sighting;
use trunkline_topology::{ServerId, Snapshot};

/// The publishing side of a [`Health`] that nothing else feeds.
#[derive(Debug)]
pub struct ByHand {
    published: Published,
    signals: AllSignals,
    _commands: mpsc::Receiver<JudgeCommand>,
}

impl ByHand {
    /// Verdicts that begin with `snapshot`.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> (Health, Self) {
        Self::with_login(snapshot, MonitorLogin::default())
    }

    /// The same where the monitoring role can log in.
    #[must_use]
    pub fn with_login(snapshot: Snapshot, login: MonitorLogin) -> (Health, Self) {
        let signals = AllSignals::default();
        for server in &snapshot.servers {
            let _woken_by_nobody = signals.enter(server.id);
        }
        let published = Published::new(snapshot, 0);
        let (commands, commanded) = mpsc::channel(1);
        let login = watch::Sender::new(Arc::new(login));
        let health = Health::new(published.clone(), commands, login, signals.clone(), None);
        (health, ByHand { published, signals, _commands: commanded })
    }

    /// Replaces the verdicts by what `change` makes of them, and wakes who waits for news.
    pub fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.published.snapshot.load());
        change(&mut snapshot);
        self.published.snapshot.store(Arc::new(snapshot));
        self.published.generation.send_modify(|generation| *generation += 1);
    }

    /// Answers those who have asked what a login shows of a server, if there are any.
    pub fn answer_inquiries(&self, server: ServerId, sighting: &Sighting) {
        if let Some(signals) = self.signals.of(server) {
            signals.inquiry.answer_at_once(sighting);
        }
    }
}
