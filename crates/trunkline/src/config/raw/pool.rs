//! `[pool]`, as written.

use trunkline_pool::PoolOverride;
use trunkline_proxy::settings::RouteHint;

use super::Sourced;
use crate::config::Source;

/// The keys of `[pool]` that are checked against others, and its overrides.
#[derive(Clone, Debug, Default)]
pub struct PoolSection {
    /// Server connections kept open in each pool.
    pub min_pool_size: Sourced<u64>,
    /// Server connections beyond the size of a pool.
    pub reserve_pool_size: Sourced<u64>,
    /// `[[pool.override]]`, in order.
    pub overrides: Vec<OverrideEntry>,
}

/// One `[[pool.override]]`.
#[derive(Clone, Debug, Default)]
pub struct OverrideEntry {
    /// Where the entry begins.
    pub source: Source,
    /// Its name in environment variables.
    pub name: Sourced<Option<String>>,
    /// Whom it is for, and what it says.
    pub rule: PoolOverride,
    /// Where its reads go on listeners that route by statement.
    pub route_hint: Option<RouteHint>,
}
