//! Under which names the session's statements stand on its connection, where these are made from content, and what a message
//! of the client needs for that.

use std::borrow::Cow;

use trunkline_codec::frontend::{Close, Describe, FrontendTag, Parse, Target};

use super::presence::{Presence, may_need_all};
use super::saved::{StatementOrigin, Wire};
use super::{Pending, Prepared, SavedStatement, StatementEffects, Step};
use crate::carried::content::{ContentId, ContentThere};
use crate::carried::shape::Shape;
use crate::limits::CONTENTS_LATELY_MAX;
use crate::names::{Name, bind_of, close_of, describe_of, parse_of};
use crate::sql::references::may_refer;

/// What goes to the server in the place of a client's Parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentAs {
    /// It, perhaps under another name.
    Parse,
    /// A Close of nothing, as the server has the statement: it has one answer in its turn, as a Parse has, and is skipped
    /// after an error, as a Parse is.
    Close,
}

/// What a message of the client becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// It stays as it is.
    Same,
    /// It names the statement of this content.
    Content(ContentId),
    /// A Close of a statement that others share: one of nothing.
    Shared,
    /// A Parse, for which this is decided when it is sent.
    Parse,
    /// The server needs something before it.
    First,
}

/// Whether statements may be shared with other sessions now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Allowed,
    /// How they would be read is not known, or is not how others read them.
    NotNow,
}

/// The contents that the client has used in its present transaction, the last of them.
#[derive(Debug, Default)]
pub(super) struct UsedLately {
    ids: Vec<ContentId>,
    next: usize,
}

impl UsedLately {
    #[inline]
    fn note(&mut self, id: ContentId) {
        if self.ids.contains(&id) {
            return;
        }
        if self.ids.len() < CONTENTS_LATELY_MAX {
            return self.ids.push(id);
        }
        if let Some(oldest) = self.ids.get_mut(self.next) {
            *oldest = id;
        }
        self.next = (self.next + 1) % CONTENTS_LATELY_MAX;
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.ids.clear();
    }
}

impl Prepared {
    /// What this message becomes. Of a long one `body` is the first part.
    pub(crate) fn naming(&mut self, tag: FrontendTag, body: &[u8]) -> Naming {
        match tag {
            FrontendTag::Bind => bind_of(body).map_or(Naming::Same, |bind| self.naming_of(bind.statement)),
            FrontendTag::Describe => match describe_of(body) {
                Some(Describe { kind: Target::Statement, name }) => self.naming_of(name),
                Some(Describe { kind: Target::Portal, .. }) | None => Naming::Same,
            },
            FrontendTag::Close => match close_of(body) {
                Some(Close { kind: Target::Statement, name }) if self.content_of(name).is_some() => {
                    Naming::Shared
                }
                Some(Close { .. }) | None => Naming::Same,
            },
            FrontendTag::Query if self.has_names() && may_refer(body) => Naming::First,
            FrontendTag::Parse => self.naming_of_parse(body),
            _other => Naming::Same,
        }
    }

    /// Whether SQL that names or lists statements could tell that some stand under other names.
    fn has_names(&self) -> bool {
        !self.named.is_empty() || !self.contents.is_empty() || !self.pending.is_empty()
    }

    fn naming_of_parse(&self, body: &[u8]) -> Naming {
        let Some(parse) = parse_of(body) else { return Naming::Same };
        if self.has_names() && may_refer(parse.sql) {
            return Naming::First;
        }
        // A Parse of a name that the client has is refused with the statement that has it.
        let is_missing = |id: ContentId| matches!(self.contents.get(id), ContentThere::Missing);
        match self.content_of(parse.name) {
            Some(id) if is_missing(id) && !self.is_in_flight(id) => Naming::First,
            Some(_) => Naming::Parse,
            None if parse.name.is_empty() => Naming::Same,
            None => Naming::Parse,
        }
    }

    fn naming_of(&mut self, name: &[u8]) -> Naming {
        let naming = match self.in_flight(name) {
            Some(saved) => match saved.wire {
                Wire::OfContent(id) => Naming::Content(id),
                Wire::OfClient => Naming::Same,
            },
            None => self.get(name).map_or(Naming::Same, |saved| self.naming_of_settled(saved)),
        };
        match naming {
            Naming::Content(_) if !self.pending.is_empty() && self.is_closed(name) => Naming::Same,
            Naming::Content(id) => {
                self.used_lately.note(id);
                naming
            }
            Naming::Same | Naming::Shared | Naming::Parse | Naming::First => naming,
        }
    }

    /// The statement of the newest Parse of a name in flight.
    #[inline]
    fn in_flight(&self, name: &[u8]) -> Option<&SavedStatement> {
        self.pending.iter().rev().find_map(|pending| match pending {
            Pending::Parse { name: parsed, saved, .. } if **parsed == *name => Some(saved),
            Pending::Parse { .. } | Pending::CloseStatement(_) | Pending::Nothing => None,
        })
    }

