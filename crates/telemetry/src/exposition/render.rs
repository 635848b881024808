//! The counters as written for `/metrics`.

use std::time::Duration;

use trunkline_topology::{ServerId, Snapshot};

use super::text::{Exposition, Type};
use super::{health, occupancy, pools, routed, sources, spread, tls};
use crate::metrics::{
    ActivityLabel, CancelResult, FailoverCause, HistogramSum, IneligibleState, Label, LoginResult, LossCause,
    Metrics, MoveCause, MoveKind, MoveOutcome, MoveRefusal, PinnedBy, RefusalReason, RepeatCause,
    ServerMetrics, StatementKind, StatementPhase, TerminationCause,
};
use crate::sessions::Sessions;

/// Upper bounds of the exported latency buckets: 100 us to 1 min. From 2.5 ms on none is more than 5/3 of the one before.
/// The histograms kept are finer.
pub const LATENCY_BOUNDS: [Duration; 31] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_micros(3500),
    Duration::from_millis(5),
    Duration::from_micros(7500),
    Duration::from_millis(10),
    Duration::from_millis(15),
    Duration::from_millis(25),
    Duration::from_millis(35),
    Duration::from_millis(50),
    Duration::from_millis(75),
    Duration::from_millis(100),
    Duration::from_millis(150),
    Duration::from_millis(250),
    Duration::from_millis(350),
    Duration::from_millis(500),
    Duration::from_millis(750),
    Duration::from_secs(1),
    Duration::from_millis(1500),
    Duration::from_millis(2500),
    Duration::from_millis(3500),
    Duration::from_secs(5),
    Duration::from_millis(7500),
    Duration::from_secs(10),
    Duration::from_secs(15),
    Duration::from_secs(25),
    Duration::from_secs(40),
    Duration::from_secs(60),
];

/// All counters, the sessions if they are known, and the health snapshot, in Prometheus' text format 0.0.4.
#[must_use]
pub fn render_prometheus(metrics: &Metrics, snapshot: &Snapshot, sessions: Option<&Sessions>) -> String {
    let mut out = Exposition::default();
    health::write(&mut out, snapshot);
    config(&mut out, metrics);
    clients(&mut out, metrics);
    tls::write(&mut out, metrics);
    sources::write(&mut out, metrics);
    if let Some(sessions) = sessions {
        states(&mut out, sessions);
        if let Some(occupancy) = sessions.occupancy() {
            occupancy::write(&mut out, occupancy);
        }
        mobility(&mut out, sessions);
    }
    moves(&mut out, metrics);
    routed::write(&mut out, metrics);
    pools::write(&mut out, metrics);
    let servers = PerServer { metrics, names: names(snapshot) };
    servers.sessions(&mut out);
    servers.statements(&mut out);
    servers.latencies(&mut out);
    spread::write(&mut out, metrics, &servers.names);
    out.finish()
}

/// The servers and their names.
fn names(snapshot: &Snapshot) -> Vec<(ServerId, &str)> {
    snapshot.servers.iter().map(|server| (server.id, &*server.name)).collect()
}

/// Whether the configuration that was written last is in force, in the words of Prometheus's own metrics.
fn config(out: &mut Exposition, metrics: &Metrics) {
    let reloads = metrics.config();
    out.family(
        "trunkline_config_last_reload_successful",
        Type::Gauge,
        "1 if the last reload put all of the configuration in force, or there was none since the start.",
    )
    .sample(&[], u8::from(reloads.is_last_successful()));
    out.family(
        "trunkline_config_last_reload_success_timestamp_seconds",
        Type::Gauge,
        "When all of the configuration was last put in force, by a reload or the start, in seconds since 1970.",
    )
    .sample(&[], reloads.succeeded_at());
}

