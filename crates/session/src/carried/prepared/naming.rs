//! Under which names the session's statements stand on its connection, where these are made from content, and what a message
//! of the client becomes for that.

use std::borrow::Cow;

use trunkline_codec::frontend::{Close, Describe, FrontendTag, Target};

use super::presence::Presence;
use super::saved::{StatementOrigin, Wire};
use super::{Pending, Prepared, SavedStatement};
use crate::carried::content::{ContentId, ContentThere};
use crate::limits::{PREPARED_BYTES_MAX, PREPARED_MAX};
use crate::names::{bind_of, close_of, describe_of, parse_of};
use crate::sql::references::may_refer;

/// What a message of the client becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// It stays as it is.
    Same,
    /// It names the statement of this content.
    Content(ContentId),
    /// A Close of a statement that others share: one of nothing.
    Shared,
    /// A Parse of a name that is free, for which this is decided when it is sent.
    Parse,
    /// The server needs something before it, once all that is in flight is answered.
    First,
    /// This is known once all that is in flight is answered.
    Unsettled,
}

impl Naming {
    /// Whether all that is in flight has to be answered before the message goes to the server.
    #[inline]
    pub(crate) fn needs_answers(self) -> bool {
        matches!(self, Self::First | Self::Unsettled)
    }
}

/// Whether statements may be shared with other sessions now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Allowed,
    /// How they would be read is not known, or is not how others read them.
    NotNow,
}

/// Whether what is in flight may drop statements or make others, besides Parse and Close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementsAhead {
    TheSame,
    PerhapsOthers,
}

/// Whether all of a message is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageExtent {
    Whole,
    /// Its first part.
    Part,
}

impl MessageExtent {
    /// Of a body, of which `body` is at hand.
    #[inline]
    pub(crate) fn of(body: &[u8], length: usize) -> Self {
        if body.len() == length { Self::Whole } else { Self::Part }
    }
}

/// What is in flight before a message, as far as that decides what a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AheadOfMessage {
    /// So many Parses and Closes are of the same series: where one of them fails, the server skips the message. Whether
    /// those before them have failed is not known.
    pub(crate) in_series: usize,
    pub(crate) statements: StatementsAhead,
}

