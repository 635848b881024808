//! Which statements the present server has, and what is sent to it before a message that needs others.

use trunkline_codec::frontend::{Bind, Describe, FrontendTag, Target};

use super::naming::MessageExtent;
use super::renamed::RenamedInFlight;
use super::unnamed::ColumnsAsked;
use super::{Pending, Prepared, SavedStatement, StatementOrigin, Step, Wire};
use crate::carried::content::Contents;
use crate::carried::shape::Shape;
use crate::limits::REFERENCES_MAX;
use crate::names::{Name, bind_of, describe_of, parse_of};
use crate::sql::effect::{Change, Effect};
use crate::sql::read::read;
use crate::sql::references::{
    References, has_constants, may_change_reading, may_refer, references, undeclared,
};
use crate::sql::suspicious_names::has_word;

/// Whether the present server has a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// The server has it, as the client knows it.
    Present,
    /// The server does not have it.
    Absent,
    /// The server has a stand-in under its name.
    StandIn,
    /// The stand-in was dropped to prepare the statement, which failed.
    Cleared,
    /// It was prepared again for the present message, and differs from what the client knows.
    Differs,
}

/// Which statements are prepared on the present server, where it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementSelection {
    All,
    /// Those with constants that settings say how to read, and perhaps those that are new to the client.
    WithConstants {
        and_new: bool,
    },
    /// Those that are new to the client.
    New,
}

impl Prepared {
    /// Another server was taken: it has none of the statements.
    pub(crate) fn server_taken(&mut self) {
        self.unnamed_lost();
        self.notes.server_taken();
        self.sets.moved();
        self.contents = Contents::default();
        self.renamed = RenamedInFlight::default();
        for saved in self.named.values_mut() {
            // What its client knows of it cannot be compared with what others share.
            if saved.is_unsure() {
                saved.wire = Wire::OfClient;
            }
            if saved.wire == Wire::OfClient {
                saved.presence = Presence::Absent;
            }
        }
        self.count_absent();
    }

    /// A server was taken, and it is known which statements it has.
    pub(super) fn count_absent(&mut self) {
        let is_absent = |saved: &&SavedStatement| saved.presence != Presence::Present;
        self.is_listed = false;
        self.has_made_constants = false;
        self.has_new = self.named.values().filter(is_absent).any(SavedStatement::is_new);
        self.absent = self.named.values().chain(&self.unnamed).filter(is_absent).count();
    }

    /// Whether a message may need a statement that the present server does not have.
    #[inline]
    pub(crate) fn has_absent(&self) -> bool {
        self.absent > 0
    }

    /// The steps that the server needs before this message of the client; none for most. Of a long message `body` is
    /// the first part; statements that only later parts name are not found.
    #[cold]
    pub(crate) fn steps_before(&mut self, tag: FrontendTag, body: &[u8], asked: ColumnsAsked) -> Vec<Step> {
        let mut found = self.named_in(tag, body);
        let asked = if tag == FrontendTag::Describe { ColumnsAsked::Now } else { asked };
        if tag == FrontendTag::Describe
            && let Some(steps) = self.steps_to_describe(body)
        {
            return steps;
        }
        let mut steps = if tag == FrontendTag::Bind { self.steps_to_try(body) } else { Vec::new() };
        self.resolve_references(&mut found);
        // After an error the server skips everything.
        for name in found.executed {
            self.make(&name, &mut steps, asked);
            if steps.last() == Some(&Step::Fail) {
                return steps;
            }
        }
        for name in found.held {
            if steps.contains(&Step::Check(name.clone())) {
                continue;
            }
            match self.presence(&name) {
                Some(Presence::Absent) => {}
                Some(Presence::Cleared) => steps.push(Step::Drop(name.clone())),
                Some(Presence::Present | Presence::StandIn | Presence::Differs) | None => continue,
            }
            steps.push(self.stand_in(&name));
        }
        steps
    }

    /// The steps that try a Bind on a stand-in before the statement is prepared: a server reports an error in the
    /// parameters before it checks whether the result type has changed. A Bind that has not arrived whole is not tried.
    /// Source: PostgreSQL 18, src/backend/tcop/postgres.c, `exec_bind_message`.
    fn steps_to_try(&self, body: &[u8]) -> Vec<Step> {
        let is_whole = Bind::parse(body).is_ok();
        let Some(Bind { portal, statement }) = bind_of(body).filter(|_| is_whole) else { return Vec::new() };
        let takes_any = self.types(statement).is_some_and(|types| !types.is_empty());
        let has_any = takes_any || Bind::has_parameters(body);
        let Some(mut steps) = self.steps_to_stand_in(statement).filter(|_| has_any) else {
            return Vec::new();
        };
        steps.push(Step::Bind { body: body.into(), portal: portal.into() });
        steps
    }

