//! What a request target asks for. Total: any bytes give a route or a typed refusal.

use std::time::Duration;

use super::CheckRequest;
use super::paths::{PathAnswer, answer_at};
use trunkline_topology::{ExpectedRole, ServerStatus};

/// A request target, taken apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Route<'a> {
    pub(super) path: &'a str,
    /// Tighter than the verdict: most lag accepted.
    pub(super) lag: Option<LagLimit>,
    /// The limit is on what is proven at most, not on the estimate.
    pub(super) is_guarantee: bool,
    /// LAGGING and DRAIN give 404, for HAProxy's `disable-on-404`.
    pub(super) is_drain_told: bool,
    pub(super) is_json: bool,
}

/// Most lag accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum LagLimit {
    Bytes(u64),
    Time(Duration),
}

/// What a server is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WantedRole {
    Primary,
    Replica,
    ReadOnly,
}

/// A query that cannot be understood; guessing might call an unfit server fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InvalidQuery(pub(super) String);

impl WantedRole {
    /// The path's word, of Patroni's.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match answer_at(word) {
            Some(PathAnswer::Serving(want)) => Some(want),
            Some(PathAnswer::Metrics | PathAnswer::Cluster | PathAnswer::Alive | PathAnswer::Ready)
            | None => None,
        }
    }

    /// What a server is wanted for when the path names only the server.
    pub(super) fn expected_of(server: &ServerStatus) -> Self {
        match server.expected_role {
            ExpectedRole::Primary => WantedRole::Primary,
            ExpectedRole::Replica => WantedRole::Replica,
            ExpectedRole::Any => WantedRole::ReadOnly,
        }
    }
}

impl<'a> Route<'a> {
    pub(super) fn parse(request: &CheckRequest<'a>) -> Result<Self, InvalidQuery> {
        let (path, query) = split(request.target);
        let accept = request.accept.unwrap_or_default();
        let mut route = Route {
            path,
            lag: None,
            is_guarantee: false,
            is_drain_told: false,
            is_json: accept.to_ascii_lowercase().contains("application/json"),
        };
        for pair in query.split('&') {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("lag", limit) => {
                    let invalid = || InvalidQuery("lag wants a time as 2s or a size as 10MB".to_owned());
                    route.lag = Some(lag_limit(limit).ok_or_else(invalid)?);
                }
                ("guarantee", "hi") => route.is_guarantee = true,
                ("drain", "404") => route.is_drain_told = true,
                ("format", "json") => route.is_json = true,
                ("format", "text") => route.is_json = false,
                // Others' parameters, such as Patroni's tags, are left to others.
                _ => {}
            }
        }
        Ok(route)
    }
}

/// Path and query of a target in origin or absolute form.
fn split(target: &str) -> (&str, &str) {
    let after_scheme = target.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?']));
    let origin = match after_scheme {
        Some((_, rest)) => rest.find(['/', '?']).map_or("", |at| &rest[at..]),
        None => target,
    };
    let origin = origin.split('#').next().unwrap_or_default();
    origin.split_once('?').unwrap_or((origin, ""))
}

/// `500ms`, `2s`, `1min` are times; `1048576`, `16kB`, `10MB`, `1GB` are sizes, in Patroni's units of 1024.
fn lag_limit(text: &str) -> Option<LagLimit> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().ok()?;
    let time = |seconds: f64| Duration::try_from_secs_f64(seconds).ok().map(LagLimit::Time);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is not negative"
    )]
    let size = |bytes: f64| Some(LagLimit::Bytes(bytes as u64));
    match unit {
        "ms" => time(number / 1e3),
        "s" => time(number),
        "min" | "m" => time(number * 60.0),
        "h" => time(number * 3600.0),
        "" | "B" => size(number),
        "kB" | "KB" | "k" => size(number * 1024.0),
        "MB" | "M" => size(number * 1024.0 * 1024.0),
        "GB" | "G" => size(number * 1024.0 * 1024.0 * 1024.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_times_or_sizes() {
        assert_eq!(lag_limit("500ms"), Some(LagLimit::Time(Duration::from_millis(500))));
        assert_eq!(lag_limit("2s"), Some(LagLimit::Time(Duration::from_secs(2))));
        assert_eq!(lag_limit("1048576"), Some(LagLimit::Bytes(1 << 20)));
        assert_eq!(lag_limit("10MB"), Some(LagLimit::Bytes(10 << 20)));
        for text in ["", "s", "-1s", "2 s", "1e9s", "..", "9parsecs"] {
            assert_eq!(lag_limit(text), None, "{text}");
        }
    }

    #[test]
    fn targets_come_in_both_forms() {
        assert_eq!(split("/replica1?lag=2s"), ("/replica1", "lag=2s"));
        assert_eq!(split("http://127.0.0.1:8008/replica1?lag=2s"), ("/replica1", "lag=2s"));
        assert_eq!(split("http://127.0.0.1:8008"), ("", ""));
        assert_eq!(split("*"), ("*", ""));
        assert_eq!(split("/a?b=http://c"), ("/a", "b=http://c"));
    }
}
