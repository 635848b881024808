//! The table, and JSON.

use std::time::Duration;

use serde_json::{Value, json};
use trunkline_topology::{Lag, ServerStatus, Snapshot};

use super::account::{Account, Observed, PatroniSource};
use super::formula::{Formula, FormulaAnswer};
use super::ledger::FormulaTally;
use crate::commands::status::columns;

const HEAD: [&str; 7] =
    ["SERVER", "WHO SAYS", "NOW", "RIGHT", "FRESH, BUT LAGGED", "LAGGING, BUT FRESH", "SILENT"];

/// What the columns count.
const LEGEND: &str = "RIGHT of \"proven\" is how long it was proven that a standby lags by more than max_lag, or does not, or is not to\n\
    serve; SILENT, how long it was not. A formula is held against that alone: what was not proven is nobody's fault.\n";

/// What was said and what was proven, for people.
pub(super) fn table(account: &Account, snapshot: &Snapshot) -> String {
    let max_lag = account.limits.max_lag;
    let mut out = format!(
        "observed for {}, max_lag {max_lag:?}; {}\n",
        seconds(account.lasted()),
        match &account.patroni {
            PatroniSource::Asked(url) => format!("Patroni's lag is asked of {url}"),
            PatroniSource::Computed =>
                "Patroni's lag is computed from the primary's WAL, as old as its key would be".to_owned(),
        }
    );
    if let Some(error) = &account.patroni_error {
        out.push_str(&format!("! Patroni gave no answer: {error}\n"));
    }
    let standbys: Vec<&Observed> = account.servers.iter().filter(|observed| observed.was_standby).collect();
    for observed in account.servers.iter().filter(|observed| observed.error.is_some()) {
        let error = observed.error.as_deref().unwrap_or_default();
        out.push_str(&format!("! {} gave the formulas no answer: {error}\n", observed.name));
    }
    if standbys.is_empty() {
        out.push_str("no standby has been seen yet\n");
        return out;
    }
    let rows: Vec<[String; 7]> =
        standbys.iter().flat_map(|observed| rows(observed, snapshot, account)).collect();
    out + &columns(HEAD, &rows, &[3, 4, 5, 6], rows.iter().map(|_| None)) + LEGEND
}

fn rows(observed: &Observed, snapshot: &Snapshot, account: &Account) -> Vec<[String; 7]> {
    let proven = &observed.ledger.proven;
    let status = snapshot.server(observed.id);
    let mut rows = vec![[
        observed.name.to_string(),
        "proven".to_owned(),
        status.map_or_else(|| "-".to_owned(), proven_now),
        seconds(proven.fresh + proven.lagging + proven.unfit),
        String::new(),
        String::new(),
        seconds(proven.undecided),
    ]];
    for ((formula, tally), answer) in Formula::ALL.iter().zip(&observed.ledger.formulas).zip(observed.last) {
        let who = match formula {
            Formula::PatroniLag => format!("{}{}", formula.shown(), show_bytes(account.limits.lag_bytes)),
            Formula::ReplayAge | Formula::InSync | Formula::Combined => formula.shown().to_owned(),
        };
        rows.push([
            String::new(),
            who,
            answer.shown(),
            seconds(tally.right),
            seconds(tally.fresh_though_lagging + tally.fresh_though_unfit),
            seconds(tally.lagging_though_fresh),
            seconds(tally.silent),
        ]);
    }
    rows
}

/// `0.0..0.5 s UP`
fn proven_now(status: &ServerStatus) -> String {
    match status.lag {
        Some(Lag { lo, hi: Some(hi), .. }) => {
            format!("{:.1}..{:.1} s {}", lo.as_secs_f64(), hi.as_secs_f64(), status.state)
        }
        Some(Lag { lo, hi: None, .. }) => format!(">= {:.1} s {}", lo.as_secs_f64(), status.state),
        None => status.state.to_string(),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Bytes in the largest whole unit.
pub(super) fn show_bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

/// The same for machines. Times are in seconds since the beginning of the observation.
pub(super) fn json(account: &Account, snapshot: &Snapshot) -> Value {
    let standbys = account.servers.iter().filter(|observed| observed.was_standby);
    let (source, url) = match &account.patroni {
        PatroniSource::Asked(url) => ("asked", Some(url.to_string())),
        PatroniSource::Computed => ("computed", None),
    };
    json!({
        "began": humantime::format_rfc3339_seconds(account.began_at).to_string(),
        "observed_seconds": account.lasted().as_secs_f64(),
        "max_lag_seconds": account.limits.max_lag.as_secs_f64(),
        "patroni": { "source": source, "url": url, "lag_bytes_max": account.limits.lag_bytes, "error": account.patroni_error },
        "servers": standbys.map(|observed| server_json(observed, snapshot)).collect::<Vec<_>>(),
    })
}

fn server_json(observed: &Observed, snapshot: &Snapshot) -> Value {
    let status = snapshot.server(observed.id);
    let lag = status.and_then(|status| status.lag);
    let proven = &observed.ledger.proven;
    let formulas = Formula::ALL.iter().zip(&observed.ledger.formulas).zip(observed.last);
    let formulas: serde_json::Map<String, Value> = formulas
        .map(|((formula, tally), answer)| (formula.key().to_owned(), formula_json(tally, answer)))
        .collect();
    json!({
        "name": &*observed.name,
        "role": observed.role.as_str(),
        "state": status.map(|status| status.state.as_str()),
        "reason": status.map(|status| &*status.reason),
        "error": observed.error,
        "proven": {
            "lag_at_least_seconds": lag.map(|lag| lag.lo.as_secs_f64()),
            "lag_at_most_seconds": lag.and_then(|lag| lag.hi).map(|hi| hi.as_secs_f64()),
            "fresh_seconds": proven.fresh.as_secs_f64(),
            "lagging_seconds": proven.lagging.as_secs_f64(),
            "unfit_seconds": proven.unfit.as_secs_f64(),
            "undecided_seconds": proven.undecided.as_secs_f64(),
        },
        "formulas": formulas,
    })
}

fn formula_json(tally: &FormulaTally, answer: FormulaAnswer) -> Value {
    let now = match answer {
        FormulaAnswer::Nothing => Value::Null,
        FormulaAnswer::Seconds(seconds) => json!(seconds),
        FormulaAnswer::InSync => json!(true),
        FormulaAnswer::NotInSync => json!(false),
        FormulaAnswer::Bytes(bytes) => json!(bytes),
    };
    json!({
        "now": now,
        "right_seconds": tally.right.as_secs_f64(),
        "fresh_though_lagging_seconds": tally.fresh_though_lagging.as_secs_f64(),
        "fresh_though_unfit_seconds": tally.fresh_though_unfit.as_secs_f64(),
        "lagging_though_fresh_seconds": tally.lagging_though_fresh.as_secs_f64(),
        "silent_seconds": tally.silent.as_secs_f64(),
    })
}
