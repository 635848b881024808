//! Which statements sessions may share.

use std::sync::Arc;

use trunkline_codec::frontend::Parse;

use super::{Followed, QueuedRequest};
use crate::carried::content::{ContentId, ContentParts};
use crate::carried::gucs::{Constants, Gucs, meaning_of_statements};
use crate::carried::search_path::PathId;
use crate::sql::effect::Effect;
use crate::sql::references::{has_constants, has_moment, may_refer};

impl Followed {
    /// Whether SQL sent now is read as the session's settings say, and its statements are those that are known: nothing in
    /// flight changes that, nor has the open transaction.
    pub(crate) fn reads_as_others(&self) -> bool {
        let is_apart = |request: &QueuedRequest| match request {
            QueuedRequest::Query { effects, .. } => effects.iter().all(Effect::leaves_statements),
            QueuedRequest::Execute(lasting) => lasting.effect.leaves_statements(),
        };
        !self.has_other_reading && self.queue.iter().all(is_apart)
    }

    /// The content of a statement, if sessions that have the same settings would get the same one.
    pub(crate) fn content_of(&self, parse: &Parse<'_>) -> Option<ContentId> {
        if !self.reads_as_others() {
            return None;
        }
        content(parse, self.prepared.path_now()?, self.gucs.as_ref())
    }

    /// Statements that stand under their client's names for a reason of the moment are shared from now on. The session has
    /// no connection.
    #[cold]
    pub(crate) fn share_statements(&mut self) {
        if !self.reads_as_others() {
            return;
        }
        let Self { prepared, gucs, .. } = self;
        let Some(path) = prepared.path_now() else { return };
        prepared.share(|parse| content(parse, path, gucs.as_ref()));
    }
}

fn content(parse: &Parse<'_>, path: PathId, settings: Option<&Arc<Gucs>>) -> Option<ContentId> {
    let Parse { sql, parameter_types: types, .. } = *parse;
    if may_refer(sql) || has_moment(sql) {
        return None;
    }
    let constants = if has_constants(sql) { Constants::Read } else { Constants::None };
    let settings = meaning_of_statements(settings, constants);
    Some(ContentId::of(&ContentParts { sql, types, path, settings }))
}
