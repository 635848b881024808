//! All that is kept of what was observed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use trunkline_discovery::http::HttpUrl;
use trunkline_health::SERVERS_MAX;
use trunkline_topology::{Role, ServerId, ServerStatus, Snapshot, State};

use super::formula::{Answers, FormulaAnswer, Limits};
use super::ledger::{FormulaLedger, FormulaSample, MomentVerdict, ObservedFitness};
use super::patroni::{LeaderKey, PatroniSays};
use super::sampler::{Report, ServerAnswers};
use super::series::Series;

/// Where the lag of Patroni's comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PatroniSource {
    /// Patroni itself, at this URL.
    Asked(HttpUrl),
    /// The primary's WAL position, as old as Patroni's key would be.
    Computed,
}

/// What was observed since the beginning.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) began: Instant,
    pub(super) began_at: SystemTime,
    pub(super) limits: Limits,
    pub(super) patroni: PatroniSource,
    /// What Patroni did not answer last.
    pub(super) patroni_error: Option<String>,
    pub(super) servers: Vec<Observed>,
    key: LeaderKey,
}

/// What was observed of one server.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) id: ServerId,
    pub(super) name: Arc<str>,
    pub(super) ledger: FormulaLedger,
    pub(super) series: Series,
    /// What the formulas gave last.
    pub(super) last: Answers,
    /// Why there was no answer last.
    pub(super) error: Option<String>,
    /// What it was last.
    pub(super) role: Role,
    /// Whether it has ever been a standby: then it is reported.
    pub(super) was_standby: bool,
}

impl Account {
    /// An empty one, of no servers yet.
    pub(super) fn new(limits: Limits, patroni: PatroniSource) -> Self {
        Account {
            began: Instant::now(),
            began_at: SystemTime::now(),
            limits,
            patroni,
            patroni_error: None,
            servers: Vec::new(),
            key: LeaderKey::default(),
        }
    }

    /// Takes in the servers that are new, and names them. Those that have gone are reported on, as long as there is room.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) -> Vec<ServerId> {
        let is_new = |server: &&ServerStatus| !self.servers.iter().any(|known| known.id == server.id);
        let new: Vec<&ServerStatus> = snapshot.servers.iter().filter(is_new).collect();
        for server in &new {
            if self.servers.len() >= SERVERS_MAX
                && let Some(gone) = self.servers.iter().position(|known| snapshot.server(known.id).is_none())
            {
                self.servers.remove(gone);
            }
            self.servers.push(Observed {
                id: server.id,
                name: Arc::clone(&server.name),
                ledger: FormulaLedger::new(self.limits, snapshot.tick),
                series: Series::new(),
                last: Answers::default(),
                error: None,
                role: Role::Unknown,
                was_standby: false,
            });
        }
        new.into_iter().map(|server| server.id).collect()
    }

    /// How long it is observed.
    pub(super) fn lasted(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes an answer, with the verdicts of now.
    pub(super) fn take(&mut self, report: Report, says: &PatroniSays, now: &Snapshot) {
        let Report { server, before, sent, received, answer } = report;
        self.patroni_error = says.error.clone();
        if let Ok(ServerAnswers::Primary { lsn: Some(lsn) }) = answer
            && before.primary == Some(server)
        {
            self.key.see(lsn, received);
        }
        let (Some(status), Some(current)) = (before.server(server), now.server(server)) else { return };
        let Some(observed) = self.servers.iter_mut().find(|observed| observed.id == server) else { return };
        observed.role = current.role;
        observed.error = answer.as_ref().err().cloned();
        let is_primary = matches!(answer, Ok(ServerAnswers::Primary { .. }))
            || (answer.is_err() && status.role != Role::Standby && !observed.was_standby);
        if is_primary {
            observed.last = Answers::default();
            return;
        }
        observed.was_standby = true;
        let answers = match answer {
            Ok(ServerAnswers::Standby { age, in_sync, combined, replayed }) => {
                let lag = match &self.patroni {
                    PatroniSource::Asked(_) => says.lag(status),
                    PatroniSource::Computed => self.key.lag(replayed),
                };
                [age, in_sync, combined, lag]
            }
            // What Patroni says of it, it says without it.
            Ok(ServerAnswers::Primary { .. }) | Err(_) => match &self.patroni {
                PatroniSource::Asked(_) => {
                    [FormulaAnswer::Nothing, FormulaAnswer::Nothing, FormulaAnswer::Nothing, says.lag(status)]
                }
                PatroniSource::Computed => Answers::default(),
            },
        };
        observed.last = answers;
        let sample = FormulaSample { sent, received, before: verdict(status, &before), answers };
        for settled in observed.ledger.take(sample, verdict(current, now)) {
            let at = settled.sample.sent.saturating_duration_since(self.began).as_secs_f64();
            observed.series.push(at, &settled);
        }
    }
}

/// What a snapshot says of a standby.
fn verdict(status: &ServerStatus, snapshot: &Snapshot) -> MomentVerdict {
    let by_lag = if status.lag.is_some() { ObservedFitness::ByLag } else { ObservedFitness::Unknown };
    let fitness = match status.state {
        State::Down | State::Fenced => ObservedFitness::Unfit,
        State::Unknown | State::Maint => ObservedFitness::Unknown,
        State::Up | State::Lagging | State::Drain => by_lag,
    };
    MomentVerdict {
        at: snapshot.taken_at,
        asked_at: status.asked_at,
        fitness,
        lo: status.lag.map_or(Duration::ZERO, |lag| lag.lo),
        hi: status.lag.and_then(|lag| lag.hi),
    }
}

#[cfg(test)]
mod tests {
    use trunkline_topology::testing::snapshot;

    use super::*;

    #[test]
    fn servers_that_come_are_taken_in_and_those_that_went_make_room() {
        let limits = Limits { max_lag: Duration::from_secs(2), lag_bytes: 1 };
        let mut account = Account::new(limits, PatroniSource::Computed);
        let mut snapshot = snapshot();
        let count = snapshot.servers.len();
        assert_eq!(account.follow(&snapshot).len(), count);
        assert_eq!(account.follow(&snapshot), [], "nobody is asked twice");
        for generation in 1..2000 {
            let server = &mut snapshot.servers[1];
            server.id = ServerId::new(server.id.slot(), generation);
            assert_eq!(account.follow(&snapshot).len(), 1);
            assert!(account.servers.len() <= SERVERS_MAX, "{generation}");
        }
        assert!(
            snapshot.servers.iter().all(|server| account.servers.iter().any(|known| known.id == server.id))
        );
    }
}
