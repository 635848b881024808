//! Under which `search_path` statements were analysed last.

use super::Prepared;
use super::saved::SavedStatement;
use crate::sql::effect::Change;
use crate::sql::references::has_constants;

impl Prepared {
    /// A setting was changed.
    pub(crate) fn setting_changed(&mut self, change: &Change) {
        let has_changed = self.path.change(change);
        self.has_other_path |= has_changed && self.has_named();
    }

    /// The transaction has ended.
    #[inline]
    pub(crate) fn transaction_ended(&mut self, has_failed: bool) {
        if self.path.transaction_ended(has_failed) {
            self.has_other_path |= self.has_named();
        }
    }

    pub(crate) fn rolled_back_to_savepoint(&mut self) {
        self.path.rolled_back_to_savepoint();
    }

    /// `DISCARD ALL`.
    pub(crate) fn discard_all(&mut self) {
        self.deallocate_all();
        self.path.discard_all();
        self.has_other_path = false;
    }

    /// Whether a statement has constants that its next use under the present path reads again: then neither a Describe
    /// of the proxy nor a new server may read them before.
    pub(super) fn is_read_at_next_use(&self, saved: &SavedStatement) -> bool {
        self.has_other_path
            && saved.analysed != self.path.now()
            && self.kept_sql(saved).is_some_and(has_constants)
    }
}
