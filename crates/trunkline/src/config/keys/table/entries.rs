//! The keys of a `[[server]]` and of a `[[listener]]`.

use super::super::{Key, KeyKind, put_word, words};
use super::{count, key, unset};
use crate::config::raw::{
    BalanceWord, ListenerEntry, RoleWord, ServerEntry, SessionAttrsWord, StateWord, Switch,
};
/// Keys of a `[[server]]`.
pub const SERVER_KEYS: &[Key<ServerEntry>] = &[
    unset(
        "name",
        "\"replica1\"",
        KeyKind::Text(|t| &mut t.name),
        "Name in logs, metrics and health checks. Default: the host, with its port when two servers share it.",
    ),
    unset(
        "address",
        "\"10.0.0.12:5432\"",
        KeyKind::Text(|t| &mut t.address),
        "Host and port of the PostgreSQL server, or the directory of its Unix socket: `/run/postgresql:5432`. Required.",
    ),
    key(
        "role",
        "\"any\"",
        KeyKind::Word { words: words::<RoleWord>, put: |t, w, s| put_word(&mut t.role, w, s) },
        "Role the server is expected to have; it is always measured, and a server with another role is not used.",
    ),
    key(
        "weight",
        "100",
        count(0, 1000, |t, v, s| t.weight.put(v, s)),
        "Share of the sessions, compared with the other servers'. 0 = none.",
    ),
    key(
        "state",
        "\"ready\"",
        KeyKind::Word { words: words::<StateWord>, put: |t, w, s| put_word(&mut t.state, w, s) },
        "`drain` finishes its sessions and gets no new ones; `maint` is neither used nor probed.",
    ),
];

/// Keys of a `[[listener]]`.
pub const LISTENER_KEYS: &[Key<ListenerEntry>] = &[
    unset(
        "name",
        "\"reads\"",
        KeyKind::Text(|l| &mut l.name),
        "Name in logs and metrics. Default: the address.",
    ),
    unset(
        "address",
        "\"127.0.0.1:5434\"",
        KeyKind::Listen(|l| &mut l.address),
        "Where clients connect. Required.",
    ),
    key(
        "target_session_attrs",
        "\"prefer-standby\"",
        KeyKind::Word {
            words: words::<SessionAttrsWord>,
            put: |l, w, s| put_word(&mut l.target_session_attrs, w, s),
        },
        "Which servers its sessions may have, in libpq's words. `prefer-standby` falls back as [health.fallback] says.",
    ),
    key(
        "balance",
        "\"round-robin\"",
        KeyKind::Word { words: words::<BalanceWord>, put: |l, w, s| put_word(&mut l.balance, w, s) },
        "How one of several eligible servers is chosen; weights are honoured by each.",
    ),
    unset(
        "proxy_protocol_from",
        "\"10.0.0.0/8, 192.168.7.1\"",
        KeyKind::Text(|l| &mut l.proxy_protocol_from),
        "Networks of HAProxy and the like in front: connections from there begin with a PROXY protocol header (v1 or v2), which names the client. Default: none.",
    ),
    key(
        "application_name_add_host",
        "\"off\"",
        KeyKind::Word {
            words: words::<Switch>,
            put: |l, w, s| put_word(&mut l.application_name_add_host, w, s),
        },
        "`on` appends the client's address to its application_name (`psql - 192.0.2.1:40001`), for pg_stat_activity. At login the client gets the name without the address; SHOW and RESET return it with the address.",
    ),
    key(
        "retry",
        "\"on\"",
        KeyKind::Word { words: words::<Switch>, put: |l, w, s| put_word(&mut l.retry, w, s) },
        "Whether a read whose answer has not begun may be sent again to another server. A session's startup option `trunkline.retry` overrides it.",
    ),
];
