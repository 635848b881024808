//! What sources send: answers, and why there is none.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::check::AnswerFault;
use crate::limits::NEWS_MAX;
use crate::member::Member;

/// All members, or why a source does not say. An error changes nothing.
pub type Members = Result<Vec<Member>, SourceError>;

/// Why there is no answer of a source that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nobody is there, or the connection ends.
    #[error("could not ask {place}: {reason}")]
    Unreachable {
        /// A URL, a name server, a server.
        place: String,
        /// In the words of the system or of TLS.
        reason: String,
    },
    /// It takes too long.
    #[error("{place} did not answer within {} s", after.as_secs_f32())]
    Slow {
        /// Who is asked.
        place: String,
        /// How long was waited.
        after: Duration,
    },
    /// It refuses.
    #[error("{place} refuses: {reason}")]
    Refused {
        /// Who is asked.
        place: String,
        /// A status of HTTP, an error of a server.
        reason: String,
    },
    /// It answers, but not with what was asked for.
    #[error("{place} gives an answer that cannot be read: {reason}")]
    Garbled {
        /// Who is asked.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// What is needed to ask is missing here: a file, a certificate.
    #[error("{0}")]
    Unprepared(String),
    /// The answer can be read, and cannot be right.
    #[error("the answer is not used: {0}")]
    Faulty(#[from] AnswerFault),
}

/// An answer, and whose.
#[derive(Debug)]
pub(crate) struct News {
    /// The number of the task that sends: what one sends that has been ended since is thrown away.
    pub(crate) task: u64,
    /// What it says.
    pub(crate) members: Members,
}

/// Where a source sends its answers to.
#[derive(Clone, Debug)]
pub struct NewsSender {
    task: u64,
    sender: mpsc::Sender<News>,
}

impl NewsSender {
    /// For one source alone, and where its answers arrive.
    pub(crate) fn channel() -> (mpsc::Sender<News>, mpsc::Receiver<News>) {
        mpsc::channel(NEWS_MAX)
    }

    /// For the task of this number.
    pub(crate) fn new(task: u64, sender: mpsc::Sender<News>) -> Self {
        Self { task, sender }
    }

    /// Sends; waits while many answers have yet to be looked at.
    pub(crate) async fn send(&self, members: Members) {
        // Nobody receives: discovery ends, and with it the task that sends.
        let _ended = self.sender.send(News { task: self.task, members }).await;
    }
}
