//! Commands to try.

use std::fmt::Write as _;

use nix::unistd::Uid;
use trunkline_cluster::Server;

use super::DemoStage;
use crate::config::admin_places::FILE;

/// Connection strings and commands to paste.
pub(super) fn guide(stage: &DemoStage) -> String {
    let (reads, writes, http) = (stage.ports.reads(), stage.ports.writes(), stage.ports.http());
    let (host, root) = (stage.host(), stage.root.as_ref().map(|root| root.display().to_string()));
    let tls = root.as_deref().map(verified).unwrap_or_default();
    let uri = |port| {
        let uri = format!("postgresql://postgres:postgres@{host}:{port}/appdb{tls}");
        // A shell would take what stands between these parameters for its own.
        if tls.is_empty() { uri } else { format!("\"{uri}\"") }
    };
    let trunkline = ourselves();
    let directory = stage.directory.display();
    let admin = stage.directory.join(FILE);
    let admin = admin.display();
    let mut out =
        format!("\n  reads   {}   replicas, in turn\n  writes  {}   the primary\n", uri(reads), uri(writes),);
    if let Some(split) = stage.ports.split() {
        let _ = writeln!(out, "  split   {}   both: what only reads on replicas", uri(split));
    }
    let _ = writeln!(
        out,
        "  page    http://127.0.0.1:{http}/   states, lag, sessions\n  admin   {admin}\n  log     {directory}/trunkline.log"
    );
    out.push_str("\nTry in another terminal:\n\n");
    let _ = writeln!(out, "  export PGHOST={host} PGUSER=postgres PGPASSWORD=postgres PGDATABASE=appdb");
    if let Some(root) = &root {
        let _ = writeln!(out, "  export PGSSLMODE=verify-full PGCHANNELBINDING=require PGSSLROOTCERT={root}");
    }
    let _ = writeln!(out, "  export TRUNKLINE_HTTP=127.0.0.1:{http} TRUNKLINE_ADMIN={admin}");
    let mut entry = |what: &str, commands: &[String]| {
        let _ = writeln!(out, "\n  # {what}");
        for command in commands {
            let _ = writeln!(out, "  {command}");
        }
    };
    entry(
        "which server answers",
        &[format!(
            "for i in 1 2 3 4; do psql -p {reads} -Atc \"SELECT current_setting('cluster_name'), count(*) FROM ynar\"; done"
        )],
    );
    if let Some(split) = stage.ports.split() {
        entry(
            "one port for reads and writes (again, where the first read was the primary's: the catalog was not read yet)",
            &[split_commands(split)],
        );
    }
    if root.is_some() {
        entry(
            "who speaks TLS: psql to the proxy, and the proxy to its servers",
            &[
                format!("psql -p {reads} -c '\\conninfo'"),
                format!(
                    "psql -p {reads} -c 'SELECT ssl, version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()'"
                ),
            ],
        );
    }
    entry(
        "where the time goes",
        &[format!("PGPORT={reads} {trunkline} profile -n 20 \"SELECT count(*) FROM ynar\"")],
    );
    if let Some(replica) = stage.cluster.replicas.first() {
        of_replica(stage, replica, &mut entry);
    }
    entry(
        "the servers and the sessions, from anywhere",
        &[format!("{trunkline} status --watch"), format!("{trunkline} sessions")],
    );
    out.push_str("\nCtrl-C ends it and leaves nothing behind.\n\n");
    out
}

/// A read, a write, and a read that shows it.
fn split_commands(split: u16) -> String {
    let server = "current_setting('cluster_name')";
    format!(
        "psql -p {split} -At -c \"SELECT {server}, count(*) FROM ynar\" \\\n    -c \"INSERT INTO ynar (info) VALUES ('new') RETURNING {server}\" \\\n    -c \"SELECT {server}, count(*) FROM ynar\""
    )
}

/// What to do to a replica, each with its commands.
fn of_replica(stage: &DemoStage, replica: &Server, entry: &mut impl FnMut(&str, &[String])) {
    let (trunkline, writes, directory) = (ourselves(), stage.ports.writes(), stage.directory.display());
    let (name, port) = (replica.name(), replica.port());
    entry(
        &format!("{name} falls behind: it leaves after max_lag, and comes back"),
        &[
            format!("psql -p {port} -c \"SELECT pg_wal_replay_pause()\""),
            format!("psql -p {writes} -c \"INSERT INTO ynar (info) VALUES ('missing on {name}')\""),
            format!("psql -p {port} -c \"SELECT pg_wal_replay_resume()\""),
        ],
    );
    entry(
        &format!("{name} is emptied without an error, and put back to work"),
        &[format!("{trunkline} drain {name}"), format!("{trunkline} ready {name}")],
    );
    let data = replica.data_dir().display();
    let account = if Uid::effective().is_root() { "runuser -u postgres -- " } else { "" };
    let pg_ctl = stage.pg_ctl.display();
    entry(
        &format!("{name} is killed, and started again"),
        &[
            format!("kill -9 $(head -n 1 {data}/postmaster.pid)"),
            format!("{account}{pg_ctl} -D {data} -l {directory}/{name}.restart.log start"),
        ],
    );
}

/// What a connection string says to verify the proxy by this root.
fn verified(root: &str) -> String {
    format!("?sslmode=verify-full&channel_binding=require&sslrootcert={root}")
}

/// How to call this program from any directory: by its name if it is on the PATH.
fn ourselves() -> String {
    let Ok(program) = std::env::current_exe() else { return "trunkline".to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_on_path =
        std::env::split_paths(&path).any(|directory| Some(directory.as_path()) == program.parent());
    if is_on_path { "trunkline".to_owned() } else { program.display().to_string() }
}
