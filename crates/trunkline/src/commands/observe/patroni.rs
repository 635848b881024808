//! Patroni's `?lag=`: bytes between the leader's key in the DCS and what a standby has replayed.
//!
//! The leader writes the key once in `loop_wait`, so that it is older than the leader's WAL by up to that. Without a Patroni to
//! ask, [`LeaderKey`] ages in the same way. Source: Patroni 4, `patroni/api.py`, `do_GET`, and `patroni/ha.py`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use trunkline_codec::ids::Lsn;
use trunkline_discovery::http::{HttpClient, HttpUrl};
use trunkline_topology::ServerStatus;

use super::formula::FormulaAnswer;

/// How often Patroni's leader writes its key. Source: Patroni's documentation, `loop_wait`, default 10.
pub(super) const LOOP_WAIT: Duration = Duration::from_secs(10);

/// Most members whose lag is kept.
const MEMBERS_MAX: usize = 1024;

/// The key of the leader as Patroni would have it.
#[derive(Debug, Default)]
pub(super) struct LeaderKey {
    written: Option<(Lsn, Instant)>,
}

impl LeaderKey {
    /// The primary is at `lsn`: the key takes it once in [`LOOP_WAIT`].
    pub(super) fn see(&mut self, lsn: Lsn, now: Instant) {
        if self.written.is_none_or(|(_, at)| now.saturating_duration_since(at) >= LOOP_WAIT) {
            self.written = Some((lsn, now));
        }
    }

    /// The lag of a standby that has replayed up to there.
    pub(super) fn lag(&self, replayed: Option<Lsn>) -> FormulaAnswer {
        match (self.written, replayed) {
            (Some((key, _)), Some(replayed)) => FormulaAnswer::Bytes(key.bytes_since(replayed)),
            _ => FormulaAnswer::Nothing,
        }
    }
}

/// What Patroni says of its members' lag.
#[derive(Clone, Debug, Default)]
pub(super) struct PatroniSays {
    /// By name, and by `host:port`.
    lags: HashMap<String, u64>,
    /// Why there is nothing.
    pub(super) error: Option<String>,
}

impl PatroniSays {
    /// The lag of a server.
    pub(super) fn lag(&self, server: &ServerStatus) -> FormulaAnswer {
        let by_place = || self.lags.get(&format!("{}:{}", server.host, server.port));
        match self.lags.get(&*server.name).or_else(by_place) {
            Some(bytes) => FormulaAnswer::Bytes(*bytes),
            None => FormulaAnswer::Nothing,
        }
    }

    fn of_answer(body: &str) -> Result<Self, String> {
        let answer: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
        let members = answer["members"].as_array().ok_or_else(|| "no list of members".to_owned())?;
        let mut lags = HashMap::new();
        for member in members.iter().take(MEMBERS_MAX) {
            // "unknown" where Patroni does not know; the leader has none.
            let Some(bytes) = member["lag"].as_u64() else { continue };
            if let Some(name) = member["name"].as_str() {
                lags.insert(name.to_owned(), bytes);
            }
            if let (Some(host), Some(port)) = (member["host"].as_str(), member["port"].as_u64()) {
                lags.insert(format!("{host}:{port}"), bytes);
            }
        }
        Ok(PatroniSays { lags, error: None })
    }
}

/// Asks Patroni every `tick`, until nobody listens any more.
pub(super) async fn run(
    mut client: HttpClient,
    url: HttpUrl,
    tick: Duration,
    says: watch::Sender<PatroniSays>,
) {
    let mut ticks = interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let answer = match client.get(&url, "/cluster", tick).await {
            Ok(body) => PatroniSays::of_answer(&String::from_utf8_lossy(&body)),
            Err(error) => Err(error.to_string()),
        };
        let said =
            answer.unwrap_or_else(|error| PatroniSays { error: Some(error), ..PatroniSays::default() });
        if says.send(said).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_as_old_as_patronis_loop() {
        let start = Instant::now();
        let mut key = LeaderKey::default();
        assert_eq!(key.lag(Some(Lsn(5))), FormulaAnswer::Nothing);
        key.see(Lsn(100), start);
        key.see(Lsn(900), start + LOOP_WAIT / 2);
        assert_eq!(
            key.lag(Some(Lsn(40))),
            FormulaAnswer::Bytes(60),
            "the leader has not written its key yet"
        );
        assert_eq!(key.lag(Some(Lsn(500))), FormulaAnswer::Bytes(0), "ahead of the key is no lag");
        key.see(Lsn(900), start + LOOP_WAIT);
        assert_eq!(key.lag(Some(Lsn(40))), FormulaAnswer::Bytes(860));
        assert_eq!(key.lag(None), FormulaAnswer::Nothing);
    }

    #[test]
    fn members_are_known_by_name_and_by_place() {
        let body = r#"{"members": [{"name": "a", "role": "leader", "host": "h", "port": 1},
            {"name": "b", "host": "i", "port": 2, "lag": 77}, {"name": "c", "host": "j", "port": 3, "lag": "unknown"}]}"#;
        let says = PatroniSays::of_answer(body).expect("it is Patroni's");
        let mut keys: Vec<_> = says.lags.iter().collect();
        keys.sort();
        assert_eq!(keys, [(&"b".to_owned(), &77), (&"i:2".to_owned(), &77)]);
        assert!(PatroniSays::of_answer("{}").is_err() && PatroniSays::of_answer("<html>").is_err());
    }
}
