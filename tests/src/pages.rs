//! What an endpoint answers over HTTP.

use std::time::Duration;

use crate::{Endpoint, eventually, http_get, within};

/// How long its pages may take to be answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

impl Endpoint {
    /// The HTTP status of a path; 0 when there is no answer.
    #[must_use]
    pub fn status_of(&self, path: &str) -> u16 {
        http_get(self.http(), path).map_or(0, |answer| answer.status)
    }

    /// Waits until the check of server `name` answers 200 or 503, and says how long that took.
    #[track_caller]
    pub fn await_health(&self, name: &str, is_healthy: bool, limit: Duration) -> Duration {
        let path = format!("/{name}");
        let what = format!("{path} is healthy: {is_healthy}");
        // No answer is none: it says nothing of the server.
        let status = if is_healthy { 200 } else { 503 };
        eventually(limit, &what, || self.status_of(&path) == status)
    }

    /// How many sessions are on the server `name`, as it says itself.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn sessions_on(&self, name: &str) -> u64 {
        let cluster = self.cluster_page();
        let members = cluster["members"].as_array().expect("a list").iter();
        members.filter(|m| m["name"] == name).filter_map(|m| m["sessions"].as_u64()).sum()
    }

    /// What `/cluster` says. On a busy machine it may have to be asked more than once.
    #[track_caller]
    pub(crate) fn cluster_page(&self) -> serde_json::Value {
        let ask = || http_get(self.http(), "/cluster");
        let (answer, _) = within(ANSWER_TIMEOUT, "the endpoint answers", ask);
        serde_json::from_str(&answer.body).expect("it is JSON")
    }

    /// The sum of the samples of `/metrics` that begin with `series`: a name, or one with the first of its labels.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn counted(&self, series: &str) -> u64 {
        let ask = || http_get(self.http(), "/metrics");
        let (answer, _) = within(ANSWER_TIMEOUT, "the endpoint answers", ask);
        let samples = answer.body.lines().filter(|line| line.starts_with(series));
        let values = samples.filter_map(|sample| sample.rsplit_once(' '));
        values.map(|(_, value)| value.parse::<u64>().expect("a counter of events")).sum()
    }
}