    /// The steps for a Describe of an absent statement without rows, which get a stand-in: the server does not check
    /// whether its result type has changed.
    /// Source: PostgreSQL 18, src/backend/tcop/postgres.c, `exec_describe_statement_message`.
    fn steps_to_describe(&self, body: &[u8]) -> Option<Vec<Step>> {
        match describe_of(body)? {
            Describe { kind: Target::Statement, name } if self.returns_no_rows(name) => {
                self.steps_to_stand_in(name)
            }
            Describe { kind: Target::Statement | Target::Portal, .. } => None,
        }
    }

    /// The step that prepares a stand-in for an absent statement, with the types of its parameters where they are
    /// known.
    fn steps_to_stand_in(&self, name: &[u8]) -> Option<Vec<Step>> {
        self.types(name)?;
        match self.presence(name)? {
            Presence::Present => None,
            Presence::StandIn => Some(Vec::new()),
            Presence::Absent => Some(vec![self.stand_in(name)]),
            Presence::Cleared | Presence::Differs => Some(vec![Step::Drop(name.into()), self.stand_in(name)]),
        }
    }

    fn stand_in(&self, name: &[u8]) -> Step {
        Step::StandIn { name: name.into(), types: self.types(name).cloned().unwrap_or_default() }
    }

    /// The statements that a message names.
    pub(super) fn named_in(&self, tag: FrontendTag, body: &[u8]) -> References {
        let one = |name: &[u8]| References { executed: vec![name.into()], ..References::default() };
        match tag {
            FrontendTag::Query => found_in(body),
            FrontendTag::Parse => parse_of(body).map_or_else(References::default, |parse| {
                let mut found = found_in(parse.sql);
                // The server refuses a second statement of the same name.
                found.held.extend((!parse.name.is_empty()).then(|| Name::from(parse.name)));
                found
            }),
            FrontendTag::Bind => bind_of(body).map_or_else(References::default, |bind| one(bind.statement)),
            FrontendTag::Describe => match describe_of(body) {
                Some(Describe { kind: Target::Statement, name }) => one(name),
                Some(Describe { kind: Target::Portal, .. }) | None => References::default(),
            },
            _other => References::default(),
        }
    }

    /// The statements that this message needs without naming them: all, because it lists them or runs SQL; with the first message
    /// since the server was taken, those with constants, which may be read differently after it; or those new to the
    /// client, which it may make impossible to prepare. They are prepared before a transaction begins, since preparing
    /// takes a snapshot, after which SET TRANSACTION fails.
    pub(crate) fn must_make(
        &self,
        (tag, body, extent): (FrontendTag, &[u8], MessageExtent),
    ) -> Option<StatementSelection> {
        if self.is_listed || !may_have_effects(tag) {
            return None;
        }
        let sql = self.sql_of(tag, body);
        if extent == MessageExtent::Part || sql.is_some_and(may_need_all) {
            return Some(StatementSelection::All);
        }
        let is_bound_new = self.is_bound_new(tag, body);
        if !self.has_made_constants || sql.is_some_and(may_change_reading) {
            return Some(StatementSelection::WithConstants { and_new: !is_bound_new });
        }
        (self.has_new && sql.is_some() && !is_bound_new).then_some(StatementSelection::New)
    }

    /// Whether a message binds a statement that is new to the client itself.
    fn is_bound_new(&self, tag: FrontendTag, body: &[u8]) -> bool {
        let bound = (tag == FrontendTag::Bind).then(|| bind_of(body)).flatten();
        bound.and_then(|bind| self.get(bind.statement)).is_some_and(SavedStatement::is_new)
    }

    /// The same for a message in a transaction: all, or those that could not be prepared before it.
    pub(crate) fn must_make_within(
        &self,
        (tag, body, extent): (FrontendTag, &[u8], MessageExtent),
    ) -> Option<StatementSelection> {
        let sql = if self.is_listed { None } else { self.sql_of(tag, body) }?;
        if extent == MessageExtent::Part || may_need_all(sql) {
            return Some(StatementSelection::All);
        }
        may_change_reading(sql).then_some(StatementSelection::WithConstants { and_new: true })
    }

    pub(super) fn sql_of<'a>(&'a self, tag: FrontendTag, body: &'a [u8]) -> Option<&'a [u8]> {
        match tag {
            FrontendTag::Query => Some(body),
            FrontendTag::Parse => parse_of(body).map(|parse| parse.sql),
            FrontendTag::Bind => bind_of(body).and_then(|bind| self.sql(bind.statement)),
            _other => None,
        }
    }

