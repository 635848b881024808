//! `bench-cluster`: a primary with two standbys for the bench. Prints its ports as JSON when all stream, and
//! ends, leaving nothing behind, when its standard input does.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;
use trunkline_cluster::{Cluster, ClusterSpec, MONITOR_PASSWORD, MONITOR_ROLE, PgInstall};

/// Direct clients, and those of two pooled PgBouncers, at 64 each, and room for the rest.
const CONNECTIONS_MAX: &str = "400";

fn main() -> anyhow::Result<()> {
    let bin = std::env::args_os().nth(1).map(PathBuf::from);
    let install = PgInstall::find(bin.as_deref()).context("PostgreSQL's server programs are needed")?;
    let version = install.major;
    let directory = std::env::temp_dir().join(format!("trunkline-bench-{}", std::process::id()));
    let mut spec = ClusterSpec::new(install, 2, directory);
    spec.settings = [("max_connections", CONNECTIONS_MAX), ("shared_buffers", "256MB")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let cluster = Cluster::start(spec, &mut |_| ()).context("could not start the servers")?;
    let servers: Vec<_> = cluster
        .servers()
        .map(|server| json!({"name": server.name(), "port": server.port(), "pid": server.postmaster_pid()}))
        .collect();
    let told = json!({
        "servers": servers, "socket_dir": cluster.socket_dir(), "major": version, "user": "postgres", "password": "postgres", "database": "appdb",
        "monitor": format!("user={MONITOR_ROLE} password={MONITOR_PASSWORD} dbname=appdb"),
    });
    println!("{told}");
    std::io::stdin().read_to_end(&mut Vec::new()).context("standard input")?;
    drop(cluster);
    Ok(())
}
