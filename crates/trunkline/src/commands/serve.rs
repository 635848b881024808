//! `trunkline serve`.

pub(super) mod reload;

use std::path::Path;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use trunkline_control::limits::RELOADS_WAITING_MAX;
use trunkline_control::reload::Reloads;
use trunkline_proxy::{Running, SettledAuth, StartError};

use super::monitor_password::{self, MonitorPassword};
use super::{listen_failure, manager, open_files};
use crate::config::checked::{self, CheckedConfig};
use crate::config::flags::{Flags, ProxyFlags, ServerFlags};
use crate::config::{ConfigSources, Problem, Problems, STANDARD_INPUT, load, process_environment};
use crate::logging::{self, Logging};
use crate::{Exit, Failure};

const AFTER: &str = "\
Examples:
  trunkline serve --config /etc/trunkline.toml
  trunkline serve --primary primary=127.0.0.1:5441 \\
      --replica replica1=127.0.0.1:5442 --replica replica2=127.0.0.1:5443 \\
      --reads 127.0.0.1:5434 --writes 127.0.0.1:5431 --http 127.0.0.1:8008 \\
      --monitor \"user=monitor password=secret dbname=postgres\" --max-lag 2s
  trunkline serve --primary db1 --replica db2 --replica db3
      reads on 127.0.0.1:5434
  TRUNKLINE__MONITOR__PASSWORD=secret trunkline serve --log-statements 200ms

Signals: SIGTERM ends sessions at their idle points, within [timeouts] drain, then exits; SIGINT ends at once;
SIGHUP reads the configuration again and logs what
became of it, as `trunkline reload` does, which also says so to its caller.

Exit status: 0 ended by a signal, 1 failed while running, 2 wrong command line or configuration.";

/// Flags of `trunkline serve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Serve {
    #[command(flatten)]
    servers: ServerFlags,
    #[command(flatten)]
    proxy: ProxyFlags,
}

impl Serve {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let flags = Flags::from(&self.servers).with_proxy(&self.proxy);
        let request = ConfigSources { flags, environment: process_environment() };
        let mut checked = configure(&request)?;
        let logging = logging::start(&checked.log)?;
        log_warnings(&checked.warnings);
        open_files::fit(&mut checked.proxy);
        let runtime = runtime()?;
        let result = runtime.block_on(serve(&request, checked, &logging));
        // After a second signal, worker threads may still run. They end with the process.
        runtime.shutdown_background();
        result
    }
}

/// The checked configuration, or all its problems as one failure.
pub(super) fn configure(request: &ConfigSources) -> Result<CheckedConfig, Failure> {
    if request.flags.file.as_deref() == Some(Path::new(STANDARD_INPUT)) {
        return Err(Failure::usage("--config - is standard input, which a reload could not read again")
            .hint("Name a file; `trunkline check --config -` checks standard input."));
    }
    checked::settings(load(request))
        .map_err(|problems| Failure::usage(format!("the configuration is not valid\n{problems}")))
}

/// The runtime for everything outside the worker threads: signals, probes, HTTP.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::because("could not start the runtime"))
}

/// The signals that `serve` handles.
pub(super) struct SignalStreams {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalAction {
    Drain,
    Stop,
    Reload,
}

impl SignalStreams {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::because("could not listen for signals"));
        Ok(SignalStreams {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::Drain,
            _ = self.interrupt.recv() => SignalAction::Stop,
            _ = self.hangup.recv() => SignalAction::Reload,
        }
    }

    /// Waits for a signal that ends the process, of either kind.
    pub(super) async fn ending(&mut self) {
        while self.next().await == SignalAction::Reload {}
    }
}

