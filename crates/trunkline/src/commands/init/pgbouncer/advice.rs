//! `[pgbouncer]`: keys without an equal here, and what to do about each.

use super::ini::IniEntry;

/// Keys that need nothing here: the reason is not worth a line of the file.
const NOT_NEEDED: &[&str] = &[
    "logfile",
    "pidfile",
    "user",
    "service_name",
    "job_name",
    "syslog",
    "syslog_ident",
    "syslog_facility",
    "so_reuseport",
    "pkt_buf",
    "sbuf_loopcnt",
    "listen_backlog",
    "suspend_timeout",
    "stats_period",
    "resolv_conf",
    "dns_max_ttl",
    "dns_nxdomain_ttl",
    "dns_zone_check_period",
    "tcp_defer_accept",
    "tcp_socket_buffer",
    "tcp_keepalive",
    "tcp_keepcnt",
    "tcp_keepidle",
    "tcp_keepintvl",
    "tcp_user_timeout",
    "verbose",
    "disable_pqexec",
    "server_round_robin",
    "server_fast_close",
    "log_pooler_errors",
    "log_stats",
    "ignore_startup_parameters",
    "track_extra_parameters",
    "max_packet_size",
];

/// What to do about a key, by its name.
const ADVICE: &[(&str, &str)] = &[
    ("pool_mode", POOL),
    ("server_reset_query", NO_RESET),
    ("server_reset_query_always", NO_RESET),
    ("server_check_query", "a server connection is checked with an empty query"),
    (
        "server_lifetime",
        "0 = each server connection is used once there; here it means that none is closed for its age",
    ),
    ("server_login_retry", "a server that refuses is asked again by the health probes, every tick"),
    ("query_timeout", "no equal: set statement_timeout, with ALTER ROLE or ALTER DATABASE"),
    (
        "transaction_timeout",
        "no equal: set transaction_timeout (PostgreSQL 17) or idle_in_transaction_session_timeout",
    ),
    ("cancel_wait_timeout", "a cancel is sent at once"),
    ("client_login_timeout", "0 = no limit there; here there is always one, [timeouts] login"),
    ("server_connect_timeout", "0 = no limit there; here there is always one, [timeouts] connect"),
    (
        "admin_users",
        "`trunkline status`, `drain`, `maint` and their kin use the admin socket, which its owner alone may open",
    ),
    ("stats_users", "/metrics and /cluster of [http] say what SHOW STATS and SHOW POOLS do"),
    ("auth_user", "the monitoring role reads stored secrets; see [auth] query, and the SQL below"),
    ("auth_dbname", "stored secrets are read in [monitor] dbname"),
    (
        "auth_type",
        "no equal: `hba_file` with a rule for such clients has cert, peer and trust; pam, ldap and any have none",
    ),
    ("auth_ldap_options", "no equal: [auth] mode = \"relay\" lets the servers' own pg_hba.conf ask LDAP"),
    ("client_tls_ciphers", "names differ: [client_tls] ciphers has its own list, and good defaults"),
    ("client_tls13_ciphers", "names differ: [client_tls] ciphers has its own list, and good defaults"),
    ("client_tls_ecdhcurve", "the library's own groups are used"),
    ("client_tls_dheparams", "DHE is not spoken; ECDHE is"),
    ("client_tls_protocols", "only TLSv1.2 and TLSv1.3 are spoken"),
    ("server_tls_ciphers", "the library's own ciphers are used with servers"),
    ("server_tls13_ciphers", "the library's own ciphers are used with servers"),
    ("server_tls_protocols", "only TLSv1.2 and TLSv1.3 are spoken"),
    ("unix_socket_group", "no equal: give the socket's directory that group"),
    (
        "peer_id",
        "no equal: a cancel reaches the instance that has the session; put several behind an address that keeps a client",
    ),
    ("autodb_idle_timeout", "databases are not kept here"),
    (
        "max_db_client_connections",
        "no equal: [limits] bounds sessions in all, for each user and for each address",
    ),
];

const POOL: &str = "there is session and transaction: transaction keeps the server connection for all statements of a transaction, \
                    which statement did not allow";
const NO_RESET: &str = "not needed: a server connection is brought to the state of its next client, by DISCARD ALL where it must be";

/// What to say of a key that is not carried over, if anything.
pub(super) fn of(entry: &IniEntry) -> Option<String> {
    if NOT_NEEDED.contains(&entry.key.as_str()) {
        return None;
    }
    let advice = ADVICE.iter().find(|(key, _)| *key == entry.key).map(|(_, advice)| *advice);
    let advice = advice.unwrap_or(
        "unknown to `trunkline init`, or not a value that it can carry over; look whether it is needed",
    );
    Some(format!("{}: {advice}", entry.shown()))
}

/// What to say of an entry of another section.
pub(super) fn of_section(section: &str, entry: &IniEntry) -> String {
    let advice = match section {
        "users" => {
            "pool_mode and pool_size of a user belong in a [[pool.override]] with its name; [limits] connections_per_user_max and [pool] max_user_connections are for all users"
        }
        _ => "instances do not know each other here",
    };
    format!("[{section}] {}: {advice}", entry.shown())
}
