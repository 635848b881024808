//! Clients that share server connections: a role of their own, and what its pools are at.

use std::sync::{Mutex, PoisonError};

use trunkline_cluster::{Cluster, Server};

use crate::{Auth, Endpoint, EndpointBuilder, Login, Wire};

/// A role that only one test uses: its server connections are that test's.
#[derive(Debug, Clone, Copy)]
pub struct PoolRole {
    /// Its name.
    pub name: &'static str,
}

impl PoolRole {
    /// Makes it on the primary, and waits until the replicas know it. Its password is `postgres`, and cheap to prove.
    ///
    /// # Panics
    /// When there is one of this name.
    #[track_caller]
    #[must_use]
    pub fn create(cluster: &Cluster, name: &'static str) -> Self {
        // The password's hash has no user name in it.
        let sql = format!(
            "DO $$ BEGIN EXECUTE format('CREATE ROLE {name} LOGIN PASSWORD %L',
                 (SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres')); END $$;
             GRANT CREATE ON SCHEMA public TO {name};"
        );
        // Two grants on one schema at a time would be one too many for PostgreSQL.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.primary.psql(&sql).expect("the name is free");
        drop(alone);
        cluster.wait_caught_up().expect("the replicas stream");
        Self { name }
    }

    /// How a client of it logs in.
    #[must_use]
    pub fn login(self) -> Login {
        Login::of(self.name, "postgres")
    }

    /// A session of it.
    #[track_caller]
    #[must_use]
    pub fn connect(self, port: u16) -> Wire {
        self.login().connect(port)
    }

    /// The process IDs of its server connections on `server`.
    ///
    /// # Panics
    /// When the server does not answer.
    #[must_use]
    pub fn processes(self, server: &Server) -> Vec<i32> {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{}' ORDER BY 1", self.name);
        let pids = server.psql(&sql).expect("the server answers");
        pids.lines().map(|pid| pid.parse().expect("it is a number")).collect()
    }
}

impl Endpoint {
    /// The sum of a column of `/cluster`'s pools, such as `cl_waiting`, over all pools of a user.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn pooled(&self, column: &str, role: PoolRole) -> u64 {
        let cluster = self.cluster_page();
        let pools = cluster["pools"]["pools"].as_array().expect("a list").iter();
        pools.filter(|pool| pool["user"] == role.name).filter_map(|pool| pool[column].as_u64()).sum()
    }
}

impl EndpointBuilder {
    /// Authenticates clients itself, and shares so many server connections of each pool among transactions.
    #[must_use]
    pub fn pooling(self, pool_size: u16) -> Self {
        let builder = self.auth(Auth::Verify).key("pool.pool_mode", "\"transaction\"");
        builder.key("pool.pool_size", &pool_size.to_string())
    }

    /// The number of its worker threads.
    #[must_use]
    pub fn threads(self, threads: u16) -> Self {
        self.key("runtime.threads", &threads.to_string())
    }
}
