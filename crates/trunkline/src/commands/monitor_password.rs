//! The monitoring role's password, printed by a command: `[monitor] password_command`.
//!
//! It is run before the first login, and again when a server refuses what it has printed. What it prints is kept in
//! the login of the monitor and nowhere else, and is never logged.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, copy, sink};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use trunkline_codec::sqlstate::SqlState;
use trunkline_health::{Health, MonitorLogin};
use zeroize::Zeroizing;

use crate::config::checked::CheckedConfig;

/// How long a run of the command may take.
const RUN_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of a password; tokens of clouds have some thousand.
const PASSWORD_BYTES_MAX: u64 = 16 * 1024;

/// Most bytes of standard error that are logged, of one run.
const COMPLAINT_BYTES_MAX: u64 = 4 * 1024;

/// Least time between two runs.
const RUN_PAUSE: Duration = Duration::from_secs(10);

/// How often it is looked whether a server refuses the password.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no password.
#[derive(Debug)]
enum NoPassword {
    NotRun(std::io::Error),
    TooSlow,
    Ended(ExitStatus),
    TooLong,
    Empty,
    NoText,
}

impl std::fmt::Display for NoPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoPassword::NotRun(error) => write!(f, "it could not be run: {error}"),
            NoPassword::TooSlow => write!(f, "it ran for more than {} s", RUN_TIMEOUT.as_secs()),
            NoPassword::Ended(status) => write!(f, "it failed ({status})"),
            NoPassword::TooLong => write!(f, "it printed more than {PASSWORD_BYTES_MAX} bytes"),
            NoPassword::Empty => f.write_str("it printed nothing"),
            NoPassword::NoText => f.write_str("it printed something that is no line of text"),
        }
    }
}

/// Runs the command of the configuration, if there is one, and puts the password in the monitor's login. Without a
/// password the servers refuse the login, and the command is run again then.
pub(super) async fn fill(checked: &mut CheckedConfig) {
    if let Some(command) = &checked.password_command
        && let Some(password) = told(command).await
    {
        checked.proxy.health.login.config.password(&*password);
    }
}

/// The password in force and the command that has printed it.
#[derive(Debug)]
pub(super) struct MonitorPassword {
    command: Option<Vec<String>>,
    keeper: Option<JoinHandle<()>>,
}

impl MonitorPassword {
    /// Runs `command` again whenever a server refuses the login.
    pub(super) fn keep(command: Option<Vec<String>>, health: &Health) -> Self {
        let keeper = command.clone().map(|command| tokio::spawn(renew(command, health.clone())));
        MonitorPassword { command, keeper }
    }

    /// Puts the password in the login of a configuration that is being reloaded: the one in force, if it is the same
    /// command for the same role.
    pub(super) async fn refill(&self, checked: &mut CheckedConfig, in_force: &MonitorLogin) {
        let login = &mut checked.proxy.health.login.config;
        match in_force.config.get_password() {
            Some(password)
                if checked.password_command.is_some()
                    && checked.password_command == self.command
                    && login.get_user() == in_force.config.get_user() =>
            {
                login.password(password);
            }
            Some(_) | None => fill(checked).await,
        }
    }

    /// Follows a reload that is in force.
    pub(super) fn follow(&mut self, command: Option<Vec<String>>, health: &Health) {
        if command != self.command {
            *self = MonitorPassword::keep(command, health);
        }
    }
}

