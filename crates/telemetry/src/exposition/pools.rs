//! The pools of server connections.

use std::collections::BTreeMap;

use trunkline_pool::PoolCounts;

use super::render::histogram;
use super::text::{Exposition, Type};
use crate::limits::{OTHER_POOLS, POOLS_NAMED_MAX};
use crate::metrics::{CheckoutResult, Label as _, Metrics, PoolCloseReason, PoolRow};

/// Database, user and server.
type Names<'r> = (&'r str, &'r str, &'r str);

pub(super) fn write(out: &mut Exposition, metrics: &Metrics) {
    let rows = metrics.pools().rows().unwrap_or_default();
    let pools = bounded(&rows);
    out.family(
        "trunkline_pool_clients",
        Type::Gauge,
        "Clients of a pool, by what they do: waiting is for a server connection.",
    );
    for (names, counts) in &pools {
        by_state(out, *names, &[("active", counts.cl_active), ("waiting", counts.cl_waiting)]);
    }
    out.family(
        "trunkline_pool_server_connections",
        Type::Gauge,
        "Server connections of a pool, in the words of PgBouncer's SHOW POOLS.",
    );
    for (names, counts) in &pools {
        let states = [
            ("active", counts.sv_active),
            ("idle", counts.sv_idle),
            ("used", counts.sv_used),
            ("tested", counts.sv_tested),
            ("login", counts.sv_login),
        ];
        by_state(out, *names, &states);
    }
    out.family(
        "trunkline_pool_maxwait_seconds",
        Type::Gauge,
        "How long the client that waits longest for a server connection has waited; 0 if none waits.",
    );
    for ((database, user, server), counts) in &pools {
        let labels = [("server", *server), ("database", *database), ("user", *user)];
        out.sample(&labels, counts.maxwait.as_secs_f64());
    }
    counters(out, metrics);
}

fn counters(out: &mut Exposition, metrics: &Metrics) {
    out.family(
        "trunkline_pool_wait_seconds",
        Type::Histogram,
        "How long requests waited for a server connection of their pool, those that did not wait left out.",
    );
    histogram(out, &[], &metrics.pool_waits());
    out.family(
        "trunkline_pool_checkouts_total",
        Type::Counter,
        "Server connections that clients asked their pools for, by what came of it.",
    );
    for result in CheckoutResult::ALL {
        let n = metrics.sum(|t| t.pool_checkouts.of(*result).value());
        out.sample(&[("result", result.word())], n);
    }
    out.family(
        "trunkline_pool_closed_total",
        Type::Counter,
        "Server connections of pools that were closed, by reason.",
    );
    for reason in PoolCloseReason::ALL {
        out.sample(&[("reason", reason.word())], metrics.sum(|t| t.pool_closed.of(*reason).value()));
    }
}

fn by_state(out: &mut Exposition, (database, user, server): Names<'_>, states: &[(&str, u64)]) {
    for (state, n) in states {
        let labels = [("server", server), ("database", database), ("user", user), ("state", *state)];
        out.sample(&labels, n);
    }
}

/// The first [`POOLS_NAMED_MAX`] pools under their names, the others of each server as one. Rows of one name are summed:
/// they differ in what no label has, such as startup parameters.
fn bounded(rows: &[PoolRow]) -> BTreeMap<Names<'_>, PoolCounts> {
    let mut pools = BTreeMap::new();
    for row in rows {
        let own = (&*row.database, &*row.user, &*row.server);
        let has_place = pools.len() < POOLS_NAMED_MAX || pools.contains_key(&own);
        let names = if has_place { own } else { (OTHER_POOLS, OTHER_POOLS, own.2) };
        add(pools.entry(names).or_default(), &row.counts);
    }
    pools
}

