//! The settings of pools, with PgBouncer's names and meanings.

use std::time::Duration;

/// For how long a client has a server connection to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// Until it disconnects.
    #[default]
    Session,
    /// Until its transaction ends and nothing pins it.
    Transaction,
}

/// What becomes of a server connection whose client has disconnected, in [`PoolMode::Session`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerReuse {
    /// It is closed.
    #[default]
    Off,
    /// The next client of the same user, database and startup parameters gets it, after DISCARD ALL.
    On,
}

/// The settings of all pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSettings {
    /// The mode of listeners that name none.
    pub mode: PoolMode,
    /// What becomes of server connections in session mode.
    pub server_reuse: ServerReuse,
    /// Server connections of a pool (a server, database and user, whatever else its keys have), unless an override says
    /// otherwise. See [`PoolBound`](crate::PoolBound) for what it bounds.
    pub pool_size: u32,
    /// Server connections kept open in each pool that has been used.
    pub min_pool_size: u32,
    /// Server connections a pool may have beyond its size, once a client has waited for `reserve_pool_timeout`.
    pub reserve_pool_size: u32,
    /// How long a client waits before its pool uses the reserve; zero: the reserve is not used.
    pub reserve_pool_timeout: Duration,
    /// Server connections of a database on a server, whatever their user; 0: unlimited.
    pub max_db_connections: u32,
    /// Server connections of a user on a server, whatever their database; 0: unlimited.
    pub max_user_connections: u32,
    /// How long a client waits for a server connection before it gets an error; zero: for ever.
    pub query_wait_timeout: Duration,
    /// How long a server connection may be idle before it is closed; zero: for ever.
    pub server_idle_timeout: Duration,
    /// How old a server connection may become before it is closed at its next idle point; zero: any age.
    pub server_lifetime: Duration,
    /// How long a server connection may be idle and still be used without a check.
    pub server_check_delay: Duration,
    /// Prepared statements kept on a server connection, those used longest ago are dropped.
    pub max_prepared_statements: u32,
    /// What holds for some users or databases, the first that fits.
    pub overrides: Vec<PoolOverride>,
}

/// What holds for some users or databases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolOverride {
    /// The user; `None`: any.
    pub user: Option<String>,
    /// The database; `None`: any.
    pub database: Option<String>,
    /// In place of the listener's.
    pub mode: Option<PoolMode>,
    /// In place of [`PoolSettings::pool_size`].
    pub pool_size: Option<u32>,
}

impl PoolSettings {
    /// The first override for this user and database.
    fn override_of(&self, user: &str, database: &str) -> Option<&PoolOverride> {
        let fits =
            |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        self.overrides.iter().find(|over| fits(&over.user, user) && fits(&over.database, database))
    }

    /// The mode of a session on a listener of mode `listener`.
    #[must_use]
    pub fn mode_of(&self, listener: Option<PoolMode>, user: &str, database: &str) -> PoolMode {
        let own = self.override_of(user, database).and_then(|over| over.mode);
        own.or(listener).unwrap_or(self.mode)
    }

    /// Server connections of a pool of this user and database.
    #[must_use]
    pub fn size_of(&self, user: &str, database: &str) -> u32 {
        let own = self.override_of(user, database).and_then(|over| over.pool_size);
        own.unwrap_or(self.pool_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_override_that_fits_counts() {
        let over = |user: Option<&str>, database: Option<&str>, mode, pool_size| PoolOverride {
            user: user.map(Into::into),
            database: database.map(Into::into),
            mode,
            pool_size,
        };
        let settings = PoolSettings {
            pool_size: 20,
            overrides: vec![
                over(Some("batch"), None, Some(PoolMode::Session), Some(2)),
                over(None, Some("app"), None, Some(5)),
            ],
            ..PoolSettings::default()
        };
        let transaction = Some(PoolMode::Transaction);
        assert_eq!(settings.mode_of(transaction, "batch", "app"), PoolMode::Session);
        assert_eq!(settings.mode_of(transaction, "web", "app"), PoolMode::Transaction);
        assert_eq!(settings.mode_of(None, "web", "other"), PoolMode::Session);
        assert_eq!(settings.size_of("batch", "app"), 2);
        assert_eq!(settings.size_of("web", "app"), 5);
        assert_eq!(settings.size_of("web", "other"), 20);
    }
}
