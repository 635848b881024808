//! What is counted and shown of pools of server connections.

use std::sync::{Arc, OnceLock};

use trunkline_pool::PoolCounts;

use super::label::{Label, labels};

labels! {
    /// How a client got a server connection for a session or a transaction, or did not.
    CheckoutResult {
        /// One that was open and idle.
        Reused = "reused",
        /// One that was opened for it at once.
        Opened = "opened",
        /// One that it had to wait for.
        Waited = "waited",
        /// None within `query_wait_timeout`, or too many waited already.
        Timeout = "timeout",
    }
}

labels! {
    /// Why a server connection of a pool was closed.
    PoolCloseReason {
        /// No client had it for `server_idle_timeout`.
        IdleTimeout = "idle_timeout",
        /// It was older than `server_lifetime`.
        Lifetime = "lifetime",
        /// It was idle, and a place was needed for another pool, or for a client that it does not fit.
        Evicted = "evicted",
        /// There were more than the sizes in force allow, after a reload.
        Surplus = "surplus",
        /// Its server is no longer one that sessions may have: down, lagging, drained, of another role.
        Ineligible = "ineligible",
        /// Its login is no longer valid: another password, no right to connect, another configuration.
        Login = "login",
        /// The server closed it while it was idle.
        ServerClosed = "server_closed",
        /// It did not answer the check after `server_check_delay`.
        CheckFailed = "check_failed",
        /// It could not be brought back to a known state, by DISCARD ALL or ROLLBACK.
        ResetFailed = "reset_failed",
        /// Its client ended and left behind what no reset undoes.
        Pinned = "pinned",
        /// It was in an unexpected state when its client was done with it: bytes left over, another transaction status.
        Dirty = "dirty",
        /// The proxy ends.
        Shutdown = "shutdown",
    }
}

/// One pool, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRow {
    /// The name of the server.
    pub server: Arc<str>,
    /// The database that its connections are to.
    pub database: Arc<str>,
    /// The role that they are logged in as.
    pub user: Arc<str>,
    /// Its clients and connections.
    pub counts: PoolCounts,
}

/// Reads the pools as they are now; `None` while no session may share a server connection.
type ReadPools = Box<dyn Fn() -> Option<Vec<PoolRow>> + Send + Sync>;

/// The pools, read when somebody looks.
#[derive(Default)]
pub struct PoolRows(OnceLock<ReadPools>);

impl PoolRows {
    /// Has the rows read by `read`, from now on; the first to say so counts.
    pub fn read_by(&self, read: impl Fn() -> Option<Vec<PoolRow>> + Send + Sync + 'static) {
        let _is_first = self.0.set(Box::new(read));
    }

    /// All pools, those of one database and user together; `None` while no session may share a server connection.
    #[must_use]
    pub fn rows(&self) -> Option<Vec<PoolRow>> {
        let mut rows = self.0.get()?()?;
        rows.sort_by(|left, right| {
            let name = |row: &PoolRow| [&row.database, &row.user, &row.server].map(Arc::clone);
            name(left).cmp(&name(right))
        });
        Some(rows)
    }
}

impl std::fmt::Debug for PoolRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.0.get().is_some() { "read" } else { "none" };
        f.debug_tuple("PoolRows").field(&state).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(server: &str, database: &str, user: &str) -> PoolRow {
        let counts = PoolCounts::default();
        PoolRow { server: server.into(), database: database.into(), user: user.into(), counts }
    }

    #[test]
    fn no_rows_are_not_the_same_as_no_pooling() {
        let rows = PoolRows::default();
        assert_eq!(rows.rows(), None);
        rows.read_by(|| Some(Vec::new()));
        assert_eq!(rows.rows(), Some(Vec::new()));
        rows.read_by(|| None);
        assert_eq!(rows.rows(), Some(Vec::new()), "the first reader counts");
    }

    #[test]
    fn pools_of_one_database_and_user_are_together() {
        let rows = PoolRows::default();
        let (first, second) = (row("a", "app", "web"), row("b", "app", "web"));
        let others = [row("a", "app", "batch"), row("a", "zoo", "batch")];
        let [batch, zoo] = others.clone();
        let unordered = vec![second.clone(), zoo.clone(), first.clone(), batch.clone()];
        rows.read_by(move || Some(unordered.clone()));
        assert_eq!(rows.rows(), Some(vec![batch, first, second, zoo]));
    }
}
