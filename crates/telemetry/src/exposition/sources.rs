//! The sources of servers.

use super::text::{Exposition, Type};
use crate::metrics::Metrics;

pub(super) fn write(out: &mut Exposition, metrics: &Metrics) {
    let rows = metrics.sources().rows();
    out.family(
        "trunkline_discovery_members",
        Type::Gauge,
        "Servers that the last good answer of a source of [discovery] names.",
    );
    for row in &rows {
        out.sample(&[("source", &row.name)], row.members.len());
    }
    out.family(
        "trunkline_discovery_last_success_timestamp_seconds",
        Type::Gauge,
        "When a source gave its last good answer, in seconds since 1970; 0 if it never did.",
    );
    for row in &rows {
        out.sample(&[("source", &row.name)], row.answered_at.unwrap_or_default());
    }
    out.family(
        "trunkline_discovery_errors_total",
        Type::Counter,
        "Questions to a source that got no answer that can be used.",
    );
    for row in &rows {
        out.sample(&[("source", &row.name)], row.errors);
    }
}
