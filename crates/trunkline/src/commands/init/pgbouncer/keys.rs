//! `[pgbouncer]`: keys with an equal here.

use toml::Value;

use super::ini::{Ini, IniEntry};
use crate::commands::init::draft::Draft;

/// Equal keys of text: PgBouncer's, and ours.
const TEXTS: &[(&str, &str, &str)] = &[
    ("auth_file", "auth", "users_file"),
    ("auth_hba_file", "auth", "hba_file"),
    ("auth_ident_file", "auth", "ident_file"),
    ("client_tls_sslmode", "client_tls", "sslmode"),
    ("client_tls_cert_file", "client_tls", "cert_file"),
    ("client_tls_key_file", "client_tls", "key_file"),
    ("client_tls_ca_file", "client_tls", "ca_file"),
    ("server_tls_sslmode", "server_tls", "sslmode"),
    ("server_tls_ca_file", "server_tls", "sslrootcert"),
    ("server_tls_cert_file", "server_tls", "sslcert"),
    ("server_tls_key_file", "server_tls", "sslkey"),
];

/// Equal keys of time: PgBouncer's, in seconds, and ours. 0 is "never" with both.
const TIMES: &[(&str, &str, &str)] = &[
    ("client_idle_timeout", "timeouts", "idle_session"),
    ("idle_transaction_timeout", "timeouts", "idle_in_transaction"),
];

/// Equal keys of time that are never 0 here.
const LIMITED_TIMES: &[(&str, &str, &str)] =
    &[("client_login_timeout", "timeouts", "login"), ("server_connect_timeout", "timeouts", "connect")];

/// Equal keys of time whose default is not 0 here.
const POOL_TIMES: &[(&str, &str, &str)] = &[
    ("reserve_pool_timeout", "pool", "reserve_pool_timeout"),
    ("server_idle_timeout", "pool", "server_idle_timeout"),
    ("server_check_delay", "pool", "server_check_delay"),
];

/// Equal numbers: PgBouncer's, and ours. 0 is the default with both, or means something else there.
const NUMBERS: &[(&str, &str, &str)] = &[
    ("max_client_conn", "limits", "connections_max"),
    ("max_user_client_connections", "limits", "connections_per_user_max"),
    ("default_pool_size", "pool", "pool_size"),
    ("min_pool_size", "pool", "min_pool_size"),
    ("reserve_pool_size", "pool", "reserve_pool_size"),
    ("max_db_connections", "pool", "max_db_connections"),
    ("max_user_connections", "pool", "max_user_connections"),
    ("max_prepared_statements", "pool", "max_prepared_statements"),
];

/// Equal switches.
const SWITCHES: &[(&str, &str, &str)] =
    &[("log_connections", "log", "connections"), ("log_disconnections", "log", "disconnections")];

/// Puts a key's equal into the draft. False when it has none.
pub(super) fn carry(entry: &IniEntry, draft: &mut Draft) -> bool {
    let (key, value) = (entry.key.as_str(), entry.value.as_str());
    let equal = |table: &'static [(&str, &'static str, &'static str)]| {
        table.iter().find(|(theirs, ..)| *theirs == key).map(|(_, section, name)| (*section, *name))
    };
    let note = format!("PgBouncer's {} ({}).", entry.key, entry.place());
    if value.is_empty() {
        return true;
    }
    if let Some((section, name)) = equal(TEXTS) {
        draft.key(section, name, value, note);
    } else if let Some((section, name)) = equal(TIMES) {
        match seconds(value) {
            Some(0.0) => {}
            Some(_) => draft.key(section, name, format!("{value}s"), note),
            None => return false,
        }
    } else if let Some((section, name)) = equal(LIMITED_TIMES) {
        match seconds(value) {
            Some(0.0) | None => return false,
            Some(_) => draft.key(section, name, format!("{value}s"), note),
        }
    } else if let Some((section, name)) = equal(POOL_TIMES) {
        match seconds(value) {
            Some(_) => draft.key(section, name, format!("{value}s"), note),
            None => return false,
        }
    } else if let Some((section, name)) = equal(NUMBERS) {
        return number(draft, (section, name), value, note);
    } else if let Some((section, name)) = equal(SWITCHES) {
        draft.key(section, name, if is_on(value) { "on" } else { "off" }, note);
    } else {
        return match key {
            "pool_mode" => pool_mode(value, note, draft),
            "query_wait_timeout" => query_wait_timeout(value, note, draft),
            // 0 means another thing there.
            "server_lifetime" => match seconds(value) {
                Some(0.0) | None => false,
                Some(_) => {
                    draft.key("pool", "server_lifetime", format!("{value}s"), note);
                    true
                }
            },
            "auth_type" => auth_type(value, note, draft),
            "auth_query" => auth_query(value, note, draft),
            "client_tls_protocols" => protocols(
                value,
                ("client_tls", ["min_protocol_version", "max_protocol_version"]),
                &note,
                draft,
            ),
            "server_tls_protocols" => protocols(
                value,
                ("server_tls", ["ssl_min_protocol_version", "ssl_max_protocol_version"]),
                &note,
                draft,
            ),
            // Read with the listeners.
            "listen_addr"
            | "listen_port"
            | "application_name_add_host"
            | "unix_socket_mode"
            | "unix_socket_dir" => true,
            _ => false,
        };
    }
    true
}

