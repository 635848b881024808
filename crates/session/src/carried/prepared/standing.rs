//! How statements get the names under which they stand on a connection: those of their content, or their client's again.

use trunkline_codec::frontend::{Close, Describe, FrontendTag, Parse, Target};
use trunkline_codec::sqlstate::SqlState;

use super::naming::MessageExtent;
use super::presence::{Presence, may_need_all};
use super::saved::{SavedStatement, StatementOrigin, Wire};
use super::{Naming, Pending, Prepared, StatementEffects, Step};
use crate::carried::content::{ContentId, ContentThere, PreparedAt};
use crate::carried::shape::Shape;
use crate::limits::CONTENT_MADE_MAX;
use crate::names::{Name, bind_of, close_of, describe_of, parse_of};

/// What a server refuses under the name of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentRefused {
    Parse,
    /// A Bind or Describe.
    Use,
}

impl Prepared {
    /// The steps before this message by which its statements get the names that they need: those that SQL names, their
    /// client's; where SQL lists them, no other is left; and a statement of which the connection lacks the content is made.
    /// `content_of` says what that is now, where it may be shared. All that was in flight is answered.
    pub(crate) fn steps_of_names(
        &mut self,
        (tag, body, extent): (FrontendTag, &[u8], MessageExtent),
        content_of: impl Fn(&Parse<'_>) -> Option<ContentId>,
    ) -> Vec<Step> {
        let may_have_sql = matches!(tag, FrontendTag::Query | FrontendTag::Parse);
        let is_unread = extent == MessageExtent::Part && may_have_sql;
        if is_unread || self.sql_of(tag, body).is_some_and(may_need_all) {
            let all: Vec<Name> = self.named.keys().cloned().collect();
            let unknown = self.steps_to_learn(all.iter());
            if !unknown.is_empty() {
                return unknown;
            }
            all.iter().for_each(|name| self.take_back(name));
            // What is not read runs statements rather than to list them.
            return if is_unread {
                Vec::new()
            } else {
                self.contents.ids().map(Step::CloseContent).collect()
            };
        }
        let mut found = self.named_in(tag, body);
        self.resolve_references(&mut found);
        let used: Option<Name> = match tag {
            FrontendTag::Bind => bind_of(body).map(|bind| bind.statement.into()),
            FrontendTag::Describe => describe_of(body).map(|describe| describe.name.into()),
            _other => None,
        };
        let others = || found.executed.iter().chain(&found.held).filter(|name| used.as_ref() != Some(*name));
        let unknown = self.steps_to_learn(others());
        if !unknown.is_empty() {
            return unknown;
        }
        others().for_each(|name| self.take_back(name));
        used.map_or_else(Vec::new, |name| self.steps_to_share(&name, content_of))
    }

    /// The steps that describe those of these statements which their client has used without a description: once they stand
    /// under its name, nothing tells whether they are as it knows them.
    fn steps_to_learn<'a>(&self, names: impl Iterator<Item = &'a Name>) -> Vec<Step> {
        let is_usable = |id| matches!(self.contents.get(id), ContentThere::Usable(..));
        let step = |name: &Name| match self.get(name) {
            Some(saved) if saved.is_unsure() && saved.origin != StatementOrigin::Unsaved => {
                match saved.wire {
                    Wire::OfContent(id) if is_usable(id) => {
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
    /// name where others could not use it. The name is always that of the very Parse which is sent.
    fn steps_to_share(
        &mut self,
        name: &Name,
        content_of: impl Fn(&Parse<'_>) -> Option<ContentId>,
    ) -> Vec<Step> {
        let Some(saved) = self.get(name) else { return Vec::new() };
        let Wire::OfContent(id) = saved.wire else { return Vec::new() };
        if self.has_content(saved, id) {
            self.times_made = 0;
            return Vec::new();
        }
        // What is made and still not there never will be.
        let is_hopeless = self.times_made >= CONTENT_MADE_MAX;
        let parse = saved.kept_parse(&self.texts).filter(|_| !saved.is_unsure() && !is_hopeless);
        let now = parse.and_then(|parse| Some((content_of(&parse)?, parse)));
        let Some((id, Parse { sql, parameter_types, .. })) = now else {
            self.times_made = 0;
            self.take_back(name);
            return Vec::new();
        };
        let is_there = self.has_content(saved, id);
        let (sql, types) = (sql.into(), parameter_types.into());
        if let Some(saved) = self.named.get_mut(name) {
            saved.wire = Wire::OfContent(id);
        }
        if is_there {
            return Vec::new();
        }
        self.times_made += 1;
        vec![Step::MakeContent { name: name.clone(), id, sql, types }]
    }

    /// The session is no longer followed, but stays where it is: all that is left is the names that its statements have
    /// there. `None` where these are its client's.
    pub(crate) fn names_alone(&mut self) -> Option<Self> {
        let mut alone = Self::for_log(0);
        let in_flight = self.pending.drain(..).filter_map(|pending| match pending {
            Pending::Parse { name, saved, .. } => Some((name, saved)),
            Pending::CloseStatement(_) | Pending::Nothing => None,
        });
        for (name, mut saved) in self.named.drain().chain(in_flight) {
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
        let content = |name: &[u8]| self.wire_content(name).map_or(Naming::Same, Naming::Content);
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
            // The server has no statement of this name, so that it makes one.
            FrontendTag::Parse => {
                if let Some(parse) = parse_of(body) {
                    self.deallocate(parse.name);
                }
                Naming::Same
            }
            _other => Naming::Same,
        }
    }

    /// The statements of Parses that stand under their client's names stand under those of their content from now on, where
    /// `content_of` says what that is. The session has no connection.
    #[cold]
    pub(crate) fn share(&mut self, content_of: impl Fn(&Parse<'_>) -> Option<ContentId>) {
        let Self { named, texts, .. } = self;
        for saved in named.values_mut() {
            let is_own = saved.wire == Wire::OfClient && saved.shape.is_known();
            let parse = saved.kept_parse(texts).filter(|_| is_own);
            if let Some(id) = parse.and_then(|parse| content_of(&parse)) {
                (saved.wire, saved.presence) = (Wire::OfContent(id), Presence::Present);
                saved.shared.take();
            }
        }
        self.sets.changed();
        self.count_absent();
    }

    /// Statements that stand under the names of their content stand under those that it has now, where `content_of` says
    /// what that is.
    #[cold]
    pub(crate) fn name_anew(&mut self, content_of: impl Fn(&Parse<'_>) -> Option<ContentId>) {
        let Self { named, texts, .. } = self;
        let shared = named.values_mut().filter(|saved| saved.wire != Wire::OfClient && !saved.is_unsure());
        for saved in shared {
            if let Some(id) = saved.kept_parse(texts).and_then(|parse| content_of(&parse)) {
                saved.wire = Wire::OfContent(id);
            }
        }
    }

    /// A statement stands under its client's name from now on; the server does not have it yet.
    pub(super) fn take_back(&mut self, name: &[u8]) {
        let Some(saved) = self.named.get_mut(name) else { return };
        if saved.wire == Wire::OfClient {
            return;
        }
        // It could not be made there.
        if saved.origin == StatementOrigin::Unsaved {
            return;
        }
        saved.wire = Wire::OfClient;
        self.sets.changed();
        self.put(name, Presence::Absent);
        self.count_absent();
    }

    /// The server has refused a Parse, Bind or Describe under the name of a content. A Parse is refused for what it is, unless
    /// the connection has such a statement already; what a Bind is refused for may be its parameters.
    pub(crate) fn content_refused(&mut self, id: ContentId, what: ContentRefused, code: Option<SqlState>) {
        let is_of_statement = |code: SqlState| {
            code == SqlState::FEATURE_NOT_SUPPORTED || matches!(code.class(), "42" | "XX" | "55" | "3F")
        };
        match (what, code) {
            (_, Some(SqlState::INVALID_SQL_STATEMENT_NAME)) => self.contents.remove(id),
            (ContentRefused::Parse, Some(SqlState::DUPLICATE_PSTATEMENT)) => self.contents.refused(id),
            (ContentRefused::Parse, _) => {}
            (_, Some(code)) if is_of_statement(code) => self.contents.refused(id),
            _other => {}
        }
    }

    /// The server has made a content for this session, and is about to describe it.
    pub(crate) fn content_made(&mut self, id: ContentId, made: PreparedAt) {
        self.contents.put(id, Shape::default(), made);
    }
}

impl SavedStatement {
    /// The Parse that has prepared it.
    fn kept_parse<'a>(&self, texts: &'a super::Texts) -> Option<Parse<'a>> {
        match self.origin {
            StatementOrigin::Parse => Parse::parse(texts.whole(self.text)?).ok(),
            StatementOrigin::Sql | StatementOrigin::Unsaved => None,
        }
    }
}
