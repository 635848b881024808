//! One rule.
//!
//! Source: PostgreSQL 16, src/backend/libpq/hba.c, `parse_hba_line`.

use std::slice;

use crate::address::RuleAddress;
use crate::kinds::{
    CertificateDemand, CertificateName, ConnectionKind, HbaMethod, KINDS, METHODS, METHODS_OF_SERVERS,
};
use crate::lines::{Field, FieldLine};
use crate::options::RuleOptions;
use crate::pattern::{NamePattern, PatternCount};
use crate::problem::{LinePlace, Wrong};
use crate::token::AuthToken;

/// A database that a rule names.
#[derive(Clone, Debug)]
pub(crate) enum RuleDatabase {
    All,
    /// The one with the user's name.
    SameUser,
    /// None: physical replication.
    Replication,
    Named(NamePattern),
}

/// A user that a rule, or a map, names.
#[derive(Clone, Debug)]
pub(crate) enum RuleUser {
    All,
    Named(NamePattern),
}

/// One rule.
#[derive(Clone, Debug)]
pub struct HbaRule {
    place: LinePlace,
    pub(crate) kind: ConnectionKind,
    pub(crate) databases: Vec<RuleDatabase>,
    pub(crate) users: Vec<RuleUser>,
    /// `None` for `local`.
    pub(crate) address: Option<RuleAddress>,
    method: HbaMethod,
    options: RuleOptions,
}

impl HbaRule {
    /// Where it is written.
    #[must_use]
    pub fn place(&self) -> &LinePlace {
        &self.place
    }

    /// By what a client proves who it is.
    #[must_use]
    pub fn method(&self) -> HbaMethod {
        self.method
    }

    /// Whether it has to have a certificate, too.
    #[must_use]
    pub fn certificate_demand(&self) -> CertificateDemand {
        self.options.demand
    }

    /// Which name of the certificate counts.
    #[must_use]
    pub fn certificate_name(&self) -> CertificateName {
        self.options.name
    }

    /// The map from the name of a certificate, or of a user of this machine, to users of the database.
    #[must_use]
    pub fn map(&self) -> Option<&str> {
        self.options.map.as_deref()
    }

    /// Whether no connection without TLS matches it.
    #[must_use]
    pub fn needs_tls(&self) -> bool {
        self.kind == ConnectionKind::HostSsl
    }

    pub(crate) fn read(line: &FieldLine, count: &PatternCount) -> Result<Self, Wrong> {
        let mut fields = line.fields.iter();
        let kind = kind(&mut fields)?;
        let databases = next(&mut fields, "database")?;
        let databases =
            databases.iter().map(|token| RuleDatabase::of(token, count)).collect::<Result<_, _>>()?;
        let users = next(&mut fields, "role")?;
        let users = users.iter().map(|token| RuleUser::of(token, count)).collect::<Result<_, _>>()?;
        let address = match kind {
            ConnectionKind::Local => None,
            ConnectionKind::Host
            | ConnectionKind::HostSsl
            | ConnectionKind::HostNoSsl
            | ConnectionKind::HostGssEnc
            | ConnectionKind::HostNoGssEnc => Some(RuleAddress::read(&mut fields)?),
        };
        let method = method(&mut fields, kind)?;
        let options = RuleOptions::read(fields, kind, method)?;
        Ok(HbaRule { place: line.place.clone(), kind, databases, users, address, method, options })
    }
}

fn next<'f>(fields: &mut slice::Iter<'f, Field>, what: &str) -> Result<&'f Field, Wrong> {
    fields.next().ok_or_else(|| Wrong::new(format!("end-of-line before {what} specification")))
}

fn kind(fields: &mut slice::Iter<'_, Field>) -> Result<ConnectionKind, Wrong> {
    let [token] = &next(fields, "connection type")?[..] else {
        let wrong = Wrong::new("multiple values specified for connection type");
        return Err(wrong.hint("Specify exactly one connection type per line."));
    };
    KINDS.iter().find(|(word, _)| *word == token.text).map(|(_, kind)| *kind).ok_or_else(|| {
        let words: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
        Wrong::new(format!("invalid connection type \"{}\"", token.text))
            .hint(format!("Write one of: {}.", words.join(", ")))
    })
}

