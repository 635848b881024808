//! Which statements and settings sessions may share.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use trunkline_codec::frontend::{FrontendTag, Parse};

use super::{Followed, QueuedRequest};
use crate::carried::content::{ContentId, ContentParts};
use crate::carried::gucs::Gucs;
use crate::carried::gucs::{leaves_meaning, meaning_of_statements};
use crate::carried::prepared::{MessageExtent, Sharing, StatementsAhead, Step};
use crate::carried::search_path::PathId;
use crate::sql::effect::{Change, Effect};
use crate::sql::read::passes_on;
use crate::sql::references::{has_constants, may_refer};

impl Followed {
    /// Settings that a connection had are shared with the session, if they are its own.
    #[inline]
    pub(crate) fn share_settings(&mut self, had: Option<&Arc<Gucs>>) {
        if let (Some(own), Some(had)) = (&mut self.gucs, had)
            && !Arc::ptr_eq(own, had)
            && own == had
        {
            Arc::clone_from(own, had);
        }
    }

    /// Whether SQL sent now is read as the session's settings say: nothing in flight changes that, nor has the open
    /// transaction.
    fn reads_as_others(&self) -> bool {
        !self.has_other_reading && self.queue.iter().all(|request| is_all(request, Effect::leaves_statements))
    }

    /// Whether the statements that the session has are those that it will have once everything sent is answered.
    #[inline]
    pub(crate) fn statements_ahead(&self) -> StatementsAhead {
        if self.queue.iter().all(|request| is_all(request, Effect::keeps_statements)) {
            StatementsAhead::TheSame
        } else {
            StatementsAhead::PerhapsOthers
        }
    }

    /// The content of a statement, if sessions that have the same settings would get the same one.
    pub(crate) fn content_of(&self, parse: &Parse<'_>) -> Option<ContentId> {
        if !self.reads_as_others() {
            return None;
        }
        content(parse, self.surroundings()?)
    }

    /// See [`Prepared::steps_of_names`](crate::carried::prepared::Prepared::steps_of_names).
    pub(crate) fn steps_of_names(
        &mut self,
        (tag, body, extent): (FrontendTag, &[u8], MessageExtent),
        sharing: Sharing,
    ) -> Vec<Step> {
        let may_share = sharing == Sharing::Allowed && self.reads_as_others();
        let now = if may_share { self.surroundings() } else { None };
        self.prepared.steps_of_names((tag, body, extent), |parse| content(parse, now?))
    }

    /// Statements that stand under their client's names for a reason of the moment are shared from now on. The session has
    /// no connection.
    #[cold]
    pub(crate) fn share_statements(&mut self) {
        let Some(now) = self.surroundings().filter(|_| self.reads_as_others()) else { return };
        self.prepared.share(|parse| content(parse, now));
    }

    /// Whether settings have changed since the statements that others share got their names.
    #[inline]
    pub(crate) fn has_other_names(&self) -> bool {
        self.has_new_settings
    }

    /// They get the names that they have under the settings of now.
    #[cold]
    pub(crate) fn name_anew(&mut self) {
        let Some(now) = self.surroundings().filter(|_| self.reads_as_others()) else { return };
        self.prepared.name_anew(|parse| content(parse, now));
        self.has_new_settings = false;
    }
}

fn is_all(request: &QueuedRequest, are: impl Fn(&Effect) -> bool) -> bool {
    match request {
        QueuedRequest::Query { effects, .. } => effects.iter().all(are),
        QueuedRequest::Execute(lasting) => are(&lasting.effect),
    }
}

/// What decides the meaning of SQL beside its text.
#[derive(Clone, Copy, Debug)]
struct ReadingSurroundings {
    path: PathId,
    settings: u64,
}

impl Followed {
    /// Those of SQL sent now, where they are known.
    fn surroundings(&self) -> Option<ReadingSurroundings> {
        let lasting = meaning_of_statements(self.gucs.as_ref());
        let settings = match self.set_here? {
            0 => lasting,
            here => hash_of(&(lasting, here)),
        };
        Some(ReadingSurroundings { path: self.prepared.path_now()?, settings })
    }
}

fn content(
    parse: &Parse<'_>,
    ReadingSurroundings { path, settings }: ReadingSurroundings,
) -> Option<ContentId> {
    let Parse { sql, parameter_types: types, .. } = *parse;
    // A constant was read under the settings, at the moment and with the objects of then; what passes on rows has the columns
    // of the moment.
    if may_refer(sql) || has_constants(sql) || passes_on(sql) {
        return None;
    }
    Some(ContentId::of(&ContentParts { sql, types, path, settings }))
}

/// The hash of what a transaction has set, which sets this, too. A custom setting that ends with it is read when statements
/// run.
pub(super) fn set_also(before: Option<u64>, change: &Change) -> Option<u64> {
    let parts = match change {
        Change::Local { key, .. } if key.contains('.') => return before,
        Change::Set { key, .. } | Change::Reset { key, .. } | Change::Local { key, .. }
            if leaves_meaning(key) =>
        {
            return before;
        }
        Change::Set { key, sql } => (0, &**key, &**sql),
        Change::Reset { key, sql } => (1, &**key, &**sql),
        Change::Local { key, sql } => (2, &**key, &**sql),
        Change::ResetAll => (3, "", &b""[..]),
    };
    Some(hash_of(&(before?, parts)))
}

fn hash_of(parts: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}
