//! A PgBouncer ini as a source.
//!
//! [`ini`] reads the file, [`databases`] makes servers of `[databases]`, [`keys`] carries `[pgbouncer]` over, and [`advice`]
//! has what to do about each key that has no equal here. Source: PgBouncer 1.24, pgbouncer(5).

mod advice;
mod databases;
mod ini;
mod keys;

use std::path::Path;

use self::ini::{Ini, IniEntry};
use super::draft::{Draft, DraftListener};
use super::read_source;
use crate::Failure;
use trunkline_routing::{Balance, TargetSessionAttrs};

/// PgBouncer's port where none is written.
const DEFAULT_PORT: u16 = 6432;

pub(super) fn draft(path: &Path) -> Result<Draft, Failure> {
    let text = read_source(path)?;
    let ini = Ini::read(path, &text, &mut |path| read_source(path).map_err(|failure| failure.to_string()));
    let mut draft = of_ini(path, &ini);
    if draft.servers.is_empty() && ini.section("databases").next().is_none() {
        draft.unseen.push("there is no [databases]".to_owned());
    }
    Ok(draft)
}

fn of_ini(path: &Path, ini: &Ini) -> Draft {
    let mut draft = Draft::of(path.display().to_string());
    draft.unseen.extend(ini.problems.iter().cloned());
    databases::read(ini, &mut draft);
    for entry in ini.section("pgbouncer") {
        let is_carried = keys::carry(entry, &mut draft);
        if !is_carried {
            draft.unequal.extend(advice::of(entry));
        }
    }
    for section in ["users", "peers"] {
        for entry in ini.section(section) {
            draft.unequal.push(advice::of_section(section, entry));
        }
    }
    listeners(ini, &mut draft);
    draft.unseen.push(
        "roles, versions and ports in use: no server was asked. Each role is measured when Trunkline runs; a server that \
         PgBouncer did not name is not here, and `trunkline init --from \"host=... user=...\"` finds those that stream"
            .to_owned(),
    );
    draft
        .to_do
        .push("stop PgBouncer, or give the listeners other ports: the addresses are its own".to_owned());
    draft
}

/// Writes at PgBouncer's own address, where its clients come to, and reads at the port after it.
fn listeners(ini: &Ini, draft: &mut Draft) {
    let value = |name: &str| ini.value("pgbouncer", name);
    let port = match value("listen_port").map(|entry| (entry, entry.value.parse::<u16>())) {
        None => DEFAULT_PORT,
        Some((_, Ok(port))) => port,
        Some((entry, Err(_))) => {
            draft.unseen.push(format!("{}: it is no port; {DEFAULT_PORT} is written", entry.shown()));
            DEFAULT_PORT
        }
    };
    let reads = if port == u16::MAX { port - 1 } else { port + 1 };
    let addresses: Vec<String> = match value("listen_addr") {
        None => Vec::new(),
        Some(entry) => entry.value.split(',').filter_map(|word| address(word.trim(), entry, draft)).collect(),
    };
    let addresses = if addresses.is_empty() { vec!["127.0.0.1".to_owned()] } else { addresses };
    let more = keys::of_listeners(ini, draft);
    let mut put = |name: &str, host: &str, port: u16, attrs, note: &str| {
        draft.listener(DraftListener {
            name: name.to_owned(),
            address: format!("{host}:{port}"),
            attrs,
            balance: Balance::default(),
            keys: more
                .iter()
                .filter(|(key, _)| host.starts_with('/') || *key != "unix_socket_permissions")
                .cloned()
                .collect(),
            note: note.to_owned(),
        });
    };
    for host in &addresses {
        let note = "PgBouncer's listen_addr and listen_port: its clients come to the primary as before.";
        put("writes", host, port, TargetSessionAttrs::ReadWrite, note);
        let note = "Reads, at the port after PgBouncer's: point clients here that only read. \"prefer-standby\" goes to the \
                    primary when no replica can serve.";
        put("reads", host, reads, TargetSessionAttrs::PreferStandby, note);
    }
    if let Some(directory) = value("unix_socket_dir").filter(|entry| entry.value.starts_with('/')) {
        let note = "PgBouncer's unix_socket_dir.";
        put("writes-socket", &directory.value, port, TargetSessionAttrs::ReadWrite, note);
    }
}

