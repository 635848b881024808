//! One prepared statement, as it is kept.

use std::cell::OnceCell;
use std::sync::Arc;

use super::presence::Presence;
use super::statement_effects::StatementEffects;
use super::texts::{TextId, Texts};
use crate::carried::content::{ContentId, PreparedAt};
use crate::carried::search_path::PathId;
use crate::carried::shape::Shape;
use crate::carried::statement_set::SharedStatement;
use crate::sql::read::passes_on;

/// How a statement can be prepared again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatementOrigin {
    /// By its text, the body of a Parse.
    Parse,
    /// By its text, an SQL PREPARE.
    Sql,
    /// It cannot: it or its name is too long to be kept. Its text is for the log.
    Unsaved,
}

/// Under which name a statement stands on servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// The client's.
    OfClient,
    /// That of its content. What a connection has of it is not in the statement's presence.
    OfContent(ContentId),
}

#[derive(Debug)]
pub(super) struct SavedStatement {
    pub(super) text: Option<TextId>,
    pub(super) origin: StatementOrigin,
    pub(super) wire: Wire,
    pub(super) effects: StatementEffects,
    pub(super) shape: Shape,
    pub(super) presence: Presence,
    /// The client has bound it since it was prepared, or may have; for the unnamed one see `notes`.
    pub(super) is_used: bool,
    /// The path it was analysed under, by its Parse or by its last use; `None` where that is not known.
    pub(super) analysed: Option<PathId>,
    /// When its client has prepared it. What others have made before may be something else.
    pub(super) parsed: PreparedAt,
    /// The same as a value, once it was asked for.
    pub(super) shared: OnceCell<Arc<SharedStatement>>,
}

impl SavedStatement {
    /// The client may know its columns from running it, while the session does not.
    pub(super) fn is_unsure(&self) -> bool {
        self.is_used && !self.shape.is_known()
    }

    /// The client has not used it, so that it can be prepared without a check.
    pub(super) fn is_new(&self) -> bool {
        !self.is_used && !self.shape.is_known()
    }

    /// Whether its columns are those of a cursor or statement of the moment.
    pub(super) fn passes_on(&self, texts: &Texts) -> bool {
        self.kept_sql(texts).is_some_and(passes_on)
    }

    /// The types of parameters that its Parse names.
    pub(super) fn parsed_types<'a>(&self, texts: &'a Texts) -> &'a [u8] {
        match self.origin {
            StatementOrigin::Parse => texts.types(self.text),
            StatementOrigin::Sql | StatementOrigin::Unsaved => &[],
        }
    }

    /// The SQL that prepares it; for one from PREPARE, the whole PREPARE.
    pub(super) fn kept_sql<'a>(&self, texts: &'a Texts) -> Option<&'a [u8]> {
        match self.origin {
            StatementOrigin::Parse | StatementOrigin::Sql => texts.sql(self.text),
            StatementOrigin::Unsaved => None,
        }
    }
}
