//! `--exec`: runs a command against the cluster.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use trunkline_cluster::send_signal;

use super::{DemoStage, SignalStreams};
use crate::commands::serve::SignalAction;
use crate::config::admin_places::FILE;
use crate::{Exit, Failure};

/// How long the command may take to exit after a signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Signals the shell and its children: a shell that ends does not end them.
fn tell_all(shell: i32, signal: Signal) {
    let running = trunkline_cluster::descendants(shell);
    send_signal(shell, signal);
    running.into_iter().for_each(|pid| send_signal(pid, signal));
}

/// Runs the command and returns its exit status.
pub(super) async fn run(
    command: &str,
    stage: &DemoStage,
    signals: &mut SignalStreams,
) -> Result<Exit, Failure> {
    let failed = || Failure::because(format!("could not run {command:?}"));
    let mut child = prepared(command, stage).spawn().map_err(failed())?;
    let pid = i32::try_from(child.id()).map_err(Failure::because("the command's process id"))?;
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    let mut is_told = false;
    loop {
        let order = tokio::select! {
            status = &mut ended => {
                let status = status.map_err(Failure::because("could not wait for the command"))?;
                return Ok(Exit::Of(exit_status(status.map_err(failed())?)));
            }
            () = tokio::time::sleep(STOP_TIMEOUT), if is_told => {
                tell_all(pid, Signal::SIGKILL);
                continue;
            }
            order = signals.next() => order,
        };
        // A signal sent to this process alone is meant for the command, too.
        let signal = match order {
            SignalAction::Drain => Signal::SIGTERM,
            SignalAction::Stop => Signal::SIGINT,
            SignalAction::Reload => Signal::SIGHUP,
        };
        tell_all(pid, signal);
        is_told |= order != SignalAction::Reload;
    }
}

fn prepared(command: &str, stage: &DemoStage) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command);
    for name in [
        "PGHOSTADDR",
        "PGSERVICE",
        "PGOPTIONS",
        "PGTARGETSESSIONATTRS",
        "PGSSLMODE",
        "PGSSLROOTCERT",
        "PGCHANNELBINDING",
        "TRUNKLINE_SPLIT_PORT",
    ] {
        shell.env_remove(name);
    }
    if let Some(root) = &stage.root {
        shell.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", root).env("PGCHANNELBINDING", "require");
    }
    shell
        .env("PGHOST", stage.host())
        .env("PGPORT", stage.ports.reads().to_string())
        .env("PGUSER", "postgres")
        .env("PGPASSWORD", "postgres")
        .env("PGDATABASE", "appdb")
        .env("TRUNKLINE_WRITES_PORT", stage.ports.writes().to_string())
        .envs(stage.ports.split().map(|port| ("TRUNKLINE_SPLIT_PORT", port.to_string())))
        .env("TRUNKLINE_HTTP", format!("127.0.0.1:{}", stage.ports.http()))
        .env("TRUNKLINE_ADMIN", stage.directory.join(FILE))
        .env("TRUNKLINE_DEMO_DIR", &stage.directory);
    shell
}

/// The exit status as in shells: the status, or 128 + the signal.
fn exit_status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