    /// The steps that prepare these statements on the present server, for each statement separately.
    pub(crate) fn steps_to_make(&mut self, which: StatementSelection) -> Vec<Vec<Step>> {
        self.is_listed = true;
        self.has_new &= which == StatementSelection::WithConstants { and_new: false };
        self.has_made_constants |= which != StatementSelection::New;
        let is_wanted = |saved: &SavedStatement| match which {
            StatementSelection::All => true,
            StatementSelection::WithConstants { and_new } => {
                (and_new && saved.is_new())
                    || (self.kept_sql(saved).is_some_and(has_constants) && !self.is_read_at_next_use(saved))
            }
            StatementSelection::New => saved.is_new(),
        };
        let wanted = self.named.iter().filter(|(_, saved)| is_wanted(saved));
        let steps = wanted.map(|(name, _)| {
            let mut steps = Vec::new();
            match self.presence(name) {
                Some(Presence::Absent) => self.write(name, &mut steps),
                Some(Presence::StandIn | Presence::Cleared) => {
                    steps.push(Step::Drop(name.clone()));
                    self.write(name, &mut steps);
                }
                Some(Presence::Present | Presence::Differs) | None => {}
            }
            steps
        });
        steps.filter(|steps| !steps.is_empty()).collect()
    }

    /// The steps that prepare what a Query of several statements runs behind a `search_path` that it sets itself, under
    /// that path: under the session's a statement may be invalid, or another.
    pub(crate) fn steps_under_its_path(&self, body: &[u8]) -> Vec<Step> {
        let sql = body.strip_suffix(b"\0").unwrap_or(body);
        if self.is_listed || !sql.contains(&b';') || !may_refer(sql) {
            return Vec::new();
        }
        let (mut steps, mut sets_path, mut made) = (Vec::new(), false, Vec::new());
        for effect in read(sql).effects {
            match effect {
                Effect::Change(changes) => {
                    for sql in changes.iter().filter_map(Change::sets_path) {
                        sets_path = true;
                        steps.push(Step::Run { sql: sql.into() });
                    }
                }
                Effect::Execute(name) | Effect::Explained(name)
                    if sets_path
                        && self.presence(&name) == Some(Presence::Absent)
                        && !made.contains(&name) =>
                {
                    self.write(&name, &mut steps);
                    made.push(name);
                }
                _other => {}
            }
        }
        if made.is_empty() { Vec::new() } else { steps }
    }

    /// Whether a Query may need all statements, or sets the path of what it runs: these are prepared between requests only.
    pub(crate) fn needs_all_answers(&self, body: &[u8]) -> bool {
        (!self.is_listed && may_need_all(body)) || !self.steps_under_its_path(body).is_empty()
    }

    /// What the present message needs without naming it is made, as far as possible.
    pub(crate) fn has_made_what_it_needs(&mut self) {
        self.is_listed = true;
    }

    /// A message goes to the server: the next one may need all statements again.
    pub(crate) fn message_sent(&mut self) {
        self.is_listed = false;
    }

    /// Statements run by those that are needed come before them. Those whose names they need are needed, too.
    pub(super) fn resolve_references(&self, found: &mut References) {
        let needed = &mut found.executed;
        let mut at = 0;
        while at < needed.len() && needed.len() < REFERENCES_MAX {
            let more = self
                .get(&needed[at])
                .and_then(|saved| self.kept_sql(saved))
                .map(found_in)
                .unwrap_or_default();
            needed.extend(more.executed);
            found.held.extend(more.held);
            at += 1;
        }
        needed.reverse();
        // One that is prepared needs no stand-in.
        let mut seen = std::collections::HashSet::new();
        needed.retain(|name| seen.insert(name.clone()));
        found.held.retain(|name| seen.insert(name.clone()));
    }

    /// The presence of a statement once everything sent is answered. A Parse of a name that is taken will be refused,
    /// also where a stand-in has taken it.
    pub(super) fn presence(&self, name: &[u8]) -> Option<Presence> {
        let mut presence = self.get(name).map(|saved| saved.presence);
        for pending in &self.pending {
            match pending {
                Pending::Parse { name: parsed, .. } if **parsed == *name => {
                    let is_refused = presence.is_some() && !name.is_empty();
                    presence = if is_refused { presence } else { Some(Presence::Present) };
                }
                Pending::CloseStatement(closed) if **closed == *name => presence = None,
                Pending::Parse { .. } | Pending::CloseStatement(_) | Pending::Nothing => {}
            }
        }
        presence
    }

