//! The limits on clients, each next to what it limits.

use super::text::{Exposition, Type};
use crate::sessions::{Occupancy, Usage};

pub(super) fn write(out: &mut Exposition, occupancy: &Occupancy) {
    let Occupancy { sessions, startups, one_user, one_address } = occupancy;
    pair(
        out,
        ["trunkline_sessions_admitted", "trunkline_sessions_admitted_max"],
        [
            "Sessions past their startup packet, those that log in included.",
            "Most of them (connections_max).",
        ],
        *sessions,
    );
    pair(
        out,
        ["trunkline_startups", "trunkline_startups_max"],
        ["Connections whose startup packet has not come yet.", "Most of them (startups_max)."],
        *startups,
    );
    pair(
        out,
        ["trunkline_sessions_of_one_user", "trunkline_sessions_of_one_user_max"],
        [
            "Sessions of the user who has most.",
            "Most of them (connections_per_user_max), where that is limited.",
        ],
        *one_user,
    );
    pair(
        out,
        ["trunkline_sessions_of_one_address", "trunkline_sessions_of_one_address_max"],
        [
            "Sessions from the client address that has most.",
            "Most of them (connections_per_address_max), where that is limited.",
        ],
        *one_address,
    );
}

/// What is used and its limit; no limit is absent.
fn pair(out: &mut Exposition, names: [&'static str; 2], helps: [&str; 2], usage: Usage) {
    out.family(names[0], Type::Gauge, helps[0]).sample(&[], usage.used);
    out.family(names[1], Type::Gauge, helps[1]);
    if let Some(max) = usage.max {
        out.sample(&[], max);
    }
}
