//! What is shown of the sources of servers.

use std::sync::{Mutex, PoisonError};

/// A source, as it last answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// Its kind, as the configuration calls it.
    pub kind: &'static str,
    /// The members of its last good answer.
    pub members: Vec<SourceMember>,
    /// When that was, in seconds since 1970; `None`: there never was one.
    pub answered_at: Option<u64>,
    /// Whether it was given before the start, and kept on disk.
    pub is_from_disk: bool,
    /// Errors since the start.
    pub errors: u64,
    /// The last error, while there has been no good answer since.
    pub error: Option<String>,
    /// Why its last good answer is not kept on disk, where it should be.
    pub keep_problem: Option<String>,
}

/// One member, as its source names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMember {
    /// Its name.
    pub name: String,
    /// Host and port.
    pub place: String,
    /// What the source says of its role: `unknown`, `primary`, `replica`.
    pub role: &'static str,
    /// What else it says, such as `nofailover`.
    pub tags: Vec<String>,
}

/// The sources, as they were when one of them last said something.
#[derive(Debug, Default)]
pub struct SourceRows(Mutex<Vec<SourceRow>>);

impl SourceRows {
    /// Replaces them.
    pub fn publish(&self, rows: Vec<SourceRow>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// All of them, in configuration order.
    #[must_use]
    pub fn rows(&self) -> Vec<SourceRow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
