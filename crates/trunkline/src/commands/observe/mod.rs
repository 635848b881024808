//! `trunkline health --observe`: what the usual formulas for lag say, beside what is proven.
//!
//! ```text
//! monitor (as ever) ----- verdicts ----.
//! sampler (one per server, every tick) +-> account: ledger (who was wrong how long), series (for the plot)
//! patroni (GET /cluster, every tick) --'      -> report: table, JSON; svg
//! ```
//!
//! Nothing is listened on, and nothing is changed. All that is kept is bounded, however long it runs.

mod account;
mod formula;
mod ledger;
mod patroni;
mod report;
mod sampler;
mod series;
mod svg;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use trunkline_discovery::http::HttpClient;
use trunkline_health::{Health, Monitor};
use trunkline_proxy::WatchedServers;

use self::account::{Account, PatroniSource};
use self::formula::Limits;
use self::patroni::PatroniSays;
use super::init::{api_url, http_settings};
use super::monitor_password::{self, MonitorPassword};
use super::serve::{SignalAction, SignalStreams};
use crate::config::checked::CheckedConfig;
use crate::config::units;
use crate::{Exit, Failure, terminal};

/// Answers on their way to the account; the samplers wait when it is behind.
const REPORTS_MAX: usize = 1024;

/// Shortest time between two reports.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// Flags of `trunkline health --observe`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Observing")]
pub(super) struct ObserveFlags {
    /// Serve nothing; report what the usual formulas for lag say, what is proven, and how long each was wrong
    #[arg(long)]
    pub(super) observe: bool,
    /// Time between two reports [default: 1m]
    #[arg(long, value_name = "DURATION", requires = "observe", value_parser = units::duration)]
    every: Option<Duration>,
    /// End after this long [default: by a signal]
    #[arg(long = "for", value_name = "DURATION", requires = "observe", value_parser = units::duration)]
    lasts: Option<Duration>,
    /// Patroni's REST API, asked for its own lag; otherwise it is computed
    #[arg(long, value_name = "URL", requires = "observe")]
    patroni: Option<String>,
    /// PEM: who vouches for a Patroni of https [default: those that this machine trusts]
    #[arg(long, value_name = "FILE", requires = "patroni")]
    patroni_ca_file: Option<PathBuf>,
    /// From how many bytes on Patroni's ?lag= calls a standby lagging [default: 1MB]
    #[arg(long, value_name = "BYTES", requires = "observe", value_parser = units::bytes)]
    patroni_lag: Option<u64>,
    /// File for the report as JSON, written anew with each
    #[arg(long, value_name = "FILE", requires = "observe")]
    json: Option<PathBuf>,
    /// File for a plot, written anew with each report
    #[arg(long, value_name = "FILE", requires = "observe")]
    svg: Option<PathBuf>,
}

/// Patroni's own maximum_lag_on_failover. Source: Patroni's documentation, dynamic configuration.
const PATRONI_LAG_BYTES: u64 = 1_048_576;

/// The time between reports when none is written.
const EVERY: Duration = Duration::from_secs(60);

/// Observes until a signal, or the end of the time given.
pub(super) async fn run(mut checked: CheckedConfig, flags: ObserveFlags) -> Result<Exit, Failure> {
    let patroni = match &flags.patroni {
        Some(url) => PatroniSource::Asked(api_url(url)?),
        None => PatroniSource::Computed,
    };
    let mut signals = SignalStreams::listen()?;
    monitor_password::fill(&mut checked).await;
    let health = Monitor::start(checked.proxy.health.clone(), &Handle::current());
    // Nothing is changed, not even what is kept on disk.
    checked.proxy.discovery.state_dir = None;
    let mut watched = WatchedServers::start(&checked.proxy, &health);
    let _password = MonitorPassword::keep(checked.password_command, &health);
    let limits =
        Limits { max_lag: health.load().max_lag, lag_bytes: flags.patroni_lag.unwrap_or(PATRONI_LAG_BYTES) };
    let (says, said) = watch::channel(PatroniSays::default());
    if let PatroniSource::Asked(url) = &patroni {
        let client = HttpClient::new(http_settings(url, flags.patroni_ca_file.as_deref())?);
        tokio::spawn(patroni::run(client, url.clone(), health.load().tick, says));
    }
    let mut account = Account::new(limits, patroni);
    // A file that cannot be written is known at once, and not after the observation.
    write_files(&account, &health, &flags)?;
    let (send, mut reports) = mpsc::channel(REPORTS_MAX);
    let mut changed = health.changed();
    follow(&health, &mut account, &send);
    let every = flags.every.unwrap_or(EVERY).max(EVERY_MIN);
    let mut reporting = interval_at(Instant::now() + every, every);
    reporting.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = sleep(flags.lasts.unwrap_or(units::DURATION_MAX));
    tokio::pin!(end);
    loop {
        tokio::select! {
            Some(report) = reports.recv() => {
                let says = said.borrow().clone();
                account.take(report, &says, &health.load());
            }
            Ok(()) = changed.changed() => follow(&health, &mut account, &send),
            () = watched.news() => watched.follow().await,
            _ = reporting.tick() => {
                terminal::print(&format!("{}\n", report::table(&account, &health.load())));
                if let Err(failure) = write_files(&account, &health, &flags) {
                    tracing::error!(%failure, "the report is not written; the next one is tried again");
                }
            }
            () = &mut end => break,
            action = signals.next() => match action {
                SignalAction::Drain | SignalAction::Stop => break,
                SignalAction::Reload => tracing::warn!("an observation keeps its configuration: start it anew"),
            },
        }
    }
    terminal::print(&report::table(&account, &health.load()));
    write_files(&account, &health, &flags)?;
    Ok(Exit::Success)
}

/// Asks those that came, too. Who asks a server that has gone ends by itself.
fn follow(health: &Health, account: &mut Account, reports: &mpsc::Sender<sampler::Report>) {
    for server in account.follow(&health.load()) {
        tokio::spawn(sampler::run(health.clone(), server, reports.clone()));
    }
}

fn write_files(account: &Account, health: &Health, flags: &ObserveFlags) -> Result<(), Failure> {
    if let Some(path) = &flags.json {
        write(path, &format!("{:#}\n", report::json(account, &health.load())))?;
    }
    if let Some(path) = &flags.svg {
        write(path, &svg::svg(account))?;
    }
    Ok(())
}

/// Whoever reads it sees the old report or the new one, never half of one.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path)).map_err(|error| {
        Failure::new(format!("could not write {}: {error}", path.display()))
            .hint("Check that its directory is there and may be written to.")
    })
}