    fn is_closed(&self, name: &[u8]) -> bool {
        self.resolve(name).is_none_or(|resolved| resolved.is_closed)
    }

    fn naming_of_settled(&self, saved: &SavedStatement) -> Naming {
        match saved.wire {
            Wire::OfContent(id) if self.has_content(saved, id) => Naming::Content(id),
            Wire::OfContent(_) => Naming::First,
            Wire::OfClient if self.kept_sql(saved).is_some_and(may_refer) => Naming::First,
            Wire::OfClient => Naming::Same,
        }
    }

    /// Whether the present connection has the content of a statement as its client knows it.
    #[inline]
    fn has_content(&self, saved: &SavedStatement, id: ContentId) -> bool {
        match self.contents.get(id) {
            ContentThere::Usable(there) => !saved.shape.is_known() || saved.shape == *there,
            ContentThere::Missing | ContentThere::Stale => false,
        }
    }

    /// The content that a name stands for, once everything sent is answered.
    pub(crate) fn content_of(&self, name: &[u8]) -> Option<ContentId> {
        let resolved = self.resolve(name).filter(|resolved| !resolved.is_closed)?;
        match resolved.saved.wire {
            Wire::OfContent(id) => Some(id),
            Wire::OfClient => None,
        }
    }

    /// Whether a Parse in flight makes this content on the server.
    pub(crate) fn is_in_flight(&self, id: ContentId) -> bool {
        let makes_it = |pending: &Pending| match pending {
            Pending::Parse { saved, sent_as: SentAs::Parse, .. } => saved.wire == Wire::OfContent(id),
            Pending::Parse { .. } | Pending::CloseStatement(_) | Pending::Nothing => false,
        };
        self.pending.iter().any(makes_it)
    }

    /// How the newest Parse was sent.
    pub(crate) fn newest(&self) -> Option<(Wire, SentAs)> {
        match self.pending.back()? {
            Pending::Parse { saved, sent_as, .. } => Some((saved.wire, *sent_as)),
            Pending::CloseStatement(_) | Pending::Nothing => None,
        }
    }

    /// Whether the next answer for a Parse is that of the Close which went in its place.
    pub(crate) fn is_closed_instead(&self) -> bool {
        matches!(self.pending.front(), Some(Pending::Parse { sent_as: SentAs::Close, .. }))
    }

    /// Whether SQL may name a statement whose Parse is in flight under another name.
    pub(crate) fn may_name_one_in_flight(&self, sql: &[u8]) -> bool {
        let is_shared = |pending: &Pending| match pending {
            Pending::Parse { saved, .. } => saved.wire != Wire::OfClient,
            Pending::CloseStatement(_) | Pending::Nothing => false,
        };
        self.pending.iter().any(is_shared) && may_refer(sql)
    }

