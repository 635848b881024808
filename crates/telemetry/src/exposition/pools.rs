//! The pools of server connections.

use std::collections::BTreeMap;

use trunkline_pool::{PoolCounts, PoolTotals};

use super::render::histogram;
use super::text::{Exposition, Type};
use crate::limits::{OTHER_POOLS, POOLS_NAMED_MAX};
use crate::metrics::{CheckoutResult, Label as _, Metrics, PoolCloseReason, PoolRow, PoolsNow, add_counts};

/// Database and user.
type Names<'r> = (&'r str, &'r str);

pub(super) fn write(out: &mut Exposition, metrics: &Metrics) {
    let PoolsNow { rows, totals } = metrics.pools().now().unwrap_or_default();
    let Bounded { clients, servers } = bounded(&rows);
    out.family(
        "trunkline_pool_clients",
        Type::Gauge,
        "Clients of pools, by what they do: waiting is for a server connection.",
    );
    for ((database, user), counts) in &clients {
        for (state, n) in [("active", counts.cl_active), ("waiting", counts.cl_waiting)] {
            out.sample(&[("database", database), ("user", user), ("state", state)], n);
        }
    }
    out.family(
        "trunkline_pool_server_connections",
        Type::Gauge,
        "Server connections of a pool, in the words of PgBouncer's SHOW POOLS.",
    );
    for (((database, user), server), counts) in &servers {
        let states = [
            ("active", counts.sv_active),
            ("idle", counts.sv_idle),
            ("used", counts.sv_used),
            ("tested", counts.sv_tested),
            ("login", counts.sv_login),
        ];
        for (state, n) in states {
            let labels = [("server", *server), ("database", *database), ("user", *user), ("state", state)];
            out.sample(&labels, n);
        }
    }
    out.family(
        "trunkline_pool_maxwait_seconds",
        Type::Gauge,
        "How long the client that waits longest for a server connection has waited; 0 if none waits.",
    );
    for ((database, user), counts) in &clients {
        out.sample(&[("database", database), ("user", user)], counts.maxwait.as_secs_f64());
    }
    counters(out, metrics, &totals);
}

fn counters(out: &mut Exposition, metrics: &Metrics, totals: &PoolTotals) {
    out.family(
        "trunkline_pool_wait_seconds",
        Type::Histogram,
        "How long requests waited for a server connection of their pool, those that did not wait left out.",
    );
    histogram(out, &[], &metrics.pool_waits());
    out.family(
        "trunkline_pool_checkouts_total",
        Type::Counter,
        "What came of clients' wishes for a server connection; who has waited counts again for what it got.",
    );
    for result in CheckoutResult::ALL {
        let n = match result {
            CheckoutResult::Reused => totals.reused,
            CheckoutResult::Opened => totals.opened,
            CheckoutResult::Waited => totals.waited,
            CheckoutResult::Timeout => totals.expired.saturating_add(totals.refused),
        };
        out.sample(&[("result", result.word())], n);
    }
    out.family(
        "trunkline_pool_closed_total",
        Type::Counter,
        "Server connections of pools that were closed, by reason.",
    );
    for reason in PoolCloseReason::ALL {
        let of_pools = totals.closed().filter(|(why, _)| PoolCloseReason::of(*why) == Some(*reason));
        let of_pools: u64 = of_pools.map(|(_, n)| n).sum();
        let elsewhere = metrics.sum(|t| t.pool_closed.of(*reason).value());
        out.sample(&[("reason", reason.word())], of_pools.saturating_add(elsewhere));
    }
}

/// What has label values.
#[derive(Default)]
struct Bounded<'r> {
    clients: BTreeMap<Names<'r>, PoolCounts>,
    servers: BTreeMap<(Names<'r>, &'r str), PoolCounts>,
}

