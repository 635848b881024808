//! The times of statements on their way to the judge of slow servers, and what it has found.
//!
//! Sessions hand over the times of some of their statements; a full queue drops them and counts.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use trunkline_routing::gray::{SpeedFinding, SpeedSample};
use trunkline_session::{Completion, Fingerprint, StatementRecord};
use trunkline_telemetry::sessions::SessionInfo;
use trunkline_topology::ServerId;

use crate::limits::SPEED_SAMPLES_MAX;

/// What is known of the servers' speeds.
#[derive(Debug)]
pub(crate) struct Speeds {
    samples: mpsc::Sender<SpeedSample>,
    findings: ArcSwap<Vec<SpeedFinding>>,
}

/// The other end of the sessions' samples.
#[derive(Debug)]
pub(crate) struct SpeedSamples(mpsc::Receiver<SpeedSample>);

impl Speeds {
    pub(crate) fn new() -> (Self, SpeedSamples) {
        let (samples, taken) = mpsc::channel(SPEED_SAMPLES_MAX);
        (Speeds { samples, findings: ArcSwap::default() }, SpeedSamples(taken))
    }

    /// What was found last, by server.
    pub(crate) fn findings(&self) -> Arc<Vec<SpeedFinding>> {
        self.findings.load_full()
    }

    /// Shows what was found.
    pub(crate) fn found(&self, findings: Vec<SpeedFinding>) {
        self.findings.store(Arc::new(findings));
    }

    /// Takes the time of a statement that was drawn; `false` when it had to be dropped.
    pub(crate) fn offer(
        &self,
        server: ServerId,
        session: &SessionInfo,
        fingerprint: Fingerprint,
        record: &StatementRecord<'_>,
    ) -> bool {
        let is_comparable = match record.completion {
            Completion::Complete(_) | Completion::Empty | Completion::Suspended => record.retries == 0,
            Completion::Failed(_) | Completion::Lost => false,
        };
        if !is_comparable {
            return true;
        }
        let mut key = DefaultHasher::new();
        (fingerprint.bits(), session.names.of_login()).hash(&mut key);
        let sample = SpeedSample {
            server,
            key: key.finish(),
            fingerprint: fingerprint.bits(),
            session: session.id.0,
            first: record.timing.server_first,
        };
        match self.samples.try_send(sample) {
            // Nobody judges any more when the process ends.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => false,
        }
    }
}

impl SpeedSamples {
    /// The oldest sample that waits.
    pub(crate) fn next(&mut self) -> Option<SpeedSample> {
        self.0.try_recv().ok()
    }
}
