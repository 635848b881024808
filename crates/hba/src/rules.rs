//! All rules: the first that a connection matches decides.
//!
//! Source: PostgreSQL 16, src/backend/libpq/hba.c, `check_hba`.

use std::net::IpAddr;

use crate::address::LocalNetwork;
use crate::files::AccessFiles;
use crate::ident::IdentMaps;
use crate::kinds::ConnectionKind;
use crate::lines::{self, FieldLine};
use crate::pattern::PatternCount;
use crate::problem::{FileProblems, Wrong};
use crate::rule::HbaRule;

/// The rules of a file and of those it includes, in order.
#[derive(Clone, Debug)]
pub struct HbaRules(Vec<HbaRule>);

/// What rules ask of a connection.
#[derive(Clone, Copy, Debug)]
pub struct HbaClient<'c> {
    /// Where it comes from; `None` over a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether it is in TLS.
    pub is_encrypted: bool,
    /// The user it asks for.
    pub user: &'c [u8],
    /// The database; `None` for physical replication.
    pub database: Option<&'c [u8]>,
}

impl HbaRules {
    /// Reads the rules. The maps that they name must be among `maps`.
    ///
    /// # Errors
    /// Everything that is wrong with the file or those it includes. A file without rules is wrong, too: it may be one that
    /// is being written.
    pub fn load(files: &dyn AccessFiles, path: &str, maps: &IdentMaps) -> Result<Self, FileProblems> {
        let count = PatternCount::default();
        let read = |line: &FieldLine| HbaRule::read(line, &count).and_then(|rule| with_its_map(rule, maps));
        let rules = lines::read(files, path, read)?;
        if rules.is_empty() {
            let wrong = Wrong::new(format!("{path} contains no entries"));
            return Err(wrong.hint("Nobody could come in: write a rule, or leave hba_file out.").alone());
        }
        Ok(HbaRules(rules))
    }

    /// The rules, in order.
    pub fn iter(&self) -> impl Iterator<Item = &HbaRule> {
        self.0.iter()
    }

    /// The rule that decides about a connection; `None` when it is not to come in. `own` tells the networks of this
    /// machine, if a rule asks for them.
    pub fn find(
        &self,
        client: &HbaClient<'_>,
        mut own: impl FnMut() -> Vec<LocalNetwork>,
    ) -> Option<&HbaRule> {
        let mut known: Option<Vec<LocalNetwork>> = None;
        let mut own = || known.get_or_insert_with(&mut own).clone();
        self.0.iter().find(|rule| rule.matches(client, &mut own))
    }
}

fn with_its_map(rule: HbaRule, maps: &IdentMaps) -> Result<HbaRule, Wrong> {
    match rule.map() {
        Some(map) if !maps.has(map) => {
            let wrong = Wrong::new(format!("there is no line for map \"{map}\" in ident_file"));
            Err(wrong.hint("Nobody could come in by this rule: add the map, or correct its name."))
        }
        _ => Ok(rule),
    }
}

impl HbaRule {
    fn matches(&self, client: &HbaClient<'_>, own: &mut dyn FnMut() -> Vec<LocalNetwork>) -> bool {
        let is_of_kind = match self.kind {
            ConnectionKind::Local => client.address.is_none(),
            ConnectionKind::Host | ConnectionKind::HostNoGssEnc => client.address.is_some(),
            ConnectionKind::HostSsl => client.address.is_some() && client.is_encrypted,
            ConnectionKind::HostNoSsl => client.address.is_some() && !client.is_encrypted,
            ConnectionKind::HostGssEnc => false,
        };
        is_of_kind
            && self.databases.iter().any(|database| database.matches(client.database, client.user))
            && self.users.iter().any(|user| user.matches(client.user))
            && match (&self.address, client.address) {
                (Some(address), Some(client)) => address.contains(client.to_canonical(), own),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}