async fn serve(
    request: &ConfigSources,
    mut checked: CheckedConfig,
    logging: &Logging,
) -> Result<Exit, Failure> {
    // Installed before anything listens: a signal during the start must not kill the process halfway.
    let mut signals = SignalStreams::listen()?;
    let (reloads, mut asked) = mpsc::channel(RELOADS_WAITING_MAX);
    monitor_password::fill(&mut checked).await;
    // A proxy may be told of the file from another directory.
    let file = checked.file.as_ref().and_then(|file| file.canonicalize().ok());
    let mut running = start(&checked, Some(Reloads { queue: reloads, file })).await?;
    let mut password = MonitorPassword::keep(checked.password_command.clone(), running.health());
    tracing::info!(
        config = checked.file.as_ref().map(|path| path.display().to_string()),
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    say_mode(running.settled_auth().as_ref());
    announce(&running, &checked);
    loop {
        let order = tokio::select! {
            order = signals.next() => order,
            Some(answer) = asked.recv() => {
                // Who asked may have stopped waiting.
                let _gone = answer.send(reload::reload(request, &mut running, &mut password, logging).await);
                continue;
            }
            never = logging.report_dropped() => match never {},
        };
        match order {
            SignalAction::Reload => {
                drop(reload::reload(request, &mut running, &mut password, logging).await);
            }
            SignalAction::Drain => {
                let drain = running.drain_timeout();
                tracing::info!(sessions = running.sessions(), timeout = ?drain, "draining: sessions end at their idle points");
                return Ok(finish(running, drain, &mut signals).await);
            }
            SignalAction::Stop => {
                tracing::info!(sessions = running.sessions(), "stopping at once: sessions are closed");
                running.stop().await;
                return Ok(Exit::Success);
            }
        }
    }
}

/// Logs who authenticates clients, and what follows for their sessions. `auto` does so itself once a server has answered.
fn say_mode(settled: Option<&SettledAuth>) {
    if let Some(settled) = settled {
        settled.log();
    }
}

/// Starts the proxy; its errors say what to do.
pub(super) async fn start(checked: &CheckedConfig, reloads: Option<Reloads>) -> Result<Running, Failure> {
    trunkline_proxy::serve(checked.proxy.clone(), reloads).await.map_err(start_failure)
}

/// An error at the start, with its hint.
fn start_failure(error: StartError) -> Failure {
    let hint = start_hint(&error);
    Failure::new(error.to_string()).hint(hint)
}

/// What to do about an error at the start, or at a reload.
fn start_hint(error: &StartError) -> String {
    let hint = match error {
        StartError::Listen(error) => return listen_failure::hint(error),
        StartError::Admin { .. } => {
            "Choose a file in a directory that the proxy may write to, with --admin or [admin] socket."
        }
        StartError::Thread { .. } => "Check the limits of processes and memory (ulimit -u, cgroup).",
        StartError::Secrets(_) => "Check [auth], for example with `trunkline check`.",
        StartError::Tls(_) | StartError::Access(_) => "`trunkline check` says what to do.",
        StartError::Random(_) => "Keys and salts need random bytes: check that getrandom(2) is permitted.",
    };
    hint.to_owned()
}

fn announce(running: &Running, checked: &CheckedConfig) {
    let bound = running.bound();
    let mut out = String::new();
    for (listener, address) in checked.proxy.listeners.iter().zip(&bound.listeners) {
        out.push_str(&format!(
            "ready: {} on {address} ({})\n",
            listener.name, listener.options.target_session_attrs
        ));
    }
    for (name, address) in [("http", bound.http), ("agent", bound.agent)] {
        if let Some(address) = address {
            out.push_str(&format!("ready: {name} on {address}\n"));
        }
    }
    if let Some(path) = running.admin() {
        out.push_str(&format!("ready: admin on {}\n", path.display()));
    }
    crate::terminal::print(&out);
    manager::tell(NotifyState::Ready);
    manager::report(running.health().clone(), Some(running.pulse()));
}

/// Drains until done or a further signal.
async fn finish(running: Running, drain: std::time::Duration, signals: &mut SignalStreams) -> Exit {
    manager::tell(NotifyState::Stopping);
    tokio::select! {
        () = running.drain(drain) => tracing::info!("drained"),
        () = signals.ending() => tracing::warn!("stopping at once: a second signal arrived while draining"),
    }
    Exit::Success
}

/// Logs what is valid in a configuration and hardly meant.
pub(super) fn log_warnings(warnings: &Problems) {
    for Problem { source, key, message, hint } in &warnings.0 {
        let hint = hint.as_deref();
        tracing::warn!(%source, key, problem = message, hint, "the configuration is valid, but hardly meant so");
    }
}