fn add(sum: &mut PoolCounts, counts: &PoolCounts) {
    let PoolCounts { cl_active, cl_waiting, sv_active, sv_idle, sv_used, sv_tested, sv_login, maxwait } =
        counts;
    sum.cl_active += cl_active;
    sum.cl_waiting += cl_waiting;
    sum.sv_active += sv_active;
    sum.sv_idle += sv_idle;
    sum.sv_used += sv_used;
    sum.sv_tested += sv_tested;
    sum.sv_login += sv_login;
    sum.maxwait = sum.maxwait.max(*maxwait);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{lint, testing};
    use super::*;
    use crate::exposition::render_prometheus;
    use trunkline_topology::Snapshot;

    fn row(server: &str, user: &str, counts: PoolCounts) -> PoolRow {
        PoolRow { server: server.into(), database: "app".into(), user: user.into(), counts }
    }

    fn text(rows: Vec<PoolRow>) -> String {
        let metrics = Metrics::new(1);
        metrics.pools().read_by(move || Some(rows.clone()));
        let snapshot: Snapshot = testing::snapshot();
        let text = render_prometheus(&metrics, &snapshot, None);
        lint::check(&text);
        text
    }

    #[test]
    fn pools_are_shown_in_the_words_of_show_pools() {
        let counts = PoolCounts {
            cl_active: 1,
            cl_waiting: 2,
            sv_active: 3,
            sv_idle: 4,
            sv_used: 5,
            sv_tested: 6,
            sv_login: 7,
            maxwait: Duration::from_millis(1500),
        };
        let text = text(vec![row("replica1", "we\"b", counts), row("replica1", "we\"b", counts)]);
        let labels = r#"server="replica1",database="app",user="we\"b""#;
        for (family, state, n) in [
            ("clients", "active", 2),
            ("clients", "waiting", 4),
            ("server_connections", "active", 6),
            ("server_connections", "idle", 8),
            ("server_connections", "used", 10),
            ("server_connections", "tested", 12),
            ("server_connections", "login", 14),
        ] {
            let line = format!("trunkline_pool_{family}{{{labels},state=\"{state}\"}} {n}\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        assert!(text.contains(&format!("trunkline_pool_maxwait_seconds{{{labels}}} 1.5\n")), "{text}");
    }

    #[test]
    fn names_from_clients_do_not_make_series_without_bound() {
        let one = PoolCounts { sv_idle: 1, maxwait: Duration::from_secs(1), ..PoolCounts::default() };
        let rows = |pools: usize| (0..pools).map(|n| row("replica1", &format!("u{n:04}"), one)).collect();
        let series = |text: &str| text.lines().filter(|line| line.contains("state=\"idle\"} ")).count();
        let idle = |text: &str| text.contains(r#"database="other",user="other",state="idle"} 2"#);
        let full = text(rows(POOLS_NAMED_MAX));
        assert_eq!((series(&full), idle(&full)), (POOLS_NAMED_MAX, false));
        let more = text(rows(POOLS_NAMED_MAX + 2));
        assert_eq!((series(&more), idle(&more)), (POOLS_NAMED_MAX + 1, true));
    }

    #[test]
    fn what_threads_count_of_pools_is_added() {
        let metrics = Metrics::new(2);
        for thread in [0, 1] {
            let thread = metrics.thread(thread);
            thread.pool_checkouts.one(CheckoutResult::Waited);
            thread.pool_closed.one(PoolCloseReason::Lifetime);
            thread.pool_waits.record(Duration::from_millis(3));
        }
        let text = render_prometheus(&metrics, &testing::snapshot(), None);
        lint::check(&text);
        assert!(text.contains("trunkline_pool_checkouts_total{result=\"waited\"} 2\n"), "{text}");
        assert!(text.contains("trunkline_pool_closed_total{reason=\"lifetime\"} 2\n"), "{text}");
        assert!(text.contains("trunkline_pool_wait_seconds_bucket{le=\"0.0025\"} 0\n"), "{text}");
        assert!(text.contains("trunkline_pool_wait_seconds_count 2\n"), "{text}");
    }
}
