//! Where a pooler or a server is, and who logs in there.

use std::path::PathBuf;

use anyhow::{Context, bail};
use tokio_postgres::config::{Config, Host, SslMode};

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Host and port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A parsed connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dsn {
    /// Where.
    pub place: Place,
    /// Who.
    pub user: String,
    /// For any method that asks for one; may be empty.
    pub password: String,
    /// The database.
    pub database: String,
}

impl Dsn {
    /// Reads a URI (`postgresql://user:password@host:port/database`) or keywords (`host=... user=...`).
    ///
    /// # Errors
    /// What is wrong with it: its syntax, no host or user, more than one host, TLS demanded.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Config = text.parse().with_context(|| {
            format!("{} is no connection string", if text.contains('@') { "this" } else { text })
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            bail!("sslmode=require is not spoken here: use a listener without TLS");
        }
        let [host] = config.get_hosts() else { bail!("a connection string needs one host") };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let place = match host {
            Host::Tcp(name) => Place::Tcp(name.clone(), port),
            Host::Unix(directory) => Place::Unix(directory.join(format!(".s.PGSQL.{port}"))),
        };
        let user = config.get_user().context("a connection string needs a user")?.to_owned();
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned();
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        Ok(Self { place, user, password, database })
    }

    /// The same, another database.
    #[must_use]
    pub fn to_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let uri = Dsn::parse("postgresql://app:pw@db.example:6432/shop").expect("it is valid");
        let words = Dsn::parse("host=db.example port=6432 user=app password=pw dbname=shop");
        assert_eq!(uri, words.expect("it is valid"));
        let socket = Dsn::parse("host=/run/postgresql user=app").expect("it is valid");
        assert_eq!(socket.place, Place::Unix("/run/postgresql/.s.PGSQL.5432".into()));
        assert_eq!(socket.database, "app");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |text| Dsn::parse(text).expect_err("it is not valid").to_string();
        assert_eq!(error("host=a"), "a connection string needs a user");
        assert_eq!(error("user=a"), "a connection string needs one host");
        assert!(error("host=a user=b sslmode=require").starts_with("sslmode=require is not spoken here"));
    }
}
