//! Under which `search_path` statements were analysed last.

use super::Prepared;
use super::saved::SavedStatement;
use crate::carried::search_path::{PathId, SearchPath};
use crate::limits::EXECUTE_DEPTH_MAX;
use crate::names::Name;
use crate::sql::effect::{Change, Effect};
use crate::sql::references::has_constants;

impl Prepared {
    /// The path of now; `None` where it is not known.
    pub(crate) fn path_now(&self) -> Option<PathId> {
        self.path.now()
    }

    /// A setting was changed.
    pub(crate) fn setting_changed(&mut self, change: &Change) {
        let has_changed = self.path.change(change);
        self.path_changed(has_changed);
    }

    /// The transaction has ended.
    #[inline]
    pub(crate) fn transaction_ended(&mut self, has_failed: bool) {
        let has_changed = self.path.transaction_ended(has_failed);
        self.path_changed(has_changed);
    }

    /// A savepoint has undone the changes of the transaction but for these.
    pub(crate) fn rolled_back_to_savepoint<'a>(&mut self, kept: impl Iterator<Item = &'a Change>) {
        let has_changed = self.path.rolled_back_to_savepoint(kept);
        self.path_changed(has_changed);
    }

    #[inline]
    fn path_changed(&mut self, has_changed: bool) {
        if has_changed {
            self.has_other_path |= self.has_named();
            self.has_new_path = true;
        }
    }

    /// The effects of an answer are noted. If the path has changed while requests are in flight, it is not known under
    /// which path those use their statements.
    #[inline]
    pub(crate) fn path_settled(&mut self, are_in_flight: impl FnOnce() -> bool) {
        if std::mem::take(&mut self.has_new_path) {
            self.path_is_another(are_in_flight());
        }
    }

    #[cold]
    fn path_is_another(&mut self, are_in_flight: bool) {
        if are_in_flight {
            let all = self.named.values_mut().chain(&mut self.unnamed);
            for saved in all {
                saved.analysed = None;
                saved.shared.take();
            }
            self.sets.changed();
        }
        self.ask_under_other_path();
    }

    /// A named statement is used under the present path.
    pub(super) fn analysed(&mut self, name: &[u8]) {
        let path = self.path.now();
        if let Some(saved) = self.get_mut(name)
            && saved.analysed != path
        {
            saved.analysed = path;
            self.description_changed(name);
        }
    }

    /// SQL has run a statement, and those that this runs.
    pub(crate) fn run_by_sql(&mut self, effect: &Effect) {
        let mut next = executed(effect);
        for _ in 0..EXECUTE_DEPTH_MAX {
            let Some(name) = next else { return };
            self.analysed(&name);
            self.ask_again(&name);
            next = self.made(&name).and_then(|effects| executed(&effects.lasting.as_ref()?.effect));
        }
    }

    /// `DISCARD ALL`.
    pub(crate) fn discard_all(&mut self) {
        self.deallocate_all();
        self.path = SearchPath::default();
        self.has_other_path = false;
    }

    /// Whether a statement has constants that its next use under the present path reads again: then neither a Describe
    /// of the proxy nor a new server may read them before.
    pub(super) fn is_read_at_next_use(&self, saved: &SavedStatement) -> bool {
        self.has_other_path
            && saved.analysed.is_some_and(|path| self.path.is_other(path))
            && self.kept_sql(saved).is_some_and(has_constants)
    }
}

fn executed(effect: &Effect) -> Option<Name> {
    match effect {
        Effect::Execute(name) | Effect::Explained(name) => Some(name.clone()),
        _other => None,
    }
}
