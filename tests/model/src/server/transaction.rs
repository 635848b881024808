//! Settings, and what the end of a transaction does to them.

use super::{Server, Settings, Transaction};

impl Server {
    /// Whether it is in a transaction that has failed.
    #[must_use]
    pub fn has_failed_transaction(&self) -> bool {
        self.transaction == Transaction::Failed
    }

    /// Whether it is in a transaction, failed or not; `None` while that depends on the Sync of a series.
    #[must_use]
    pub fn is_in_transaction(&self) -> Option<bool> {
        (!self.is_unsynced).then_some(self.transaction != Transaction::Idle)
    }

    /// The settings that will be when the transaction is undone.
    #[must_use]
    pub fn settings_before(&self) -> &Settings {
        self.before.as_ref().unwrap_or(&self.settings)
    }

    /// Whether these are the settings of a session whose latest request or transaction failed with this server: those
    /// before it, or what it has committed.
    #[must_use]
    pub fn may_have_left(&self, settings: &Settings) -> bool {
        settings == self.settings_before() || *settings == self.earlier
    }

    /// What was set since the transaction began counts.
    pub(super) fn end_transaction(&mut self) {
        for (name, value) in std::mem::take(&mut self.local) {
            self.restore(name, value);
        }
        self.before = None;
        self.savepoints.clear();
    }

    /// It does not.
    pub(super) fn undo(&mut self) {
        if let Some(before) = self.before.take() {
            self.settings = before;
        }
        self.local.clear();
        self.savepoints.clear();
    }

    pub(super) fn restore(&mut self, name: String, value: String) {
        if value.is_empty() {
            self.settings.remove(&name);
        } else {
            self.settings.insert(name, value);
        }
    }

    pub(super) fn setting(&mut self, words: &[&str]) -> Option<()> {
        self.before.get_or_insert_with(|| self.settings.clone());
        let is_local = words.get(1) == Some(&"local");
        let name = (*words.get(if is_local { 2 } else { 1 })?).to_owned();
        self.touch(&name);
        let value = if words[0] == "set" { (*words.last()?).to_owned() } else { String::new() };
        let is_outside = self.transaction == Transaction::Idle;
        if is_local && is_outside {
            return Some(());
        }
        if is_local {
            let now = self.settings.get(&name).cloned().unwrap_or_default();
            self.local.entry(name.clone()).or_insert(now);
        } else {
            self.local.remove(&name);
        }
        self.restore(name, value);
        Some(())
    }

    pub(super) fn rollback_to(&mut self, name: &str) -> Option<()> {
        let at = self.savepoints.iter().rposition(|(n, ..)| n == name)?;
        self.savepoints.truncate(at + 1);
        let (_, settings, local) = &self.savepoints[at];
        (self.settings, self.local) = (settings.clone(), local.clone());
        self.transaction = Transaction::Open;
        Some(())
    }
}
