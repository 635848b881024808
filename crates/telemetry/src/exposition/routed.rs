//! Where requests go of listeners that choose a server for each.

use super::text::{Exposition, Type};
use crate::metrics::{Label as _, Metrics, RouteReason};

/// Requests by where they went and why, once there are any, and those that are known.
pub(super) fn write(out: &mut Exposition, metrics: &Metrics) {
    let count = |reason: &RouteReason| metrics.sum(|t| t.routed.of(*reason).value());
    if RouteReason::ALL.iter().map(count).sum::<u64>() > 0 {
        out.family(
            "trunkline_requests_routed_total",
            Type::Counter,
            "Requests of listeners with route \"statement\", by the reason of where they went: proven and trusted to a standby, given_up to none, all others to the primary.",
        );
        for reason in RouteReason::ALL {
            out.sample(&[("reason", reason.word())], count(reason));
        }
    }
    if let Some(learned) = metrics.learned().now() {
        out.family(
            "trunkline_requests_learned",
            Type::Gauge,
            "Requests that a standby has refused within the last hour and the primary has run, each once but for constants.",
        );
        out.sample(&[], learned);
    }
}
