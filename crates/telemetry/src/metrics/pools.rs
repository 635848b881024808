//! What is counted and shown of pools of server connections.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use trunkline_pool::{CloseReason, PoolCounts, PoolTotals};

use super::label::{Label, labels};

labels! {
    /// What came of a client's wish for a server connection.
    CheckoutResult {
        /// It got one that was open, at once or after it had waited.
        Reused = "reused",
        /// One was opened.
        Opened = "opened",
        /// It had to wait.
        Waited = "waited",
        /// It got none within `query_wait_timeout`, or too many waited already.
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
        /// The defaults of its login could not be read in time.
        Login = "login",
        /// The server closed it while it was idle.
        ServerClosed = "server_closed",
        /// It did not answer the check after `server_check_delay`.
        CheckFailed = "check_failed",
        /// It could not be brought back to a known state, by DISCARD ALL or ROLLBACK.
        ResetFailed = "reset_failed",
        /// Its client ended and left behind what no reset undoes.
        Pinned = "pinned",
        /// Its client has gone inside a transaction or a query, which the server has ended first.
        ClientGone = "client_gone",
        /// A cancel request to it was given up, and may still reach it.
        Canceled = "canceled",
        /// The proxy ends.
        Shutdown = "shutdown",
    }
}

impl PoolCloseReason {
    /// The reason of the pools themselves; `None` where they were told of the end, by who knows why and counts it.
    #[must_use]
    pub fn of(reason: CloseReason) -> Option<Self> {
        match reason {
            CloseReason::IdleTimeout => Some(PoolCloseReason::IdleTimeout),
            CloseReason::Lifetime => Some(PoolCloseReason::Lifetime),
            CloseReason::Retired => Some(PoolCloseReason::Ineligible),
            CloseReason::PoolSize | CloseReason::Limit => Some(PoolCloseReason::Surplus),
            CloseReason::Evicted => Some(PoolCloseReason::Evicted),
            CloseReason::Ended | CloseReason::Left | CloseReason::Unknown => None,
        }
    }
}

/// The clients of a database and user, or their connections to one server, as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRow {
    /// The name of the server; `None` for the clients, which wait for whichever server serves them first.
    pub server: Option<Arc<str>>,
    /// The database that its connections are to.
    pub database: Arc<str>,
    /// The role that they are logged in as.
    pub user: Arc<str>,
    /// Its clients and connections.
    pub counts: PoolCounts,
}

/// The pools, as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolsNow {
    /// Those of one database and user together, the clients first.
    pub rows: Vec<PoolRow>,
    /// What the pools have counted since the start.
    pub totals: PoolTotals,
}

impl PoolsNow {
    /// From rows in any order. Those of one name are summed: they differ in what is not shown, such as startup parameters.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = PoolRow>, totals: PoolTotals) -> Self {
        let mut sums: BTreeMap<PoolName, PoolCounts> = BTreeMap::new();
        for PoolRow { server, database, user, counts } in rows {
            add(sums.entry((database, user, server)).or_default(), &counts);
        }
        let row = |((database, user, server), counts)| PoolRow { server, database, user, counts };
        PoolsNow { rows: sums.into_iter().map(row).collect(), totals }
    }
}

/// Adds what one pool has to what others have.
pub(crate) fn add(sum: &mut PoolCounts, counts: &PoolCounts) {
    let PoolCounts { cl_active, cl_waiting, sv_active, sv_idle, sv_used, sv_tested, sv_login, maxwait } =
        counts;
    sum.cl_active += cl_active;
    sum.cl_waiting += cl_waiting;
    sum.sv_active += sv_active;
    sum.sv_idle += sv_idle;
    sum.sv_used += sv_used;
    sum.sv_tested += sv_tested;
    sum.sv_login += sv_login;
    sum.maxwait = sum.maxwait.max(*maxwait);
}

/// Database, user and server.
type PoolName = (Arc<str>, Arc<str>, Option<Arc<str>>);

/// Reads the pools as they are now; `None` while no session may share a server connection.
type ReadPools = Box<dyn Fn() -> Option<PoolsNow> + Send + Sync>;

/// The pools, read when somebody looks.
#[derive(Default)]
pub struct PoolReader(OnceLock<ReadPools>);

impl PoolReader {
    /// Has the pools read by `read`, from now on; the first to say so counts.
    pub fn read_by(&self, read: impl Fn() -> Option<PoolsNow> + Send + Sync + 'static) {
        let _is_first = self.0.set(Box::new(read));
    }

    /// All pools; `None` while no session may share a server connection.
    #[must_use]
    pub fn now(&self) -> Option<PoolsNow> {
        self.0.get()?()
    }
}

impl std::fmt::Debug for PoolReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.0.get().is_some() { "read" } else { "none" };
        f.debug_tuple("PoolReader").field(&state).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(server: Option<&str>, database: &str, user: &str) -> PoolRow {
        let counts = PoolCounts { sv_idle: 1, ..PoolCounts::default() };
        PoolRow { server: server.map(Into::into), database: database.into(), user: user.into(), counts }
    }

    #[test]
    fn no_pools_are_not_the_same_as_no_pooling() {
        let reader = PoolReader::default();
        assert_eq!(reader.now(), None);
        reader.read_by(|| Some(PoolsNow::default()));
        assert_eq!(reader.now(), Some(PoolsNow::default()));
        reader.read_by(|| None);
        assert_eq!(reader.now(), Some(PoolsNow::default()), "the first reader counts");
    }

    #[test]
    fn pools_of_one_database_and_user_are_together_and_those_of_one_name_are_one() {
        let [batch, first, second, zoo] = [
            row(Some("a"), "app", "batch"),
            row(None, "app", "web"),
            row(Some("b"), "app", "web"),
            row(Some("a"), "zoo", "batch"),
        ];
        let unordered = [&second, &zoo, &first, &batch, &second].map(Clone::clone);
        let pools = PoolsNow::new(unordered, PoolTotals::default());
        let both = PoolCounts { sv_idle: 2, ..PoolCounts::default() };
        assert_eq!(pools.rows, [batch, first, PoolRow { counts: both, ..second }, zoo]);
    }
}