/// The first [`POOLS_NAMED_MAX`] under their names, all others as one.
fn bounded(rows: &[PoolRow]) -> Bounded<'_> {
    let mut bounded = Bounded::default();
    for row in rows {
        let own = (&*row.database, &*row.user);
        let has_place = bounded.clients.len() < POOLS_NAMED_MAX || bounded.clients.contains_key(&own);
        let names = if has_place { own } else { (OTHER_POOLS, OTHER_POOLS) };
        // Also where there are connections alone: their database and user have a place, then.
        add_counts(bounded.clients.entry(names).or_default(), &row.counts);
        if let Some(server) = &row.server {
            add_counts(bounded.servers.entry((names, server)).or_default(), &row.counts);
        }
    }
    bounded
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{lint, testing};
    use super::*;
    use crate::exposition::render_prometheus;
    use trunkline_topology::Snapshot;

    fn row(server: Option<&str>, user: &str, counts: PoolCounts) -> PoolRow {
        PoolRow { server: server.map(Into::into), database: "app".into(), user: user.into(), counts }
    }

    fn text(rows: Vec<PoolRow>) -> String {
        let metrics = Metrics::new(1);
        metrics.pools().read_by(move || Some(PoolsNow::new(rows.clone(), PoolTotals::default())));
        let snapshot: Snapshot = testing::snapshot();
        let text = render_prometheus(&metrics, &snapshot, None);
        lint::check(&text);
        text
    }

    #[test]
    fn pools_are_shown_in_the_words_of_show_pools() {
        let clients = PoolCounts {
            cl_active: 1,
            cl_waiting: 2,
            maxwait: Duration::from_millis(1500),
            ..PoolCounts::default()
        };
        let connections = PoolCounts {
            sv_active: 3,
            sv_idle: 4,
            sv_used: 5,
            sv_tested: 6,
            sv_login: 7,
            ..PoolCounts::default()
        };
        let user = "we\"b";
        let text = text(vec![row(None, user, clients), row(Some("replica1"), user, connections)]);
        let labels = r#"database="app",user="we\"b""#;
        for (labels, n) in [
            (format!("clients{{{labels},state=\"active\"}}"), "1"),
            (format!("clients{{{labels},state=\"waiting\"}}"), "2"),
            (format!("maxwait_seconds{{{labels}}}"), "1.5"),
            (format!("server_connections{{server=\"replica1\",{labels},state=\"active\"}}"), "3"),
            (format!("server_connections{{server=\"replica1\",{labels},state=\"idle\"}}"), "4"),
            (format!("server_connections{{server=\"replica1\",{labels},state=\"used\"}}"), "5"),
            (format!("server_connections{{server=\"replica1\",{labels},state=\"tested\"}}"), "6"),
            (format!("server_connections{{server=\"replica1\",{labels},state=\"login\"}}"), "7"),
        ] {
            let line = format!("\ntrunkline_pool_{labels} {n}\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }

    #[test]
    fn names_from_clients_do_not_make_series_without_bound() {
        let one = PoolCounts { sv_idle: 1, ..PoolCounts::default() };
        let rows = |pools: usize| {
            let names = (0..pools).map(|n| format!("u{n:04}"));
            names.flat_map(|user| [row(None, &user, one), row(Some("replica1"), &user, one)]).collect()
        };
        let series = |text: &str| text.lines().filter(|line| line.contains("state=\"idle\"} ")).count();
        let others = |text: &str| text.contains(r#"database="other",user="other",state="idle"} 2"#);
        let full = text(rows(POOLS_NAMED_MAX));
        assert_eq!((series(&full), others(&full)), (POOLS_NAMED_MAX, false));
        let more = text(rows(POOLS_NAMED_MAX + 2));
        assert_eq!((series(&more), others(&more)), (POOLS_NAMED_MAX + 1, true));
    }

    #[test]
    fn what_pools_and_threads_count_is_added() {
        let metrics = Metrics::new(2);
        for thread in [0, 1] {
            let thread = metrics.thread(thread);
            thread.pool_closed.one(PoolCloseReason::ResetFailed);
            thread.pool_waits.record(Duration::from_millis(3));
        }
        let mut totals = PoolTotals::default();
        (totals.reused, totals.opened, totals.expired, totals.refused) = (7, 3, 1, 1);
        metrics.pools().read_by(move || Some(PoolsNow { rows: Vec::new(), totals: totals.clone() }));
        let text = render_prometheus(&metrics, &testing::snapshot(), None);
        lint::check(&text);
        for line in [
            "trunkline_pool_checkouts_total{result=\"reused\"} 7\n",
            "trunkline_pool_checkouts_total{result=\"opened\"} 3\n",
            "trunkline_pool_checkouts_total{result=\"timeout\"} 2\n",
            "trunkline_pool_closed_total{reason=\"reset_failed\"} 2\n",
            "trunkline_pool_closed_total{reason=\"lifetime\"} 0\n",
            "trunkline_pool_wait_seconds_bucket{le=\"0.0025\"} 0\n",
            "trunkline_pool_wait_seconds_count 2\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