fn clients(out: &mut Exposition, metrics: &Metrics) {
    out.family("trunkline_sessions_accepted_total", Type::Counter, "Client connections admitted.")
        .sample(&[], metrics.sum(|t| t.sessions_accepted.value()));
    out.family(
        "trunkline_sessions_refused_total",
        Type::Counter,
        "Client connections refused, or ended by the proxy, by reason.",
    );
    for reason in RefusalReason::ALL {
        let n = metrics.sum(|t| t.sessions_refused.of(*reason).value());
        out.sample(&[("reason", reason.word())], n);
    }
    out.family("trunkline_logins_total", Type::Counter, "Logins ended, by outcome.");
    for outcome in LoginResult::ALL {
        out.sample(&[("outcome", outcome.word())], metrics.sum(|t| t.logins.of(*outcome).value()));
    }
    out.family("trunkline_cancels_total", Type::Counter, "Cancel requests received, by outcome.");
    for outcome in CancelResult::ALL {
        out.sample(&[("outcome", outcome.word())], metrics.sum(|t| t.cancels.of(*outcome).value()));
    }
    out.family(
        "trunkline_statement_log_dropped_total",
        Type::Counter,
        "Statement records dropped because the log could not keep up.",
    )
    .sample(&[], metrics.sum(|t| t.statement_log_dropped.value()));
}

fn states(out: &mut Exposition, sessions: &Sessions) {
    out.family("trunkline_sessions", Type::Gauge, "Sessions, by what they do: waiting is for a server.");
    for state in ActivityLabel::ALL {
        out.sample(&[("state", state.word())], sessions.doing(*state));
    }
}

fn mobility(out: &mut Exposition, sessions: &Sessions) {
    out.family("trunkline_sessions_movable", Type::Gauge, "Sessions that could move to another server.")
        .sample(&[], sessions.movable());
    out.family(
        "trunkline_sessions_pinned",
        Type::Gauge,
        "Sessions that cannot move to another server, by reason.",
    );
    for by in PinnedBy::ALL {
        out.sample(&[("reason", by.word())], sessions.pinned(*by));
    }
}

/// Counts searches for another server, by their outcome.
fn moves(out: &mut Exposition, metrics: &Metrics) {
    out.family(
        "trunkline_session_moves_ended_total",
        Type::Counter,
        "Searches for another server by idle sessions whose client sent a request, by cause of the move and outcome.",
    );
    for outcome in MoveOutcome::ALL {
        for cause in MoveCause::ALL {
            let n = metrics.sum(|t| t.moves_ended[outcome.index()].of(*cause).value());
            out.sample(&[("cause", cause.word()), ("outcome", outcome.word())], n);
        }
    }
    out.family(
        "trunkline_request_repeats_ended_total",
        Type::Counter,
        "Searches for another server to send a request to again, by cause and outcome.",
    );
    for outcome in MoveOutcome::ALL {
        for cause in RepeatCause::ALL {
            let n = metrics.sum(|t| t.repeats_ended[outcome.index()].of(*cause).value());
            out.sample(&[("cause", cause.word()), ("outcome", outcome.word())], n);
        }
    }
    out.family(
        "trunkline_session_move_seconds",
        Type::Histogram,
        "How long a session waited for another server, its settings and statements included.",
    );
    for kind in MoveKind::ALL {
        for outcome in MoveOutcome::ALL {
            let labels = [("kind", kind.word()), ("outcome", outcome.word())];
            histogram(out, &labels, &metrics.move_times(*kind, *outcome));
        }
    }
}

/// Writes a histogram; the label `le` comes last.
pub(super) fn histogram(out: &mut Exposition, labels: &[(&str, &str)], sum: &HistogramSum) {
    let mut bucket = |le: &str, count: u64| {
        out.suffixed("_bucket", &[labels, &[("le", le)]].concat(), count);
    };
    for bound in LATENCY_BOUNDS {
        bucket(&bound.as_secs_f64().to_string(), sum.count_up_to(bound));
    }
    bucket("+Inf", sum.count());
    out.suffixed("_sum", labels, sum.total().as_secs_f64());
    out.suffixed("_count", labels, sum.count());
}

/// The counters per server.
struct PerServer<'a> {
    metrics: &'a Metrics,
    names: Vec<(ServerId, &'a str)>,
}

