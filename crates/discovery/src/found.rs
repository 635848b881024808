//! What the sources have said, for all who read it.

use std::sync::Arc;
use std::time::SystemTime;

use crate::member::Member;

/// What all sources have said up to now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The sources, in configuration order.
    pub sources: Vec<SourceStatus>,
}

/// What one source has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its kind, as the configuration calls it.
    pub kind: &'static str,
    /// The weight of members of which it says none.
    pub weight: u16,
    /// Its last good answer. `None`: there never was one.
    pub answer: Option<GoodAnswer>,
    /// How often a member that was known has got another role, counted from the start: when it grows, a probe is due.
    pub role_changes: u64,
    /// Its last error. Answers that came since say that it is over: see [`SourceStatus::is_failing`].
    pub last_error: Option<LastError>,
    /// How many errors there were since the start.
    pub errors: u64,
    /// How many errors there were since the last good answer.
    pub errors_since: u64,
    /// Why its last good answer is not on disk, if it is not.
    pub keep_problem: Option<Arc<str>>,
}

impl SourceStatus {
    /// Whether the last that was heard of it is an error.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.errors_since > 0
    }

    /// The members of the last good answer, in order of their names.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        self.answer.as_ref().map(|answer| &*answer.members).unwrap_or_default()
    }
}

/// An answer that passed its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoodAnswer {
    /// The members, in order of their names.
    pub members: Arc<[Member]>,
    /// When it was given last, by this machine's clock; its age may be negative if that was set.
    pub at: SystemTime,
    /// Since when.
    pub from: AnswerFrom,
}

/// When the last good answer was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFrom {
    /// Since the start.
    Source,
    /// Before the start: it was kept on disk.
    Disk,
}

/// Why there was no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// In words.
    pub text: Arc<str>,
    /// When, by this machine's clock.
    pub at: SystemTime,
}