/// An address of `listen_addr` as ours.
fn address(word: &str, entry: &IniEntry, draft: &mut Draft) -> Option<String> {
    match word {
        "" => None,
        "*" => Some("0.0.0.0".to_owned()),
        "localhost" => Some("127.0.0.1".to_owned()),
        word => match word.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(address)) => Some(address.to_string()),
            Ok(std::net::IpAddr::V6(address)) => Some(format!("[{address}]")),
            Err(_) => {
                draft.unseen.push(format!(
                    "{}: {word} is a name; write its address in a [[listener]]",
                    entry.shown()
                ));
                None
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::init::testing::valid;

    const INI: &str = "\
;; PgBouncer of the shop
[databases]
app = host=10.0.0.1 port=5432 dbname=app
app_ro = host=10.0.0.2,10.0.0.3 dbname=app pool_size=20 user=reader
* = host=10.0.0.1

[pgbouncer]
listen_addr = *
listen_port = 6432
auth_type = scram-sha-256
auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename=$1
pool_mode = transaction
max_client_conn = 500
default_pool_size = 30
min_pool_size = 0
server_idle_timeout = 0
server_lifetime = 0
client_idle_timeout = 0
idle_transaction_timeout = 60
query_wait_timeout = 7.5
server_tls_sslmode = require
application_name_add_host = 1
log_disconnections = 1
server_reset_query = DISCARD ALL
wonder = 1
";

    fn of(text: &str) -> Draft {
        of_ini(Path::new("p.ini"), &Ini::read(Path::new("p.ini"), text, &mut |_| Err("none".to_owned())))
    }

    #[test]
    fn what_has_an_equal_is_carried_over_and_the_rest_is_named_with_what_to_do() {
        let draft = of(INI);
        let text = valid(&draft);
        for written in [
            "address = \"10.0.0.1:5432\"",
            "address = \"10.0.0.3:5432\"",
            "address = \"0.0.0.0:6432\"\ntarget_session_attrs = \"read-write\"\napplication_name_add_host = \"on\"",
            "address = \"0.0.0.0:6433\"\ntarget_session_attrs = \"prefer-standby\"",
            "connections_max = 500",
            "client_method = \"scram-sha-256\"",
            "idle_in_transaction = \"60s\"",
            "acquire = \"7.5s\"",
            "pool_mode = \"transaction\"",
            "pool_size = 30",
            "query_wait_timeout = \"7.5s\"",
            "server_idle_timeout = \"0s\"",
            "disconnections = \"on\"",
            "sslmode = \"require\"",
        ] {
            assert!(text.contains(written), "{written} is missing in\n{text}");
        }
        assert_eq!(draft.servers.len(), 3, "each place once: {:?}", draft.servers);
        let unequal = draft.unequal.join("\n");
        for said in [
            "server_lifetime = 0 (line 17)",
            "pool_size=20: write a [[pool.override]]",
            "user=reader",
            "wonder = 1",
            "application_name_add_host = 1 (line 22): here each client with it has a server connection to itself",
        ] {
            assert!(unequal.contains(said), "{said} is missing in\n{unequal}");
        }
        assert!(!unequal.contains("client_idle_timeout"), "0 is the default here: {unequal}");
        assert!(!text.contains("query = \"SELECT usename"), "pg_shadow is for superusers: {text}");
    }

    #[test]
    fn modes_of_pools_are_carried_over_but_for_that_of_statements() {
        let of = |mode: &str| of(&format!("[databases]\na = host=h\n[pgbouncer]\npool_mode = {mode}\n"));
        let session = valid(&of("session"));
        assert!(session.contains("server_reuse = \"on\""), "{session}");
        let statement = of("statement");
        assert!(!valid(&statement).contains("[pool]"));
        assert!(statement.unequal[0].contains("there is session and transaction"), "{:?}", statement.unequal);
    }

    #[test]
    fn a_query_through_a_function_of_its_own_is_carried_over() {
        let draft =
            of("[databases]\na = host=h\n[pgbouncer]\nauth_query = SELECT * FROM pgbouncer.get_auth($1)\n");
        assert!(valid(&draft).contains("query = \"SELECT * FROM pgbouncer.get_auth($1)\""));
    }

    #[test]
    fn nothing_in_the_file_can_write_keys_of_ours() {
        let draft = of(
            "[databases]\n\"a\" = host='h\u{b}[[server]]' port=x\nb = host=i\"\\\n[pgbouncer]\nlisten_addr=x\u{85}y\n",
        );
        let text = crate::commands::init::render::render(&draft, "m");
        assert!(text.parse::<toml::Table>().is_ok(), "{text}");
    }
}
