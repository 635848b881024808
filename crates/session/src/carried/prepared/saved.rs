//! One prepared statement, as it is kept.

use trunkline_codec::frontend::Parse;

use super::presence::Presence;
use super::statement_effects::StatementEffects;
use crate::carried::search_path::PathId;
use crate::carried::shape::Shape;

/// How a statement can be prepared again.
#[derive(Debug)]
pub(super) enum Origin {
    /// By a Parse with this body.
    Parse(Vec<u8>),
    /// By this SQL.
    Sql(Box<[u8]>),
    /// It cannot: it or its name is too long to be kept.
    Unsaved,
}

#[derive(Debug)]
pub(super) struct SavedStatement {
    pub(super) origin: Origin,
    pub(super) effects: StatementEffects,
    pub(super) shape: Shape,
    pub(super) presence: Presence,
    /// The client has bound it since it was prepared, or may have; for the unnamed one see `notes`.
    pub(super) is_used: bool,
    /// The path it was analysed under: by its Parse, or by its last use.
    pub(super) analysed: PathId,
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

    /// The types of parameters that its Parse names.
    pub(super) fn parsed_types(&self) -> &[u8] {
        match &self.origin {
            Origin::Parse(body) => Parse::parse(body).map_or(&[], |parse| parse.parameter_types),
            Origin::Sql(_) | Origin::Unsaved => &[],
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.origin {
            Origin::Parse(body) => body.len(),
            Origin::Sql(sql) => sql.len(),
            Origin::Unsaved => 0,
        }
    }
}

impl SavedStatement {
    /// The SQL of one from a Parse, as far as it is kept.
    pub(super) fn parsed_sql(&self) -> Option<&[u8]> {
        match &self.origin {
            Origin::Parse(body) => Parse::parse_prefix(body).map(|parse| parse.sql),
            Origin::Sql(_) | Origin::Unsaved => None,
        }
    }

    /// The SQL that prepares it; for one from PREPARE, the whole PREPARE.
    pub(super) fn sql(&self) -> Option<&[u8]> {
        match &self.origin {
            Origin::Parse(_) => self.parsed_sql(),
            Origin::Sql(sql) => Some(sql),
            Origin::Unsaved => None,
        }
    }

    /// The name at the front of a Parse's body, or what the server compares of it.
    pub(super) fn name(&self, length: usize) -> &[u8] {
        match &self.origin {
            Origin::Parse(body) => body.get(..length).unwrap_or_default(),
            Origin::Sql(_) | Origin::Unsaved => &[],
        }
    }
}
