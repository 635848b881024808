//! How a session knows again what it has left on a server connection.

use std::sync::Arc;

/// Names one thing that a session has left on a connection.
#[derive(Clone, Debug)]
pub(crate) struct OwnMark {
    session: Arc<()>,
    number: u32,
}

impl OwnMark {
    /// The thing of this number of a session.
    pub(crate) fn new(session: &Arc<()>, number: u32) -> Self {
        Self { session: Arc::clone(session), number }
    }

    /// Whether it names the thing of this number of that session.
    #[inline]
    pub(crate) fn is(&self, session: &Arc<()>, number: u32) -> bool {
        self.number == number && Arc::ptr_eq(session, &self.session)
    }
}

impl PartialEq for OwnMark {
    fn eq(&self, other: &Self) -> bool {
        other.is(&self.session, self.number)
    }
}

impl Eq for OwnMark {}
