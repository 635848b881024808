//! What the present server connection has besides what the session follows: traces of its own, and of the sessions that had
//! the connection before.

use std::cell::OnceCell;
use std::sync::Arc;

use super::connection::OwnLeft;
use super::mark::Mark;
use super::parameters::LoginParameters;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Residue {
    /// Tells the marks of this session from those of others.
    session: OnceCell<Arc<()>>,
    /// The parameters that the connection's login reported, where those are not the client's own.
    pub(crate) login: Option<Arc<LoginParameters>>,
    /// How often the session has begun to use sequences on a connection.
    uses: u32,
    pub(crate) sequences: SequenceUse,
    pub(crate) unnamed: ForeignUnnamed,
    pub(crate) own: OwnLeft,
    pub(crate) has_login_timeout: bool,
}

/// Whether the session may have used sequences on its connection, so that `currval` and `lastval` would tell of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SequenceUse {
    #[default]
    None,
    Possible,
}

/// Whether the connection has an unnamed statement of another session.
///
/// ```text
///           Parse "" or Query sent            its answer
///  Present ──────────────────────> Replaced ─────────────> None
///     ^              Sync sent         │
///     └────────────────────────────────┘
///  (a series that has failed is skipped up to its Sync, so that nothing was replaced)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ForeignUnnamed {
    #[default]
    None,
    Present,
    /// What was sent since replaces it before anything else in the same series could use it.
    Replaced,
}

impl Residue {
    /// Names the present use of sequences.
    pub(crate) fn sequence_mark(&self) -> Option<Mark> {
        match self.sequences {
            SequenceUse::None => None,
            SequenceUse::Possible => Some(self.mark(self.uses)),
        }
    }

    /// Names the unnamed statement of this number.
    pub(crate) fn mark(&self, number: u32) -> Mark {
        Mark::new(self.session.get_or_init(Arc::default), number)
    }

    /// Whether a mark is this session's, of that number.
    #[inline]
    pub(crate) fn is_own(&self, mark: &Mark, number: u32) -> bool {
        mark.is(self.session.get(), number)
    }

    /// Whether a mark names the present use of sequences.
    pub(crate) fn is_present_use(&self, mark: &Mark) -> bool {
        self.sequences == SequenceUse::Possible && self.is_own(mark, self.uses)
    }

    /// A statement was sent that may use a sequence.
    #[inline]
    pub(crate) fn sequence_used(&mut self) {
        if self.sequences == SequenceUse::None {
            self.sequences = SequenceUse::Possible;
            self.uses = self.uses.wrapping_add(1);
        }
    }
}
