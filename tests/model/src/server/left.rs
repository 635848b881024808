//! What a server process keeps of a session besides its settings, whatever becomes of the transaction.

use std::collections::BTreeSet;

use super::Server;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Left {
    /// Custom settings that exist.
    custom: BTreeSet<String>,
    /// The last number inserted, as `lastval` would show it.
    last: String,
}

impl Server {
    /// What SHOW shows. A custom setting that was never used is not known.
    pub(super) fn shown(&self, name: &str) -> String {
        if name == "last" {
            return self.left.last.clone();
        }
        if name.contains('.') && !self.left.custom.contains(name) {
            return "unknown".to_owned();
        }
        self.settings.get(name).cloned().unwrap_or_default()
    }

    /// A setting is used.
    pub(super) fn touch(&mut self, name: &str) {
        if name.contains('.') {
            self.left.custom.insert(name.to_owned());
        }
    }

    /// `DISCARD ALL` or `DISCARD SEQUENCES`.
    pub(super) fn discard_sequences(&mut self) {
        self.left.last.clear();
    }

    /// Runs what a session prepares or leaves by SQL, and what brings a connection to another session; its tag, or `None`
    /// when it fails.
    pub(super) fn run_for_session(&mut self, words: &[&str]) -> Option<String> {
        match words {
            ["prepare", name, "as", sql @ ..] => {
                let sql = sql.join(" ");
                if sql == "bad" || (!self.is_strict && self.statements.contains_key(*name)) {
                    return None;
                }
                self.make((*name).to_owned(), sql, b"")?;
            }
            ["deallocate", name] => {
                self.find(name)?;
                self.statements.remove(*name);
            }
            ["insert", number] => {
                self.left.last = (*number).to_owned();
                return Some("INSERT 0 1".to_owned());
            }
            ["RESET", "ALL"] => {
                let names: Vec<String> = self.settings.keys().cloned().collect();
                names.iter().try_for_each(|name| self.setting(&["reset", name]))?;
            }
            ["RESET", "ROLE"] | ["SET", "SESSION", "AUTHORIZATION", "DEFAULT"] => {}
            ["RESET", quoted] => self.setting(&["reset", &quoted.replace('"', "")])?,
            ["SET", name, "=", value] => self.setting(&["set", name, "to", value])?,
            ["DEALLOCATE", "ALL"] => {
                self.statements.retain(|name, _| name.is_empty());
                return Some("DEALLOCATE ALL".to_owned());
            }
            ["DISCARD", "SEQUENCES"] => {
                self.discard_sequences();
                return Some("DISCARD SEQUENCES".to_owned());
            }
            _unknown => return None,
        }
        Some(words[0].to_uppercase())
    }
}
