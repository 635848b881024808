//! What SQL names, looked up among what is not plain.

use crate::sql::plainness::{NotJudged, Plainness, PlainnessCatalog};

/// Judges SQL whose parameters were declared with these types.
pub(crate) fn judge(_sql: &[u8], _types: &[u8], _catalog: &PlainnessCatalog) -> Plainness {
    Plainness::Unknown(NotJudged::Unread)
}
