//! The monitoring role's password, printed by a command: `[monitor] password_command`.
//!
//! It is run before the first login, and again when a server refuses what it has printed. What it prints is kept in
//! the login of the monitor and nowhere else, and is never logged.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use trunkline_auth::password_command::run;
use trunkline_codec::sqlstate::SqlState;
use trunkline_health::{Health, MonitorLogin};
use zeroize::Zeroizing;

use crate::config::checked::CheckedConfig;

/// Least time between two runs.
const RUN_PAUSE: Duration = Duration::from_secs(10);

/// How often it is looked whether a server refuses the password.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

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
    match run("[monitor] password_command", command, &[]).await {
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