    /// The name of a statement on servers.
    pub(crate) fn wire_name<'a>(&self, name: &'a [u8]) -> Cow<'a, [u8]> {
        match self.get(name).map(|saved| saved.wire) {
            Some(Wire::OfContent(id)) => Cow::Owned(id.name().to_vec()),
            Some(Wire::OfClient) | None => Cow::Borrowed(name),
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

    /// The server refuses a statement as its columns are others now: one of those that were used last.
    pub(crate) fn refused(&mut self) {
        self.contents.refused(&self.used_lately.ids);
    }

    /// The steps before this message by which its statements get the names that they need: those that SQL names, their
    /// client's; where SQL lists them, no other is left; and a statement of which the connection lacks the content is made.
    pub(crate) fn steps_of_names(&mut self, tag: FrontendTag, body: &[u8], sharing: Sharing) -> Vec<Step> {
        if self.sql_of(tag, body).is_some_and(may_need_all) {
            let all: Vec<Name> = self.named.keys().cloned().collect();
            let unknown = self.steps_to_learn(all.iter());
            if !unknown.is_empty() {
                return unknown;
            }
            all.iter().for_each(|name| self.take_back(name));
            return self.contents.ids().map(Step::CloseContent).collect();
        }
        let mut found = self.named_in(tag, body);
        self.resolve_references(&mut found);
        let own: Option<Name> = match tag {
            FrontendTag::Bind => bind_of(body).map(|bind| bind.statement.into()),
            FrontendTag::Describe => describe_of(body).map(|describe| describe.name.into()),
            FrontendTag::Parse => parse_of(body).map(|parse| parse.name.into()),
            _other => None,
        };
        let others = || found.executed.iter().chain(&found.held).filter(|name| own.as_ref() != Some(*name));
        let unknown = self.steps_to_learn(others());
        if !unknown.is_empty() {
            return unknown;
        }
        others().for_each(|name| self.take_back(name));
        own.map_or_else(Vec::new, |name| self.steps_to_share(&name, sharing))
    }

    /// The steps that describe those of these statements which their client has used without a description: once they stand
    /// under its name, nothing tells whether they are as it knows them.
    fn steps_to_learn<'a>(&self, names: impl Iterator<Item = &'a Name>) -> Vec<Step> {
        let is_there = |id| !matches!(self.contents.get(id), ContentThere::Missing);
        let step = |name: &Name| match self.get(name) {
            Some(saved) if saved.is_unsure() && saved.origin != StatementOrigin::Unsaved => {
                match saved.wire {
                    Wire::OfContent(id) if is_there(id) => {
                        Some(Step::LearnContent { name: name.clone(), id })
                    }
                    Wire::OfContent(_) | Wire::OfClient => None,
                }
            }
            Some(_) | None => None,
        };
        names.filter_map(step).collect()
    }

    /// The steps that make a statement under the name of its content, where the connection lacks that. It gets its client's
    /// name where others could not use it.
    fn steps_to_share(&mut self, name: &Name, sharing: Sharing) -> Vec<Step> {
        let Some(saved) = self.get(name) else { return Vec::new() };
        let Wire::OfContent(id) = saved.wire else { return Vec::new() };
        if self.has_content(saved, id) || self.is_in_flight(id) {
            return Vec::new();
        }
        if sharing == Sharing::NotNow || saved.is_unsure() {
            self.take_back(name);
            return Vec::new();
        }
        let sql = self.kept_sql(saved).unwrap_or_default().into();
        let types = self.types(name).map_or_else(|| saved.parsed_types(&self.texts).into(), Clone::clone);
        let is_there = !matches!(self.contents.get(id), ContentThere::Missing);
        let close = is_there.then_some(Step::CloseContent(id));
        close.into_iter().chain([Step::MakeContent { name: name.clone(), id, sql, types }]).collect()
    }

    /// The session is no longer followed, but stays where it is: all that is left is the names that its statements have
    /// there. `None` where these are its client's.
    pub(crate) fn names_alone(&mut self) -> Option<Self> {
        let mut alone = Self::for_log(0);
        for (name, mut saved) in self.named.drain() {
            if saved.wire != Wire::OfClient {
                (saved.origin, saved.text) = (StatementOrigin::Unsaved, None);
                saved.effects = StatementEffects::PLAIN;
                alone.named.insert(name, saved);
            }
        }
        alone.unsaved = alone.named.len();
        (!alone.named.is_empty()).then_some(alone)
    }

    /// What a message becomes in a session that is no longer followed.
    pub(crate) fn naming_alone(&mut self, tag: FrontendTag, body: &[u8]) -> Naming {
        let content = |name: &[u8]| self.content_of(name).map_or(Naming::Same, Naming::Content);
        match tag {
            FrontendTag::Bind => bind_of(body).map_or(Naming::Same, |bind| content(bind.statement)),
            FrontendTag::Describe => match describe_of(body) {
                Some(Describe { kind: Target::Statement, name }) => content(name),
                Some(Describe { kind: Target::Portal, .. }) | None => Naming::Same,
            },
            FrontendTag::Close => match close_of(body) {
                Some(Close { kind: Target::Statement, name }) if content(name) != Naming::Same => {
                    self.deallocate(name);
                    Naming::Shared
                }
                Some(Close { .. }) | None => Naming::Same,
            },
            _other => Naming::Same,
        }
    }

    /// The statements of Parses that stand under their client's names stand under those of their content from now on, where
    /// `content_of` says what that is. The session has no connection.
    #[cold]
    pub(crate) fn share(&mut self, content_of: impl Fn(&Parse<'_>) -> Option<ContentId>) {
        let Self { named, texts, .. } = self;
        for saved in named.values_mut() {
            let is_own = saved.wire == Wire::OfClient
                && saved.origin == StatementOrigin::Parse
                && saved.shape.is_known();
            let parse = texts.whole(saved.text).filter(|_| is_own).and_then(|body| Parse::parse(body).ok());
            if let Some(id) = parse.and_then(|parse| content_of(&parse)) {
                (saved.wire, saved.presence) = (Wire::OfContent(id), Presence::Present);
                saved.shared.take();
            }
        }
        self.sets.changed();
        self.count_absent();
    }

    /// A statement stands under its client's name from now on; the server does not have it yet.
    pub(super) fn take_back(&mut self, name: &[u8]) {
        let Some(saved) = self.named.get_mut(name) else { return };
        if saved.wire == Wire::OfClient {
            return;
        }
        saved.wire = Wire::OfClient;
        self.sets.changed();
        self.put(name, Presence::Absent);
        self.count_absent();
    }

    /// The server has made a content for this session, and is about to describe it.
    pub(crate) fn content_made(&mut self, id: ContentId) {
        self.contents.put(id, Shape::default());
    }
}
