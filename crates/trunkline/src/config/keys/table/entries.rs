//! The keys of a `[[server]]` and of a `[[listener]]`.

use trunkline_pool::PoolMode;
use trunkline_proxy::settings::{ReadYourWrites, RouteBy};
use trunkline_routing::{Balance, TargetSessionAttrs};
use trunkline_tls::TlsVersion;
use trunkline_tls::accept::ClientSslMode;
use trunkline_tls::connect::{Negotiation, ServerSslMode};
use trunkline_topology::{AdminState, Dialect, ExpectedRole, ProbeSpec};

use super::super::{Key, KeyKind, PutValue as _, put_word, words};
use super::{count, key, unset, word};
use crate::config::raw::{ListenerEntry, ServerEntry};
use crate::config::words::Word as _;

/// Puts the word of a dialect, which is optional, into its place.
pub(super) fn put_dialect(probe: &mut ProbeSpec, written: &str) -> bool {
    Dialect::parse(written).map(|dialect| probe.dialect = Some(dialect)).is_some()
}

/// Keys of a `[[server]]`.
pub const SERVER_KEYS: &[Key<ServerEntry>] = &[
    unset(
        "name",
        "\"replica1\"",
        KeyKind::Text(|t, v, s| t.name.put(v, s)),
        "Name in logs, metrics and health checks. Default: the host, with its port when two servers share it.",
    ),
    unset(
        "address",
        "\"10.0.0.12:5432\"",
        KeyKind::Text(|t, v, s| t.address.put(v, s)),
        "Host and port of the PostgreSQL server, or the directory of its Unix socket: `/run/postgresql:5432`. Required.",
    ),
    key(
        "role",
        "\"any\"",
        word::<_, ExpectedRole>(|t, w| put_word(&mut t.spec.expected_role, w)),
        "Role the server is expected to have; it is always measured, and a server with another role is not used.",
    ),
    key(
        "weight",
        "100",
        count(0, 1000, |t, v, s| t.spec.weight.put(v, s)),
        "Share of the sessions, compared with the other servers'. 0 = none.",
    ),
    unset(
        "zone",
        "\"eu-central-1a\"",
        KeyKind::Text(|t, v, _source| t.spec.zone = v.map(Into::into)),
        "Where the server stands, such as an availability zone; compared with the proxy's `[runtime] zone`.",
    ),
    key(
        "state",
        "\"ready\"",
        word::<_, AdminState>(|t, w| put_word(&mut t.spec.admin, w)),
        "`drain` finishes its sessions and gets no new ones; `maint` is neither used nor probed.",
    ),
    unset(
        "dialect",
        "\"aurora\"",
        word::<_, Dialect>(|t, w| put_dialect(&mut t.spec.probe, w)),
        "As in [health], for this server alone. Default: that.",
    ),
    unset(
        "lag_query",
        "\"SELECT lag_ms FROM public.replica_lag\"",
        KeyKind::Text(|t, v, _| t.spec.probe.lag_query = v.map(Into::into)),
        "As in [health], for this server alone. Default: that.",
    ),
    unset(
        "sslmode",
        "\"verify-full\"",
        word::<_, ServerSslMode>(|t, w| {
            ServerSslMode::parse(w).map(|mode| t.tls.sslmode = Some(mode)).is_some()
        }),
        "This server's own, as all the keys that follow, in place of the key of that name in `[server_tls]`.",
    ),
    unset(
        "sslrootcert",
        "\"/etc/trunkline/replica1-root.crt\"",
        KeyKind::Text(|t, v, s| t.tls.sslrootcert.put(v, s)),
        "The roots of its certificate.",
    ),
    unset(
        "sslcrl",
        "\"/etc/trunkline/replica1-root.crl\"",
        KeyKind::Text(|t, v, s| t.tls.sslcrl.put(v, s)),
        "Revocation lists of those roots.",
    ),
    unset(
        "sslcert",
        "\"/etc/trunkline/replica1-client.crt\"",
        KeyKind::Text(|t, v, s| t.tls.sslcert.put(v, s)),
        "The proxy's own certificate for it.",
    ),
    unset(
        "sslkey",
        "\"/etc/trunkline/replica1-client.key\"",
        KeyKind::Text(|t, v, s| t.tls.sslkey.put(v, s)),
        "The private key of that.",
    ),
    unset(
        "sslnegotiation",
        "\"direct\"",
        word::<_, Negotiation>(|t, w| {
            Negotiation::parse(w).map(|kind| t.tls.sslnegotiation = Some(kind)).is_some()
        }),
        "How TLS is begun with it.",
    ),
    unset(
        "sslsni",
        "\"off\"",
        KeyKind::Switch(|t, v, _| t.tls.sslsni = Some(v)),
        "Whether it is told by which name it is connected to.",
    ),
    unset(
        "ssl_min_protocol_version",
        "\"TLSv1.3\"",
        word::<_, TlsVersion>(|t, w| {
            TlsVersion::parse(w).map(|version| t.tls.min_protocol_version = Some(version)).is_some()
        }),
        "The oldest version of TLS that is spoken with it.",
    ),
    unset(
        "ssl_max_protocol_version",
        "\"TLSv1.2\"",
        word::<_, TlsVersion>(|t, w| {
            TlsVersion::parse(w).map(|version| t.tls.max_protocol_version = Some(version)).is_some()
        }),
        "The newest.",
    ),
];