/// What a name stands for where a message arrives.
enum NameStanding<'a> {
    /// That is not known before what is in flight is answered. Some of it stands under a name made from content.
    Unsettled,
    /// The same, of statements under their client's names alone.
    UnsettledOwn,
    Nothing,
    /// What a Parse of the same series makes.
    Coming(&'a SavedStatement),
    Settled(&'a SavedStatement),
}

impl Prepared {
    /// What this message becomes. Of a long one `body` is the first part.
    pub(crate) fn naming(
        &self,
        (tag, body, extent): (FrontendTag, &[u8], MessageExtent),
        ahead: AheadOfMessage,
    ) -> Naming {
        match tag {
            FrontendTag::Bind => {
                bind_of(body).map_or(Naming::Same, |bind| self.naming_of(bind.statement, ahead))
            }
            FrontendTag::Describe => match describe_of(body) {
                Some(Describe { kind: Target::Statement, name }) => self.naming_of(name, ahead),
                Some(Describe { kind: Target::Portal, .. }) | None => Naming::Same,
            },
            FrontendTag::Close => match close_of(body) {
                Some(Close { kind: Target::Statement, name }) => self.naming_of_close(name, ahead),
                Some(Close { .. }) | None => Naming::Same,
            },
            FrontendTag::Query if self.has_names() && names_any(body, extent) => Naming::First,
            FrontendTag::Parse => self.naming_of_parse(body, extent, ahead),
            _other => Naming::Same,
        }
    }

    /// Whether SQL that names or lists statements could tell that some stand under other names.
    fn has_names(&self) -> bool {
        !self.named.is_empty() || !self.contents.is_empty() || !self.pending.is_empty()
    }

    fn naming_of_parse(&self, body: &[u8], extent: MessageExtent, ahead: AheadOfMessage) -> Naming {
        let Some(parse) = parse_of(body) else { return Naming::Same };
        if self.has_names() && names_any(parse.sql, extent) {
            return Naming::First;
        }
        if parse.name.is_empty() {
            return Naming::Same;
        }
        // A Parse of a name that the client has is refused where the server has a statement of that name.
        match self.standing(parse.name, ahead) {
            NameStanding::Nothing => Naming::Parse,
            NameStanding::Unsettled => Naming::Unsettled,
            NameStanding::UnsettledOwn => Naming::Same,
            NameStanding::Coming(saved) if saved.wire != Wire::OfClient => Naming::Unsettled,
            NameStanding::Settled(saved) if saved.wire != Wire::OfClient => Naming::First,
            NameStanding::Coming(_) | NameStanding::Settled(_) => Naming::Same,
        }
    }

    fn naming_of(&self, name: &[u8], ahead: AheadOfMessage) -> Naming {
        match self.standing(name, ahead) {
            NameStanding::Nothing | NameStanding::UnsettledOwn => Naming::Same,
            NameStanding::Unsettled => Naming::Unsettled,
            NameStanding::Coming(saved) => match saved.wire {
                Wire::OfContent(id) => Naming::Content(id),
                Wire::OfClient => Naming::Same,
            },
            NameStanding::Settled(saved) => self.naming_of_settled(saved),
        }
    }

    fn naming_of_close(&self, name: &[u8], ahead: AheadOfMessage) -> Naming {
        match self.standing(name, ahead) {
            NameStanding::Nothing | NameStanding::UnsettledOwn => Naming::Same,
            NameStanding::Unsettled => Naming::Unsettled,
            NameStanding::Coming(saved) | NameStanding::Settled(saved) => match saved.wire {
                Wire::OfContent(_) => Naming::Shared,
                Wire::OfClient => Naming::Same,
            },
        }
    }

    fn naming_of_settled(&self, saved: &SavedStatement) -> Naming {
        match saved.wire {
            Wire::OfContent(id) if self.has_content(saved, id) => Naming::Content(id),
            Wire::OfContent(_) => Naming::First,
            Wire::OfClient if self.kept_sql(saved).is_some_and(may_refer) => Naming::First,
            Wire::OfClient => Naming::Same,
        }
    }

    /// See [`NameStanding`].
    fn standing(&self, name: &[u8], ahead: AheadOfMessage) -> NameStanding<'_> {
        let settled = self.get(name);
        let mut standing = settled.map_or(NameStanding::Nothing, NameStanding::Settled);
        // One that the server lacks would be made again, behind what drops it.
        let mut is_shared =
            settled.is_some_and(|saved| saved.wire != Wire::OfClient || saved.presence != Presence::Present);
        let mut is_unsettled = false;
        let earlier = self.pending.len().saturating_sub(ahead.in_series);
        for (at, pending) in self.pending.iter().enumerate() {
            match pending {
                Pending::Parse { name: parsed, saved, .. } if **parsed == *name => {
                    is_shared |= saved.wire != Wire::OfClient;
                    standing = NameStanding::Coming(saved);
                }
                Pending::CloseStatement(closed) if **closed == *name => standing = NameStanding::Nothing,
                Pending::Parse { .. } | Pending::CloseStatement(_) | Pending::Nothing => continue,
            }
            is_unsettled |= at < earlier;
        }
        match (is_unsettled || (is_shared && ahead.statements == StatementsAhead::PerhapsOthers), is_shared) {
            (true, true) => NameStanding::Unsettled,
            (true, false) => NameStanding::UnsettledOwn,
            (false, _) => standing,
        }
    }

    /// Whether the server will take a Parse of this name, in whatever way what is in flight ends.
    pub(crate) fn is_free(&self, name: &[u8], ahead: AheadOfMessage) -> bool {
        matches!(self.standing(name, ahead), NameStanding::Nothing)
    }

    /// Whether one more statement of a Parse of so many bytes is kept.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.named.len() + self.pending.len() < PREPARED_MAX
            && self.bytes + self.pending_bytes + bytes <= PREPARED_BYTES_MAX
    }

    /// Whether a Parse or Close is in flight.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the present connection has the content of a statement as its client knows it. One that could not be made
    /// again is used as long as it is there.
    #[inline]
    pub(super) fn has_content(&self, saved: &SavedStatement, id: ContentId) -> bool {
        match self.contents.get(id) {
            ContentThere::Usable(shape, made) => {
                made >= saved.parsed && (!saved.shape.is_known() || saved.shape == *shape)
            }
            ContentThere::Stale => saved.origin == StatementOrigin::Unsaved,
            ContentThere::Missing => false,
        }
    }

    /// Whether a Parse in flight makes this content on the server.
    pub(crate) fn is_in_flight(&self, id: ContentId) -> bool {
        let makes_it = |pending: &Pending| match pending {
            Pending::Parse { saved, .. } => saved.wire == Wire::OfContent(id),
            Pending::CloseStatement(_) | Pending::Nothing => false,
        };
        self.pending.iter().any(makes_it)
    }

    /// Under which name the newest Parse was sent.
    pub(crate) fn newest(&self) -> Option<Wire> {
        match self.pending.back()? {
            Pending::Parse { saved, .. } => Some(saved.wire),
            Pending::CloseStatement(_) | Pending::Nothing => None,
        }
    }

    /// The name of a statement on servers.
    pub(crate) fn wire_name<'a>(&self, name: &'a [u8]) -> Cow<'a, [u8]> {
        match self.wire_content(name) {
            Some(id) => Cow::Owned(id.name().to_vec()),
            None => Cow::Borrowed(name),
        }
    }

    /// The content under whose name a statement stands on servers.
    pub(crate) fn wire_content(&self, name: &[u8]) -> Option<ContentId> {
        match self.get(name)?.wire {
            Wire::OfContent(id) => Some(id),
            Wire::OfClient => None,
        }
    }

    /// A name that the client has for this content.
    pub(crate) fn name_for(&self, id: ContentId) -> Option<&[u8]> {
        let in_flight = self.pending.iter().filter_map(|pending| match pending {
            Pending::Parse { name, saved, .. } => Some((&**name, saved)),
            Pending::CloseStatement(_) | Pending::Nothing => None,
        });
        let all = in_flight.chain(self.named.iter().map(|(name, saved)| (&**name, saved)));
        all.into_iter().find(|(_, saved)| saved.wire == Wire::OfContent(id)).map(|(name, _)| name)
    }
}

/// Whether SQL may name or list statements, in a part that is not at hand, too.
pub(super) fn names_any(sql: &[u8], extent: MessageExtent) -> bool {
    extent == MessageExtent::Part || may_refer(sql)
}
