//! What clients are told whom a rule of `hba_file` keeps out: PostgreSQL's words.
//!
//! Source: PostgreSQL 16, src/backend/libpq/auth.c, `ClientAuthentication`, `auth_failed`.

use std::fmt;

use trunkline_codec::sqlstate::SqlState;
use trunkline_hba::LinePlace;

use super::{Parts, Refusal, message_alone};

/// A client that is kept out. The client is not told by which rule, nor more than the first words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HbaRefusal {
    pub(crate) kind: HbaRefusalKind,
    /// The rule, for the log.
    pub(crate) rule: Option<LinePlace>,
    /// What is missing, for the log.
    pub(crate) reason: Option<String>,
}

/// Why a client is kept out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HbaRefusalKind {
    /// No rule is for it.
    NoEntry(RefusedClient),
    /// A rule says so.
    Rejected(RefusedClient),
    /// It has to have a certificate.
    NoCertificate,
    /// Its certificate is not this user's.
    Certificate { user: String },
    /// It may not be this user, whatever else it proves.
    Password { user: String },
    /// It runs as a user of this machine who may not be this one.
    Peer { user: String },
    /// It would have to send its password in the clear.
    InTheClear,
    /// It may come in, and a server asks for what only a secret answers that the proxy does not have.
    NoSecret { wanted: &'static str },
}

/// A client as PostgreSQL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedClient {
    pub(crate) host: String,
    pub(crate) user: String,
    /// `None` for physical replication.
    pub(crate) database: Option<String>,
    pub(crate) is_encrypted: bool,
}

impl RefusedClient {
    fn encryption(&self) -> &'static str {
        if self.is_encrypted { "SSL encryption" } else { "no encryption" }
    }

    fn no_entry(&self) -> String {
        let RefusedClient { host, user, .. } = self;
        let encryption = self.encryption();
        match &self.database {
            Some(database) => {
                format!(
                    "no pg_hba.conf entry for host \"{host}\", user \"{user}\", database \"{database}\", {encryption}"
                )
            }
            None => format!(
                "no pg_hba.conf entry for replication connection from host \"{host}\", user \"{user}\", {encryption}"
            ),
        }
    }

    fn rejected(&self) -> String {
        let RefusedClient { host, user, .. } = self;
        let encryption = self.encryption();
        match &self.database {
            Some(database) => format!(
                "pg_hba.conf rejects connection for host \"{host}\", user \"{user}\", database \"{database}\", {encryption}"
            ),
            None => format!(
                "pg_hba.conf rejects replication connection for host \"{host}\", user \"{user}\", {encryption}"
            ),
        }
    }
}

impl HbaRefusal {
    /// For a client that came in without a password.
    pub(crate) fn no_secret(wanted: &'static str) -> Refusal {
        HbaRefusal { kind: HbaRefusalKind::NoSecret { wanted }, rule: None, reason: None }.into()
    }

    pub(super) fn parts(&self) -> Parts {
        let message = match &self.kind {
            HbaRefusalKind::NoEntry(client) => client.no_entry(),
            HbaRefusalKind::Rejected(client) => client.rejected(),
            HbaRefusalKind::NoCertificate => "connection requires a valid client certificate".to_owned(),
            HbaRefusalKind::Certificate { user } => {
                format!("certificate authentication failed for user \"{user}\"")
            }
            HbaRefusalKind::Peer { user } => format!("Peer authentication failed for user \"{user}\""),
            HbaRefusalKind::Password { user } => {
                let message = format!("password authentication failed for user \"{user}\"");
                return message_alone(SqlState::INVALID_PASSWORD, message);
            }
            HbaRefusalKind::NoSecret { wanted } => {
                return (
                    SqlState::INVALID_AUTHORIZATION,
                    "the proxy cannot log in to the server as this user".to_owned(),
                    Some(format!("The client has shown no password, and the server asks for {wanted}.")),
                    Some(
                        "Put the user's password into the proxy's users_file, or let the server trust the proxy's address for this user.",
                    ),
                );
            }
            HbaRefusalKind::InTheClear => {
                return (
                    SqlState::INVALID_AUTHORIZATION,
                    "the proxy takes a password in the clear only over TLS".to_owned(),
                    None,
                    Some("Connect with sslmode=require or above."),
                );
            }
        };
        message_alone(SqlState::INVALID_AUTHORIZATION, message)
    }
}

impl From<HbaRefusal> for Refusal {
    fn from(refusal: HbaRefusal) -> Self {
        Refusal::Hba(Box::new(refusal))
    }
}

impl fmt::Display for HbaRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, message, ..) = self.parts();
        write!(f, "{message} ({})", code.as_str())?;
        if let Some(rule) = &self.rule {
            write!(f, ", by the rule at {rule}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_postgresqls_words_and_the_log_the_rule() {
        let client = |database: Option<&str>, is_encrypted| RefusedClient {
            host: "192.0.2.1".to_owned(),
            user: "app".to_owned(),
            database: database.map(str::to_owned),
            is_encrypted,
        };
        let said = |kind| {
            let refusal = HbaRefusal { kind, rule: None, reason: None };
            let (code, message, ..) = refusal.parts();
            format!("{} {message}", code.as_str())
        };
        for (kind, expected) in [
            (
                HbaRefusalKind::NoEntry(client(Some("appdb"), false)),
                "28000 no pg_hba.conf entry for host \"192.0.2.1\", user \"app\", database \"appdb\", no encryption",
            ),
            (
                HbaRefusalKind::NoEntry(client(None, true)),
                "28000 no pg_hba.conf entry for replication connection from host \"192.0.2.1\", user \"app\", SSL encryption",
            ),
            (
                HbaRefusalKind::Rejected(client(Some("appdb"), true)),
                "28000 pg_hba.conf rejects connection for host \"192.0.2.1\", user \"app\", database \"appdb\", SSL encryption",
            ),
            (
                HbaRefusalKind::Rejected(client(None, false)),
                "28000 pg_hba.conf rejects replication connection for host \"192.0.2.1\", user \"app\", no encryption",
            ),
            (HbaRefusalKind::NoCertificate, "28000 connection requires a valid client certificate"),
            (
                HbaRefusalKind::Password { user: "app".to_owned() },
                "28P01 password authentication failed for user \"app\"",
            ),
        ] {
            assert_eq!(said(kind), expected);
        }
        let rule = LinePlace { file: "hba".into(), line: 7 };
        let kind = HbaRefusalKind::Peer { user: "app".to_owned() };
        let refusal = HbaRefusal { kind, rule: Some(rule), reason: Some("who it is".to_owned()) };
        assert_eq!(
            refusal.to_string(),
            "Peer authentication failed for user \"app\" (28000), by the rule at hba:7: who it is"
        );
    }
}