    pub(super) fn put(&mut self, name: &[u8], presence: Presence) {
        let Some(saved) = self.get_mut(name) else { return };
        let before = std::mem::replace(&mut saved.presence, presence);
        if before != presence && !name.is_empty() {
            self.sets.moved();
        }
        self.absent -= usize::from(before != Presence::Present);
        self.absent += usize::from(presence != Presence::Present);
    }

    fn make(&self, name: &Name, steps: &mut Vec<Step>, asked: ColumnsAsked) {
        let is_asked = asked == ColumnsAsked::Now && name.is_empty();
        let is_unsure = self.get(name).is_some_and(SavedStatement::is_unsure) && !is_asked;
        let is_tried =
            steps.iter().any(|step| matches!(step, Step::StandIn { name: tried, .. } if tried == name));
        match self.presence(name) {
            None | Some(Presence::Present) => return,
            Some(Presence::Absent) if is_unsure => return steps.push(Step::Fail),
            Some(Presence::Differs) => return steps.extend([Step::Drop(name.clone()), Step::Fail]),
            Some(Presence::Absent) if !is_tried => {}
            Some(Presence::Absent | Presence::StandIn | Presence::Cleared) => {
                steps.push(Step::Drop(name.clone()))
            }
        }
        self.write(name, steps);
    }

    fn write(&self, name: &Name, steps: &mut Vec<Step>) {
        let Some(saved) = self.get(name) else { return };
        let sql = self.kept_sql(saved).unwrap_or_default();
        match saved.origin {
            StatementOrigin::Parse => {
                let types =
                    self.types(name).map_or_else(|| saved.parsed_types(&self.texts).into(), Clone::clone);
                steps.push(Step::Parse { name: name.clone(), sql: sql.into(), types });
            }
            StatementOrigin::Sql => steps.push(match (undeclared(sql), self.types(name)) {
                // Told again, the server might choose other types for its parameters.
                (Some(inner), Some(types)) if !types.is_empty() => {
                    Step::Parse { name: name.clone(), sql: inner.into(), types: types.clone() }
                }
                _declared => Step::Run { sql: sql.into() },
            }),
            StatementOrigin::Unsaved => return,
        }
        let is_learned = saved.is_new() || (name.is_empty() && saved.is_unsure());
        steps.push(if is_learned { Step::Learn(name.clone()) } else { Step::Check(name.clone()) });
    }

    /// A stand-in has taken its name on the server.
    pub(crate) fn stood_in(&mut self, name: &[u8]) {
        self.put(name, Presence::StandIn);
    }

    /// No statement has its name on the server.
    pub(crate) fn dropped_there(&mut self, name: &[u8]) {
        self.put(name, Presence::Cleared);
    }

    /// The present server has prepared a statement again; this is its description.
    pub(crate) fn made_again(&mut self, name: &[u8], shape: &Shape) {
        let is_same = self.get(name).is_some_and(|saved| {
            saved.shape.is_known() && (saved.shape == *shape || saved.passes_on(&self.texts))
        });
        match self.get(name).map(|saved| (saved.wire, saved.is_new())) {
            Some((Wire::OfContent(id), is_new)) => {
                self.contents.described(id, shape);
                if is_new && shape.is_known() {
                    self.learned(name, shape.clone());
                } else if !is_same {
                    self.take_back(name);
                }
            }
            Some((Wire::OfClient, _)) | None => {
                self.put(name, if is_same { Presence::Present } else { Presence::Differs });
            }
        }
        self.analysed(name);
    }
}

/// Whether a message, or what follows it before a Sync, may change something.
fn may_have_effects(tag: FrontendTag) -> bool {
    match tag {
        FrontendTag::Query
        | FrontendTag::Parse
        | FrontendTag::Bind
        | FrontendTag::Describe
        | FrontendTag::Execute
        | FrontendTag::Close
        | FrontendTag::FunctionCall => true,
        FrontendTag::Sync
        | FrontendTag::Flush
        | FrontendTag::CopyData
        | FrontendTag::CopyDone
        | FrontendTag::CopyFail
        | FrontendTag::Password
        | FrontendTag::Terminate
        | FrontendTag::Unknown(_) => false,
    }
}

/// Whether SQL may need any statement: it lists them, or is a DO that runs SQL, in which a name may stand.
pub(super) fn may_need_all(sql: &[u8]) -> bool {
    found_in(sql).lists_all || (has_word(sql, b"do") && has_word(sql, b"execute"))
}

/// Of a Query's body or SQL.
fn found_in(sql: &[u8]) -> References {
    if may_refer(sql) { references(sql.strip_suffix(b"\0").unwrap_or(sql)) } else { References::default() }
}
