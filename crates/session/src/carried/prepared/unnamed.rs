//! The unnamed statement on a connection that does not have it.
//!
//! Its text is kept as those of others are. What the client was told of it by a Describe of the statement is noted; what it
//! was told by one of a portal is not, which would cost each of the many clients that send Parse, Bind, Describe and Execute
//! in one series and never come back to the statement. One that does asks again, as a rule: then nothing has to be compared.

use trunkline_codec::frontend::{Bind, FrontendTag, Target};

use super::presence::Presence;
use super::{Pending, Prepared, SavedStatement, StatementOrigin};

/// Whether the client asks for the columns of what it binds before it has rows of it: then it does not matter what it was told
/// of them by a Describe of a portal before, which is not noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnsAsked {
    Now,
    /// Not at once.
    No,
}

impl Prepared {
    /// The server that is taken does not have the unnamed statement. Where its client may know more of it than is known here,
    /// it can be bound there by a client that [asks again](ColumnsAsked).
    pub(super) fn unnamed_lost(&mut self) {
        let is_untold = self.is_unnamed_untold();
        if let Some(saved) = &mut self.unnamed {
            // On a server that did not have it either, the client was told nothing more.
            if saved.presence == Presence::Present {
                saved.is_used = !is_untold;
            }
            saved.presence = Presence::Absent;
        }
    }

    /// Whether it depends on what follows this Bind whether its statement can be prepared, see [`ColumnsAsked`].
    pub(crate) fn depends_on_describe(&self, bind: &Bind<'_>) -> bool {
        let is_unsure = self.unnamed.as_ref().is_some_and(SavedStatement::is_unsure);
        bind.statement.is_empty() && is_unsure && self.presence(b"") == Some(Presence::Absent)
    }

    /// Whether this message needs nothing of a server that may lack no statement but the unnamed one, which it does not use, or
    /// uses behind its Parse: all of Parse, Bind, Describe, Execute and Sync in one series. False where that is not plain.
    #[inline]
    pub(crate) fn needs_at_most_new_unnamed(&self, tag: FrontendTag, body: &[u8]) -> bool {
        // Steps are found for names that are known, of which there are none then.
        if self.is_listed || !self.named.is_empty() {
            return false;
        }
        match tag {
            FrontendTag::Parse | FrontendTag::Execute | FrontendTag::Sync => true,
            // Of the unnamed portal.
            FrontendTag::Bind => body.starts_with(b"\0\0") && self.is_unnamed_newest(),
            FrontendTag::Describe => body.first() == Some(&Target::Portal.byte()),
            FrontendTag::Query
            | FrontendTag::Close
            | FrontendTag::Flush
            | FrontendTag::FunctionCall
            | FrontendTag::CopyData
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail
            | FrontendTag::Password
            | FrontendTag::Terminate
            | FrontendTag::Unknown(_) => false,
        }
    }

    /// Whether this Parse has every byte of the one that has prepared the unnamed statement, which only reads: so does the next
    /// one then, as far as its text decides.
    #[inline]
    pub(crate) fn is_plain_unnamed(&self, body: &[u8]) -> bool {
        self.unnamed.as_ref().is_some_and(|saved| {
            saved.origin == StatementOrigin::Parse
                && saved.effects.is_plain()
                && self.texts.whole(saved.text) == Some(body)
        })
    }

    /// Whether the newest Parse or Close in flight is a Parse of the unnamed statement.
    fn is_unnamed_newest(&self) -> bool {
        matches!(self.pending.back(), Some(Pending::Parse { name, .. }) if name.is_empty())
    }

    /// Whether a Parse of the unnamed statement is in flight.
    pub(crate) fn is_unnamed_pending(&self) -> bool {
        self.is_pending(b"")
    }

    /// Whether no answer can have told the client the columns of the unnamed statement.
    fn is_unnamed_untold(&self) -> bool {
        !self.notes.is_unnamed_used || !self.notes.is_unnamed_told
    }
}