fn method(fields: &mut slice::Iter<'_, Field>, kind: ConnectionKind) -> Result<HbaMethod, Wrong> {
    let field = fields.next().ok_or_else(|| Wrong::new("end-of-line before authentication method"))?;
    let [token] = &field[..] else {
        let wrong = Wrong::new("multiple values specified for authentication type");
        return Err(wrong.hint("Specify exactly one authentication type per line."));
    };
    let word = token.text.as_str();
    // As in PostgreSQL: nobody answers ident over a Unix socket.
    let word = if word == "ident" && kind == ConnectionKind::Local { "peer" } else { word };
    let Some((_, method)) = METHODS.iter().find(|(known, _)| *known == word) else {
        if METHODS_OF_SERVERS.contains(&word) {
            let message = format!("the proxy has no authentication method \"{word}\"");
            let hint = "Write relay to pass the server's own exchange through, or login for a password that a server takes.";
            return Err(Wrong::new(message).hint(hint));
        }
        let words: Vec<&str> = METHODS.iter().map(|(word, _)| *word).collect();
        let wrong = Wrong::new(format!("invalid authentication method \"{word}\""));
        return Err(wrong.hint(format!("Write one of: {}.", words.join(", "))));
    };
    match (method, kind) {
        (HbaMethod::Peer, ConnectionKind::Local) | (HbaMethod::Cert, ConnectionKind::HostSsl) => Ok(*method),
        (HbaMethod::Peer, _) => Err(Wrong::new("peer authentication is only supported on local sockets")),
        (HbaMethod::Cert, _) => {
            Err(Wrong::new("cert authentication is only supported on hostssl connections"))
        }
        (HbaMethod::Password, ConnectionKind::HostNoSsl) => {
            let wrong =
                Wrong::new("a password in the clear is asked for inside TLS or over a Unix socket only");
            Err(wrong.hint("Write scram-sha-256, or hostssl."))
        }
        _ => Ok(*method),
    }
}

/// Why a rule for the members of a role cannot be had.
fn no_members(written: &str) -> Wrong {
    Wrong::new(format!("\"{written}\": the proxy does not know who is a member of a role"))
        .hint("Name the users, match them by a regular expression such as /^app_, or leave it to the servers with relay.")
}

impl RuleDatabase {
    fn of(token: &AuthToken, count: &PatternCount) -> Result<Self, Wrong> {
        for (keyword, meant) in
            [("all", Self::All), ("sameuser", Self::SameUser), ("replication", Self::Replication)]
        {
            if token.is_keyword(keyword) {
                return Ok(meant);
            }
        }
        if token.is_keyword("samerole") || token.is_keyword("samegroup") {
            return Err(no_members(&token.text));
        }
        NamePattern::of(token, count).map(RuleDatabase::Named)
    }

    /// `database` is `None` for physical replication.
    pub(crate) fn matches(&self, database: Option<&[u8]>, user: &[u8]) -> bool {
        match (self, database) {
            (RuleDatabase::Replication, database) => database.is_none(),
            (_, None) => false,
            (RuleDatabase::All, _) => true,
            (RuleDatabase::SameUser, Some(database)) => database == user,
            (RuleDatabase::Named(name), Some(database)) => name.matches(database),
        }
    }
}

impl RuleUser {
    pub(crate) fn of(token: &AuthToken, count: &PatternCount) -> Result<Self, Wrong> {
        if token.is_keyword("all") {
            return Ok(RuleUser::All);
        }
        if token.members_of().is_some() {
            return Err(no_members(&token.text));
        }
        NamePattern::of(token, count).map(RuleUser::Named)
    }

    pub(crate) fn matches(&self, user: &[u8]) -> bool {
        match self {
            RuleUser::All => true,
            RuleUser::Named(name) => name.matches(user),
        }
    }
}