impl PerServer<'_> {
    fn sessions(&self, out: &mut Exposition) {
        out.family("trunkline_sessions_active", Type::Gauge, "Sessions with a server connection, by server.");
        for (server, name) in &self.names {
            out.sample(&[("server", name)], self.metrics.sessions_on(*server));
        }
        out.family(
            "trunkline_failovers_before_query_total",
            Type::Counter,
            "Sessions that took another server before their first query, by what happened on this server.",
        );
        self.by_label::<FailoverCause>(out, "cause", |server, cause| server.failovers.of(cause).value());
        out.family(
            "trunkline_session_moves_total",
            Type::Counter,
            "Idle sessions that left this server for another, by cause.",
        );
        self.by_label::<MoveCause>(out, "cause", |server, cause| server.moves.of(cause).value());
        out.family(
            "trunkline_session_moves_refused_total",
            Type::Counter,
            "Sessions that this server did not take and that stayed where they were, by reason.",
        );
        self.by_label::<MoveRefusal>(out, "reason", |server, reason| server.moves_refused.of(reason).value());
        out.family(
            "trunkline_requests_repeated_total",
            Type::Counter,
            "Requests that this server did not answer and that were sent again to another, by cause.",
        );
        self.by_label::<RepeatCause>(out, "cause", |server, cause| server.repeats.of(cause).value());
        out.family(
            "trunkline_requests_failed_total",
            Type::Counter,
            "Requests and transactions that failed because their server was lost, while the session continued, by cause.",
        );
        self.by_label::<LossCause>(out, "cause", |server, cause| server.requests_failed.of(cause).value());
        out.family(
            "trunkline_sessions_lost_total",
            Type::Counter,
            "Sessions ended because their server was lost, by cause.",
        );
        self.by_label::<LossCause>(out, "cause", |server, cause| server.sessions_lost.of(cause).value());
        out.family(
            "trunkline_sessions_terminated_total",
            Type::Counter,
            "Sessions ended by a server that continues to serve others, by cause: pg_terminate_backend, or a timeout.",
        );
        self.by_label::<TerminationCause>(out, "cause", |server, cause| {
            server.sessions_terminated.of(cause).value()
        });
        out.family(
            "trunkline_sessions_ineligible_total",
            Type::Counter,
            "Live sessions found on a server that had become ineligible, by its state.",
        );
        self.by_label::<IneligibleState>(out, "state", |server, state| {
            server.sessions_ineligible.of(state).value()
        });
    }

    fn statements(&self, out: &mut Exposition) {
        out.family("trunkline_statements_total", Type::Counter, "Statements completed, by what was sent.");
        self.by_label::<StatementKind>(out, "kind", |server, kind| server.statements.of(kind).value());
        out.family("trunkline_statement_errors_total", Type::Counter, "Statements that ended in an error.");
        self.each(out, |server| server.statement_errors.value());
        out.family("trunkline_rows_total", Type::Counter, "Rows returned or changed, by command tags.");
        self.each(out, |server| server.rows.value());
        out.family("trunkline_relayed_bytes_total", Type::Counter, "Bytes relayed, by direction.");
        for (server, name) in &self.names {
            let to_client = self.sum(*server, |n| n.bytes_to_client.value());
            let to_server = self.sum(*server, |n| n.bytes_to_server.value());
            out.sample(&[("server", name), ("direction", "to_client")], to_client);
            out.sample(&[("server", name), ("direction", "to_server")], to_server);
        }
    }

    fn latencies(&self, out: &mut Exposition) {
        out.family(
            "trunkline_statement_seconds",
            Type::Histogram,
            "Time of statements, by phase: waiting for a server, to the server's first byte, to its last.",
        );
        for (server, name) in &self.names {
            for phase in StatementPhase::ALL {
                let sum = self.metrics.latency(*server, *phase);
                histogram(out, &[("server", *name), ("phase", phase.word())], &sum);
            }
        }
    }

    fn each(&self, out: &mut Exposition, read: impl Fn(&ServerMetrics) -> u64) {
        for (server, name) in &self.names {
            out.sample(&[("server", name)], self.sum(*server, &read));
        }
    }

    fn by_label<L: Label>(&self, out: &mut Exposition, label: &str, read: impl Fn(&ServerMetrics, L) -> u64) {
        for (server, name) in &self.names {
            for value in L::ALL {
                let n = self.sum(*server, |n| read(n, *value));
                out.sample(&[("server", name), (label, value.word())], n);
            }
        }
    }

    fn sum(&self, server: ServerId, read: impl Fn(&ServerMetrics) -> u64) -> u64 {
        self.metrics.sum_on(server, read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{lint, testing};
    use super::*;
    use crate::sessions::{Occupancy, Usage};

    #[test]
    fn prometheus_accepts_all_we_write() {
        let metrics = Metrics::new(2);
        let thread = metrics.thread(0);
        for millis in [1, 5, 90, 100_000] {
            thread.server(ServerId(1)).record(StatementPhase::ServerTotal, Duration::from_millis(millis));
        }
        let mut snapshot = testing::snapshot();
        snapshot.servers[1].name = "a \"quoted\\ name\nof two lines".into();
        let text = render_prometheus(&metrics, &snapshot, Some(&Sessions::default()));
        lint::check(&text);
        lint::check(&health::render_health(&snapshot));
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!((300..900).contains(&series), "{series} series for three servers");
    }

    #[test]
    fn no_bound_from_2500_us_on_is_more_than_five_thirds_of_the_one_before() {
        let from = Duration::from_micros(2500);
        for pair in LATENCY_BOUNDS.windows(2).filter(|pair| pair[0] >= from) {
            assert!(pair[0] < pair[1] && pair[1] * 3 <= pair[0] * 5, "{pair:?}");
        }
    }

    #[test]
    fn a_limit_stands_beside_what_it_limits_and_none_is_absent() {
        let (limited, free) = (Usage { used: 7, max: Some(9) }, Usage { used: 3, max: None });
        let occupancy = Occupancy { sessions: limited, startups: limited, one_user: free, one_address: free };
        let sessions = Sessions::default().with_occupancy(occupancy);
        let text = render_prometheus(&Metrics::new(1), &testing::snapshot(), Some(&sessions));
        lint::check(&text);
        for line in [
            "trunkline_sessions{state=\"in_transaction\"} 0",
            "trunkline_sessions_admitted 7",
            "trunkline_sessions_admitted_max 9",
            "trunkline_sessions_of_one_user 3",
            "trunkline_max_lag_seconds 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("\ntrunkline_sessions_of_one_user_max "));
    }

    #[test]
    fn a_reload_that_changed_nothing_shows_until_one_succeeds() {
        let metrics = Metrics::new(1);
        let shown = |metrics: &Metrics, value| {
            let text = render_prometheus(metrics, &testing::snapshot(), None);
            text.contains(&format!("\ntrunkline_config_last_reload_successful {value}\n"))
        };
        assert!(shown(&metrics, 1));
        metrics.config().ended(false);
        assert!(shown(&metrics, 0));
        metrics.config().ended(true);
        assert!(shown(&metrics, 1));
    }

    #[test]
    fn what_was_counted_is_what_is_shown() {
        let metrics = Metrics::new(2);
        metrics.thread(0).sessions_refused.one(RefusalReason::NoServer);
        metrics.thread(1).sessions_refused.one(RefusalReason::NoServer);
        metrics.thread(1).server(ServerId(2)).sessions_active.up();
        metrics.thread(1).server(ServerId(2)).bytes_to_client.add(1 << 40);
        for millis in [1, 5, 90] {
            metrics.thread(0).server(ServerId(1)).record(StatementPhase::Wait, Duration::from_millis(millis));
        }
        let text = render_prometheus(&metrics, &testing::snapshot(), None);
        for line in [
            "trunkline_sessions_refused_total{reason=\"no_server\"} 2",
            "trunkline_sessions_active{server=\"replica2\"} 1",
            "trunkline_relayed_bytes_total{server=\"replica2\",direction=\"to_client\"} 1099511627776",
            "trunkline_statement_seconds_bucket{server=\"replica1\",phase=\"wait\",le=\"0.01\"} 2",
            "trunkline_statement_seconds_sum{server=\"replica1\",phase=\"wait\"} 0.096",
            "trunkline_statement_seconds_count{server=\"replica1\",phase=\"wait\"} 3",
            "trunkline_server_lag_seconds{server=\"replica2\",bound=\"lo\"} 5.2",
            "trunkline_server_state{server=\"replica2\",state=\"lagging\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        let unknown = "trunkline_server_lag_seconds{server=\"replica2\",bound=\"hi\"}";
        assert!(!text.contains(unknown), "unknown is absent, not zero");
    }
}
