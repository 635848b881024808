//! How sessions are spread besides the verdicts, as `/metrics` shows it.

use trunkline_topology::ServerId;

use super::text::{Exposition, Type};
use crate::metrics::Metrics;

pub(super) fn write(out: &mut Exposition, metrics: &Metrics, names: &[(ServerId, &str)]) {
    out.family(
        "trunkline_server_speed",
        Type::Gauge,
        "Share of its weight that a server keeps for its speed: below 1 while it is slower than its peers.",
    );
    for (server, name) in names {
        out.sample(&[("server", name)], metrics.speed(*server));
    }
    out.family(
        "trunkline_speed_samples_dropped_total",
        Type::Counter,
        "Times of statements that were not compared because too many waited.",
    )
    .sample(&[], metrics.sum(|thread| thread.speed_samples_dropped.value()));
    out.family(
        "trunkline_sessions_crossed_zone_total",
        Type::Counter,
        "Sessions that came to this server although it is in another zone than the proxy.",
    );
    for (server, name) in names {
        let crossed = metrics.sum_on(*server, |counted| counted.sessions_crossed.value());
        out.sample(&[("server", name)], crossed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{lint, render_prometheus, testing};
    use super::*;

    #[test]
    fn a_slow_server_and_a_session_that_crossed_are_shown() {
        let metrics = Metrics::new(1);
        metrics.set_speed(ServerId(1), 0.25);
        metrics.set_speed(ServerId(2), 0.5);
        metrics.set_speed(ServerId(2), 1.0);
        metrics.thread(0).server(ServerId(2)).sessions_crossed.one();
        let text = render_prometheus(&metrics, &testing::snapshot(), None);
        lint::check(&text);
        for line in [
            "trunkline_server_speed{server=\"replica1\"} 0.25",
            "trunkline_server_speed{server=\"replica2\"} 1",
            "trunkline_sessions_crossed_zone_total{server=\"replica1\"} 0",
            "trunkline_sessions_crossed_zone_total{server=\"replica2\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
