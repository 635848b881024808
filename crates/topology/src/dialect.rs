//! In which words a server is asked how it is.

use std::sync::Arc;

/// Which functions tell how a server stands: managed PostgreSQL lacks some, and has others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// What the server itself shows to be right, found out at each connection.
    #[default]
    Auto,
    /// PostgreSQL's own functions.
    Postgres,
    /// Amazon Aurora: `aurora_replica_status()`.
    Aurora,
    /// An RDS Multi-AZ DB cluster: PostgreSQL's functions, and the cluster as `rds_tools` knows it.
    RdsCluster,
    /// PostgreSQL's functions for the role, and a query of the operator's for the lag.
    Custom,
}

/// How a server is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeSpec {
    /// Which functions are asked. `None`: as the other servers, or `auto`.
    pub dialect: Option<Dialect>,
    /// With [`Dialect::Custom`]: gives milliseconds as a number, or an LSN as text, or NULL where the lag is unknown.
    pub lag_query: Option<Arc<str>>,
    /// Whether a primary is asked where it writes next.
    pub inserted: InsertedAsked,
}

/// Whether a primary is asked for the position behind all that was committed there, flushed or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum InsertedAsked {
    /// Nobody needs it.
    #[default]
    No,
    /// Sessions that write there read elsewhere.
    Yes,
}

impl ProbeSpec {
    /// This server's own, and what `general` says where it has none.
    #[must_use]
    pub fn or(&self, general: &Self) -> Self {
        let lag_query = self.lag_query.as_ref().or(general.lag_query.as_ref()).map(Arc::clone);
        let inserted = self.inserted.max(general.inserted);
        Self { dialect: self.dialect.or(general.dialect), lag_query, inserted }
    }

    /// The dialect in force.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect.unwrap_or_default()
    }
}
