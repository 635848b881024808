//! The keys of `[log]` and `[log.statements]`.

use super::super::{Key, KeyKind, PutValue as _, put_word};
use super::{bytes, key, word};
use crate::config::raw::RawConfig;
use crate::config::words::LogFormat;

/// `[log]`.
pub(super) const LOG: &[Key<RawConfig>] = &[
    key(
        "format",
        "\"text\"",
        word::<_, LogFormat>(|t, w| put_word(&mut t.log.format, w)),
        "`text` is logfmt, for people: one line an event, values quoted where needed; `json` for machines.",
    ),
    key(
        "level",
        "\"info\"",
        KeyKind::Text(|t, v, s| t.log_level.put(v, s)),
        "error, warn, info, debug or trace; or a filter such as \"info,trunkline_proxy=debug\".",
    ),
    key(
        "connections",
        "\"off\"",
        KeyKind::Switch(|t, v, s| t.proxy.session.logs_connections.put(v, s)),
        "Whether each session that begins is logged at level info, as by PostgreSQL's log_connections: client, user, database, listener, server. Otherwise that is at level debug.",
    ),
    key(
        "disconnections",
        "\"off\"",
        KeyKind::Switch(|t, v, s| t.proxy.session.logs_disconnections.put(v, s)),
        "Whether each session that ends is logged at level info, with how long it lasted, as by PostgreSQL's log_disconnections. Otherwise that is at level debug.",
    ),
];

/// `[log.statements]`.
pub(super) const LOG_STATEMENTS: &[Key<RawConfig>] = &[
    key(
        "threshold",
        "\"off\"",
        KeyKind::DurationOrOff(|t, v, s| t.proxy.statement_log.threshold.put(v, s)),
        "Statements that take at least this long are logged. \"0\" = every statement.",
    ),
    key(
        "sample_rate",
        "0.0",
        KeyKind::Share(|t, v, s| t.proxy.statement_log.sample_rate.put(v, s)),
        "Share of all other statements that is logged.",
    ),
    key(
        "sql_bytes_max",
        "\"4KiB\"",
        bytes(0, u64::MAX, |t, v, s| t.proxy.statement_log.sql_bytes_max.put(v, s)),
        "Bytes of SQL kept with a statement.",
    ),
];