impl Drop for MonitorPassword {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

/// Puts a fresh password in force whenever a server refuses the one that is.
async fn renew(command: Vec<String>, health: Health) {
    loop {
        sleep(LOOK_INTERVAL).await;
        if !is_refused(&health) {
            continue;
        }
        if let Some(password) = told(&command).await {
            let mut login = MonitorLogin::clone(&health.login());
            login.config.password(&*password);
            health.set_login(login);
        }
        sleep(RUN_PAUSE).await;
    }
}

/// Whether a server refuses the monitoring role in a way that another password may mend.
fn is_refused(health: &Health) -> bool {
    let mends = |code| matches!(code, SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION);
    health.load().servers.iter().filter_map(|server| server.monitor_refused_code).any(mends)
}

/// What the command prints; `None`, and a line in the log, when that is no password.
async fn told(command: &[String]) -> Option<Zeroizing<String>> {
    match run(command).await {
        Ok(password) => {
            tracing::info!("[monitor] password_command has printed a password");
            Some(password)
        }
        Err(reason) => {
            tracing::error!(
                %reason, command = command.first(),
                hint = "run it by hand as the proxy's user: it is to print the password and nothing else",
                "[monitor] password_command gives no password"
            );
            None
        }
    }
}

async fn run(command: &[String]) -> Result<Zeroizing<String>, NoPassword> {
    let (program, arguments) = command.split_first().ok_or(NoPassword::Empty)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NoPassword::NotRun)?;
    let (output, complaints) = (child.stdout.take(), child.stderr.take());
    let ended = timeout(RUN_TIMEOUT, async {
        let (printed, complained) =
            tokio::join!(up_to(PASSWORD_BYTES_MAX, output), up_to(COMPLAINT_BYTES_MAX, complaints));
        (printed, complained, child.wait().await)
    });
    let (printed, complained, status) = ended.await.map_err(|_elapsed| NoPassword::TooSlow)?;
    for line in String::from_utf8_lossy(&complained).lines() {
        tracing::warn!(line, "[monitor] password_command says");
    }
    let status = status.map_err(NoPassword::NotRun)?;
    if !status.success() {
        return Err(NoPassword::Ended(status));
    }
    line_of(printed)
}

/// Reads to the end, and keeps one byte more than `most` at most: the command is not to fail for what nobody reads.
async fn up_to(most: u64, pipe: Option<impl AsyncRead + Unpin>) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::new());
    if let Some(pipe) = pipe {
        let mut kept = pipe.take(most + 1);
        // What came before an error is judged as if it were all.
        let _all = kept.read_to_end(&mut bytes).await;
        let _rest = copy(&mut kept.into_inner(), &mut sink()).await;
    }
    bytes
}

/// The password in what was printed, without the end of its line.
fn line_of(printed: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, NoPassword> {
    if printed.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(NoPassword::TooLong);
    }
    let text = std::str::from_utf8(&printed).map_err(|_| NoPassword::NoText)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(NoPassword::Empty);
    }
    if text.contains(['\n', '\0']) {
        return Err(NoPassword::NoText);
    }
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_shell(script: &str) -> Result<String, String> {
        let command = ["sh", "-c", script].map(str::to_owned);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ended = runtime.block_on(run(&command));
        ended.map(|password| password.to_string()).map_err(|reason| reason.to_string())
    }

    #[test]
    fn password_is_the_line_that_is_printed() {
        let verbose = "head -c 100000 /dev/zero >&2; echo 'a b'";
        for script in
            [verbose, "printf 'a b'", "echo 'a b'", "printf 'a b\\r\\n'", "echo 'a b'; echo careful >&2"]
        {
            assert_eq!(by_shell(script).as_deref(), Ok("a b"), "{script}");
        }
    }

    #[test]
    fn what_is_no_password_is_none_and_is_not_repeated() {
        for (script, reason) in [
            ("true", "it printed nothing"),
            ("echo", "it printed nothing"),
            ("echo hunter2; exit 3", "it failed (exit status: 3)"),
            ("echo hunter2; echo hunter2", "it printed something that is no line of text"),
            ("printf 'hunter2\\377'", "it printed something that is no line of text"),
        ] {
            assert_eq!(by_shell(script).as_ref().map_err(String::as_str), Err(reason), "{script}");
        }
        let command = ["/nonexistent".to_owned()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        assert!(matches!(runtime.block_on(run(&command)), Err(NoPassword::NotRun(_))));
    }

    #[test]
    fn longest_password_is_taken_and_a_longer_one_is_not() {
        let of = |length: u64| by_shell(&format!("head -c {length} /dev/zero | tr '\\0' x"));
        assert_eq!(of(PASSWORD_BYTES_MAX).map(|password| password.len() as u64), Ok(PASSWORD_BYTES_MAX));
        let reason = of(PASSWORD_BYTES_MAX + 1).expect_err("it is too long");
        assert!(reason.starts_with("it printed more than"), "{reason}");
    }
}
