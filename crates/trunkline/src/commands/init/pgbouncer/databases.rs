//! `[databases]`: the servers, and what else PgBouncer does for a database.

use super::ini::{Ini, IniEntry, pairs};
use crate::commands::init::draft::{Draft, DraftServer};

/// PostgreSQL's port where none is written.
const DEFAULT_PORT: u16 = 5432;

/// Where a server is without a host. Source: PgBouncer 1.24, pgbouncer(5), `host`: the Unix socket.
const SOCKET_DIR: &str = "/var/run/postgresql";

/// Makes a server of each host, in order, and tells what each database had beside it.
pub(super) fn read(ini: &Ini, draft: &mut Draft) {
    let mut count = 0;
    for entry in ini.section("databases") {
        count += 1;
        let pairs = pairs(&entry.value);
        let of =
            |key: &str| pairs.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        let hosts: Vec<&str> = match of("host") {
            None => vec![SOCKET_DIR],
            Some(hosts) => hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).collect(),
        };
        put_servers(draft, entry, &hosts, of("port"));
        for (key, value) in &pairs {
            draft.unequal.extend(without_equal(entry, (key, value)));
        }
        if hosts.len() > 1 {
            draft.found.push(format!(
                "the database {} was spread over {} servers: its clients belong to the listener of reads",
                entry.key,
                hosts.len()
            ));
        }
    }
    if count > 0 {
        draft.found.push(format!(
            "{count} databases: here any database of the servers can be reached, by its own name, and which server it is \
             depends on the listener"
        ));
    }
}

fn put_servers(draft: &mut Draft, entry: &IniEntry, hosts: &[&str], port: Option<&str>) {
    let port = match port.map(str::parse::<u16>) {
        None => DEFAULT_PORT,
        Some(Ok(port)) => port,
        Some(Err(_)) => {
            draft.unseen.push(format!(
                "the database {} ({}): its port is none; it is left out",
                entry.key,
                entry.place()
            ));
            return;
        }
    };
    for host in hosts {
        let note = format!("PgBouncer's database {} ({}).", entry.key, entry.place());
        draft.server(DraftServer {
            host: (*host).to_owned(),
            port: Some(port),
            note,
            ..DraftServer::default()
        });
    }
}

/// What a key of a database has no equal for here.
fn without_equal(entry: &IniEntry, (key, value): (&str, &str)) -> Option<String> {
    let database = &entry.key;
    let say = |what: String| Some(format!("database {database} ({}): {what}", entry.place()));
    match key {
        "host" | "port" => None,
        "dbname" if value == database => None,
        "dbname" => say(format!("it is {value} on the servers: clients connect with dbname={value}")),
        "user" => say(format!(
            "user={value}: all clients shared that login. Here each logs in as itself, or has its own user in pg_hba.conf"
        )),
        "password" => say("a password for the servers: clients use their own here".to_owned()),
        "auth_user" | "auth_query" | "auth_dbname" => say(format!(
            "{key}: stored secrets are read by the monitoring role, in [monitor] dbname; see the SQL below"
        )),
        "pool_size" | "pool_mode" => say(format!(
            "{key}={value}: write a [[pool.override]] with its database and this key"
        )),
        "min_pool_size" | "reserve_pool_size" | "reserve_pool" | "max_db_connections"
        | "max_db_client_connections" | "server_lifetime" => say(format!(
            "{key}={value}: no equal for one database; the keys of [pool] and [limits] are for all of them"
        )),
        "connect_query" => say(
            "connect_query: nothing is run at a connect; ALTER ROLE ... SET or ALTER DATABASE ... SET does it".to_owned(),
        ),
        "load_balance_hosts" => None,
        "client_encoding" | "datestyle" | "timezone" => {
            say(format!("{key}={value}: ALTER DATABASE {database} SET {key} TO ... does the same"))
        }
        "application_name" => say("application_name: clients send their own".to_owned()),
        _ => say(format!("{key}: unknown to `trunkline init`; look whether it is needed")),
    }
}
