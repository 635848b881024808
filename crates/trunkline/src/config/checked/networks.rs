//! Keys that name networks, checked.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::raw::Sourced;
use crate::config::{Problem, Problems};

/// Networks, or single addresses, separated by commas, as `key` has them.
pub(super) fn networks(
    written: &Sourced<Option<String>>,
    key: &'static str,
    problems: &mut Problems,
) -> Vec<IpNet> {
    let words =
        written.value.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty());
    words
        .filter_map(|word| {
            let network = word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
            if network.is_err() {
                problems.push(
                    Problem::new(&written.source, key, format!("{word:?} is no network"))
                        .hint("Write networks such as 10.0.0.0/8, or addresses, separated by commas."),
                );
            }
            network.ok()
        })
        .collect()
}
