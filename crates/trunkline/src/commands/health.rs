//! `trunkline health`.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::runtime::Handle;
use trunkline_control::http::{self, Checkers};
use trunkline_control::listen;
use trunkline_health::{Health, Monitor, MonitorSettings, try_login};
use trunkline_proxy::settings::Settings;
use trunkline_proxy::{WatchedServers, asked_for_login};

use super::listen_failure::listen_failure;
use super::manager;
use super::monitor_password::{self, MonitorPassword};
use super::observe::{self, ObserveFlags};
use super::serve::reload::{in_force, log_problems};
use super::serve::{SignalAction, SignalStreams, configure, log_warnings, runtime};
use crate::config::checked::{self, CheckedConfig};
use crate::config::flags::{Flags, ServerFlags};
use crate::config::raw::ConfigPurpose;
use crate::config::{ConfigSources, load, process_environment};
use crate::logging::{self, Logging};
use crate::{Exit, Failure};

const AFTER: &str = "\
Examples:
  trunkline health --config /etc/trunkline.toml
  trunkline health --primary primary=db1:5432 --replica replica1=db2:5432 \\
      --monitor \"user=monitor password=secret\" --max-lag 2s \\
      --http 0.0.0.0:8008 --agent 0.0.0.0:8009
  curl -i http://127.0.0.1:8008/replica1          what HAProxy asks
  printf 'replica1\\n' | nc 127.0.0.1 8009         what its agent-check asks

  trunkline health --observe --config t.toml --for 10m --svg lag.svg
      beside what you have: what the usual formulas say, and what is proven

Nothing is proxied: HAProxy connects to the servers itself and asks here which ones may serve. The servers that a
[[discovery.source]] names come and go as they do in `trunkline serve`.

Signals: SIGTERM and SIGINT end it, SIGHUP reads the configuration again and logs what needs a restart.

With --observe nothing is listened on and nothing changed: a table every minute and at the end says how long each formula called
a standby fresh that was proven to lag, or lagging that was proven to be fresh, by max_lag. It asks each server once a tick, as the
monitoring role, on one connection more than the probes have. Answers of sources are followed, and not kept in state_dir.

Exit status: 0 ended by a signal, 1 failed while running, 2 wrong command line or configuration.";

/// The default address of the agent-check server.
const AGENT_PORT: u16 = 8009;

/// Flags of `trunkline health`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct HealthCommand {
    #[command(flatten)]
    servers: ServerFlags,
    #[command(flatten)]
    observe: ObserveFlags,
}

impl HealthCommand {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let flags = Flags { purpose: ConfigPurpose::HealthChecks, ..Flags::from(&self.servers) };
        let request = ConfigSources { flags, environment: process_environment() };
        let checked = configure(&request)?;
        let logging = logging::start(&checked.log)?;
        log_warnings(&checked.warnings);
        let runtime = runtime()?;
        let result = match self.observe.observe {
            true => runtime.block_on(observe::run(checked, self.observe)),
            false => runtime.block_on(run(&request, checked, &logging)),
        };
        runtime.shutdown_background();
        result
    }
}

async fn run(
    request: &ConfigSources,
    mut checked: CheckedConfig,
    logging: &Logging,
) -> Result<Exit, Failure> {
    let mut signals = SignalStreams::listen()?;
    monitor_password::fill(&mut checked).await;
    let command = checked.password_command;
    let settings = checked.proxy;
    let health = Monitor::start(settings.health.clone(), &Handle::current());
    let mut password = MonitorPassword::keep(command, &health);
    tokio::spawn(trunkline_proxy::watch_probes(health.clone()));
    let mut watched = WatchedServers::start(&settings, &health);
    let checkers = Checkers::new(settings.http_checkers.clone());
    let mut ready = String::new();
    if let Some(address) = settings.http {
        let (listener, at) = listen("http", address).map_err(listen_failure)?;
        tokio::spawn(http::serve(listener, checkers.clone(), health.clone(), None, pending()));
        ready.push_str(&format!("ready: http on {at}\n"));
    }
    let agent = settings.agent.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, AGENT_PORT)));
    let (listener, at) = listen("agent", agent).map_err(listen_failure)?;
    tokio::spawn(http::serve_agent(listener, health.clone(), pending()));
    ready.push_str(&format!("ready: agent on {at}\n"));
    crate::terminal::print(&ready);
    manager::tell(sd_notify::NotifyState::Ready);
    manager::report(health.clone(), None);
    loop {
        let order = tokio::select! {
            order = signals.next() => order,
            () = watched.news() => {
                watched.follow().await;
                continue;
            }
            never = logging.report_dropped() => match never {},
        };
        match order {
            SignalAction::Drain | SignalAction::Stop => return Ok(Exit::Success),
            SignalAction::Reload => {
                let parts = LiveParts {
                    health: &health,
                    watched: &mut watched,
                    checkers: &checkers,
                    password: &mut password,
                };
                reload(request, &settings, parts, logging).await;
            }
        }
    }
}

/// What a reload changes.
struct LiveParts<'a> {
    health: &'a Health,
    watched: &'a mut WatchedServers,
    checkers: &'a Checkers,
    password: &'a mut MonitorPassword,
}

async fn reload(request: &ConfigSources, started_with: &Settings, parts: LiveParts<'_>, logging: &Logging) {
    let LiveParts { health, watched, checkers, password } = parts;
    let mut checked = match checked::settings(load(request)) {
        Ok(checked) => checked,
        Err(problems) => return log_problems(&problems),
    };
    password.refill(&mut checked, &health.login()).await;
    let (old, new) = (started_with, checked.proxy);
    let MonitorSettings { servers, login, judge } = &new.health;
    if *login != *health.login() {
        let servers = asked_for_login(servers, &health.load());
        if let Err(error) = try_login(&servers, login, judge).await {
            tracing::error!(%error, "configuration not reloaded: nothing was changed");
            return;
        }
    }
    let changes = [(old.http != new.http, "http.listen"), (old.agent != new.agent, "agent.listen")];
    let changed = changes.into_iter().filter(|(is_changed, _)| *is_changed).map(|(_, key)| key);
    let needs_restart = changed.chain(logging.reload(&checked.log)).collect();
    health.reload(new.health.judge);
    health.set_login(new.health.login);
    watched.reload(new.health.servers, new.discovery).await;
    password.follow(checked.password_command, health);
    checkers.set(new.http_checkers);
    let _logged = in_force(needs_restart);
}
