//! The queries. They run on PostgreSQL 12 and later, on primaries and standbys, with any role that may log in.

/// What does not change while a connection lasts.
pub(super) const IDENTIFY: &str = "SELECT system_identifier, current_setting('server_version_num') AS version, \
 (extract(epoch FROM pg_postmaster_start_time())*1e6)::int8 AS started_us, \
 pg_has_role('pg_read_all_stats', 'USAGE') AS can_see_all FROM pg_control_system()";

/// `server_version_num` from which on `pg_get_wal_replay_pause_state` exists.
const PAUSE_STATE_SINCE: u32 = 140_000;

// Every function that fails in the wrong mode stays inside CASE on r.rec. The received position must come
// before the startup process's wait: a wait seen after it proves that it was consumed.
macro_rules! probe_with {
    ($paused:literal) => {
        concat!(
            "SELECT r.rec, (extract(epoch FROM clock_timestamp())*1e6)::int8 AS now_us,",
            " (CASE WHEN r.rec THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END)::text AS lsn,",
            " (CASE WHEN r.rec THEN pg_last_wal_receive_lsn() END)::text AS receive_lsn,",
            " CASE WHEN NOT r.rec THEN substr(pg_walfile_name(pg_current_wal_flush_lsn()),1,8) END AS tli_hex,",
            " (extract(epoch FROM CASE WHEN r.rec THEN pg_last_xact_replay_timestamp() END)*1e6)::int8 AS last_xact_us,",
            " CASE WHEN r.rec THEN ", $paused, " END AS is_paused,",
            " w.pid IS NOT NULL AS has_receiver, w.status, w.received_tli, w.latest_end_lsn::text,",
            " current_setting('recovery_min_apply_delay') AS apply_delay,",
            " CASE WHEN r.rec THEN EXISTS (SELECT FROM pg_stat_activity a WHERE a.backend_type='startup') END AS sees_startup,",
            " CASE WHEN r.rec THEN (SELECT a.wait_event FROM pg_stat_activity a WHERE a.backend_type='startup') END AS startup_wait",
            " FROM (SELECT pg_is_in_recovery() AS rec OFFSET 0) r LEFT JOIN pg_stat_wal_receiver w ON r.rec"
        )
    };
}

/// What is asked every tick.
pub(super) fn probe(version: u32) -> &'static str {
    if version >= PAUSE_STATE_SINCE {
        probe_with!("pg_get_wal_replay_pause_state() = 'paused'")
    } else {
        probe_with!("pg_is_wal_replay_paused()")
    }
}