/// Keys of a `[[listener]]`.
pub const LISTENER_KEYS: &[Key<ListenerEntry>] = &[
    unset(
        "name",
        "\"reads\"",
        KeyKind::Text(|l, v, s| l.name.put(v, s)),
        "Name in logs and metrics. Default: the address.",
    ),
    unset(
        "address",
        "\"127.0.0.1:5434\"",
        KeyKind::ListenOrSocket(|l, v, s| l.address.put(v, s)),
        "Where clients connect: an address and a port, or the directory of a Unix socket with its port: `/run/trunkline:5434` is the socket `/run/trunkline/.s.PGSQL.5434`. Required.",
    ),
    key(
        "target_session_attrs",
        "\"prefer-standby\"",
        word::<_, TargetSessionAttrs>(|l, w| put_word(&mut l.options.target_session_attrs, w)),
        "Which servers its sessions may have, in libpq's words. `prefer-standby` falls back as [health.fallback] says.",
    ),
    key(
        "route",
        "\"session\"",
        word::<_, RouteBy>(|l, w| put_word(&mut l.options.route, w)),
        "`statement` sends requests that only read to standbys, and all else to the primary: for target_session_attrs `read-write`. A session reads what it has written, and may have a connection to the primary and one to a standby.",
    ),
    key(
        "read_your_writes",
        "\"session\"",
        word::<_, ReadYourWrites>(|l, w| put_word(&mut l.options.read_your_writes, w)),
        "With route `statement`, what becomes of a read while no standby is known to show what its session has written: `session`, the primary runs it, after a wait of a few milliseconds at most where that brings something; `wait`, it waits for `read_your_writes_wait` first; `off`, it may go to a standby that does not show it. A session's `trunkline.read_your_writes` goes before.",
    ),
    key(
        "read_your_writes_wait",
        "\"100ms\"",
        KeyKind::Duration(|l, v, s| l.options.read_your_writes_wait.put(v, s)),
        "How long such a read waits for a standby.",
    ),
    key(
        "balance",
        "\"round-robin\"",
        word::<_, Balance>(|l, w| put_word(&mut l.options.balance, w)),
        "How one of several eligible servers is chosen; weights are honoured by each.",
    ),
    unset(
        "proxy_protocol_from",
        "\"10.0.0.0/8, 192.168.7.1\"",
        KeyKind::Networks(|l, v, s| l.options.proxy_protocol_from.put(v, s)),
        "Networks of HAProxy and the like in front: connections from there begin with a PROXY protocol header (v1 or v2), which names the client. Default: none.",
    ),
    key(
        "application_name_add_host",
        "\"off\"",
        KeyKind::Switch(|l, v, s| l.options.application_name_add_host.put(v, s)),
        "`on` appends the client's address to its application_name (`psql - 192.0.2.1:40001`), for pg_stat_activity. At login the client gets the name without the address; SHOW and RESET return it with the address.",
    ),
    unset(
        "pool_mode",
        "\"transaction\"",
        word::<_, PoolMode>(|l, w| PoolMode::parse(w).map(|mode| l.options.pool_mode = Some(mode)).is_some()),
        "For how long its clients have a server connection to themselves, in place of that of [pool]; a [[pool.override]] goes before. Default: that of [pool].",
    ),
    key(
        "retry",
        "\"on\"",
        KeyKind::Switch(|l, v, s| l.options.retry.put(v, s)),
        "Whether a read whose answer has not begun may be sent again to another server. A session's startup option `trunkline.retry` overrides it.",
    ),
    key(
        "unix_socket_permissions",
        "\"0777\"",
        KeyKind::Permissions(|l, v, s| l.options.unix_socket_permissions.put(v, s)),
        "Who may connect to its Unix socket, as the mode of a file. `0770` is the group of the process, `0700` its user alone; the directory's own permissions apply, too.",
    ),
    unset(
        "client_tls.sslmode",
        "\"require\"",
        KeyKind::Word {
            words: words::<ClientSslMode>,
            put: |l, w| ClientSslMode::parse(w).map(|mode| l.client_tls.sslmode = Some(mode)).is_some(),
        },
        "As in [client_tls], for this listener alone. What it does not say is as there.",
    ),
    unset(
        "client_tls.cert_file",
        "\"/etc/trunkline/reads.crt\"",
        KeyKind::Text(|l, v, s| l.client_tls.cert_file.put(v, s)),
        "As in [client_tls].",
    ),
    unset(
        "client_tls.key_file",
        "\"/etc/trunkline/reads.key\"",
        KeyKind::Text(|l, v, s| l.client_tls.key_file.put(v, s)),
        "As in [client_tls].",
    ),
    unset(
        "client_tls.ca_file",
        "\"/etc/trunkline/clients.crt\"",
        KeyKind::Text(|l, v, s| l.client_tls.ca_file.put(v, s)),
        "As in [client_tls].",
    ),
    unset(
        "client_tls.crl_file",
        "\"/etc/trunkline/clients.crl\"",
        KeyKind::Text(|l, v, s| l.client_tls.crl_file.put(v, s)),
        "As in [client_tls].",
    ),
    unset(
        "client_tls.min_protocol_version",
        "\"TLSv1.3\"",
        KeyKind::Word {
            words: words::<TlsVersion>,
            put: |l, w| TlsVersion::parse(w).map(|v| l.client_tls.min_protocol_version = Some(v)).is_some(),
        },
        "As in [client_tls].",
    ),
    unset(
        "client_tls.max_protocol_version",
        "\"TLSv1.3\"",
        KeyKind::Word {
            words: words::<TlsVersion>,
            put: |l, w| TlsVersion::parse(w).map(|v| l.client_tls.max_protocol_version = Some(v)).is_some(),
        },
        "As in [client_tls].",
    ),
    unset(
        "client_tls.ciphers",
        "\"TLS_AES_128_GCM_SHA256\"",
        KeyKind::Text(|l, v, s| l.client_tls.ciphers.put(v, s)),
        "As in [client_tls].",
    ),
];