/// Keys that belong to each listener here.
pub(super) fn of_listeners(ini: &Ini, draft: &mut Draft) -> Vec<(&'static str, Value)> {
    let mut keys = Vec::new();
    if let Some(entry) =
        ini.value("pgbouncer", "application_name_add_host").filter(|entry| is_on(&entry.value))
    {
        let way = "here each client with it has a server connection to itself; delete it to have them shared";
        draft.unequal.push(format!("{}: {way}", entry.shown()));
        keys.push(("application_name_add_host", Value::from("on")));
    }
    if let Some(entry) = ini.value("pgbouncer", "unix_socket_mode") {
        let digits = entry.value.trim_start_matches("0o");
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o777 => {
                keys.push(("unix_socket_permissions", Value::from(format!("{mode:04o}"))));
            }
            Ok(_) | Err(_) => draft.unseen.push(format!("{}: it is no mode of a file", entry.shown())),
        }
    }
    keys
}

/// A number of seconds, which PgBouncer writes with or without a fraction.
fn seconds(value: &str) -> Option<f64> {
    let is_number = value.chars().all(|c| c.is_ascii_digit() || c == '.');
    value.parse::<f64>().ok().filter(|seconds| is_number && seconds.is_finite() && *seconds < 1e8)
}

fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true" | "t" | "y")
}

fn number(
    draft: &mut Draft,
    (section, name): (&'static str, &'static str),
    value: &str,
    note: String,
) -> bool {
    match value.parse::<u32>() {
        Ok(0) => true,
        Ok(number) => {
            draft.key(section, name, i64::from(number), note);
            true
        }
        Err(_) => false,
    }
}

fn pool_mode(value: &str, note: String, draft: &mut Draft) -> bool {
    match value {
        "transaction" => draft.key("pool", "pool_mode", "transaction", note),
        "session" => {
            let note =
                format!("{note} In session mode it keeps server connections for the next client, too.");
            draft.key("pool", "server_reuse", "on", note);
        }
        _ => return false,
    }
    true
}

/// For a connection of the pool, and for a server at all.
fn query_wait_timeout(value: &str, note: String, draft: &mut Draft) -> bool {
    let Some(length) = seconds(value) else { return false };
    draft.key("pool", "query_wait_timeout", format!("{value}s"), note.clone());
    if length > 0.0 {
        draft.key("timeouts", "acquire", format!("{value}s"), note);
    }
    true
}

fn auth_type(value: &str, note: String, draft: &mut Draft) -> bool {
    let method = match value {
        // Follows the stored secret with both: md5 also lets in by SCRAM.
        "md5" => "auto",
        "scram-sha-256" => "scram-sha-256",
        "plain" => "password",
        // The rules say it, line by line.
        "hba" => return true,
        "trust" => {
            let warning = format!(
                "{note} It asks clients for nothing, as there: servers must take the stored secrets, or trust the proxy."
            );
            draft.key("auth", "client_method", "trust", warning);
            return true;
        }
        _ => return false,
    };
    draft.key("auth", "client_method", method, note);
    true
}

fn auth_query(value: &str, note: String, draft: &mut Draft) -> bool {
    let lower = value.to_ascii_lowercase();
    if lower.contains("pg_shadow") || lower.contains("pg_authid") {
        draft.found.push(
            "auth_query reads PostgreSQL's own table of secrets: [auth] query stays unset, which does the same through the \
             function of the SQL below, without the right to read all of them"
                .to_owned(),
        );
        return true;
    }
    let note = format!(
        "{note} It runs as the monitoring role in [monitor] dbname, which needs EXECUTE on the function and its schema's USAGE."
    );
    draft.key("auth", "query", value, note);
    draft.to_do.push("grant the monitoring role what auth_user had for auth_query ([auth] query)".to_owned());
    true
}

type ProtocolKeys = (&'static str, [&'static str; 2]);

/// `secure`, `all`, or a list such as `tlsv1.2,tlsv1.3`.
fn protocols(value: &str, (section, [min, max]): ProtocolKeys, note: &str, draft: &mut Draft) -> bool {
    let words: Vec<String> = value.split(',').map(|word| word.trim().to_ascii_lowercase()).collect();
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
    match (has(&["tlsv1.2"]), has(&["tlsv1.3"]), has(&["secure", "default", "all", "legacy"])) {
        (_, _, true) | (true, true, false) => true,
        (true, false, false) => {
            draft.key(section, max, "TLSv1.2", note);
            true
        }
        (false, true, false) => {
            draft.key(section, min, "TLSv1.3", note);
            true
        }
        (false, false, false) => false,
    }
}
