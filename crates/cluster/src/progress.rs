//! What [`Cluster::start`](crate::Cluster::start) is doing, for the person who waits.

use std::fmt;

/// One step that has begun or is done. Its text is one line for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// `initdb` runs.
    Initializing {
        /// PostgreSQL's major version.
        major: u32,
    },
    /// The server accepts connections.
    Started {
        /// Its name.
        server: String,
        /// Its port on 127.0.0.1.
        port: u16,
    },
    /// Roles and the database exist; `pg_basebackup` runs once for each standby.
    Copying {
        /// How many standbys.
        replicas: usize,
    },
    /// The standby receives the primary's WAL.
    Streaming {
        /// Its name.
        server: String,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initializing { major } => write!(f, "creating a PostgreSQL {major} primary"),
            Self::Started { server, port } => write!(f, "{server} accepts connections on 127.0.0.1:{port}"),
            Self::Copying { replicas: 1 } => write!(f, "copying the primary to 1 replica"),
            Self::Copying { replicas } => write!(f, "copying the primary to {replicas} replicas"),
            Self::Streaming { server } => write!(f, "{server} is streaming from its upstream"),
        }
    }
}
