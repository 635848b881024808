//! Reading the configuration again: on SIGHUP, or when `trunkline reload` asks for it.

use trunkline_auth::secrets::mend_login;
use trunkline_control::reload::ReloadOutcome;
use trunkline_health::LoginRefusal;
use trunkline_health::judge::ProbeFailure;
use trunkline_proxy::{ReloadError, Running};

use crate::commands::monitor_password::MonitorPassword;
use crate::commands::open_files;
use crate::config::checked::{self, CheckedConfig};
use crate::config::{ConfigSources, Problem, Problems, load};
use crate::logging::Logging;

/// Puts a changed configuration in force, logs what became of that and counts it.
pub(super) async fn reload(
    request: &ConfigSources,
    running: &mut Running,
    password: &mut MonitorPassword,
    logging: &Logging,
) -> ReloadOutcome {
    let outcome = match checked::settings(load(request)) {
        Ok(checked) => apply(checked, running, password, logging).await,
        Err(problems) => {
            log_problems(&problems);
            // One of them may be a certificate that was replaced by a broken one: `status` shows that at once.
            running.look_at_certificates();
            ReloadOutcome::Nothing { problems: problems.0.iter().map(ToString::to_string).collect() }
        }
    };
    running.metrics().config().ended(outcome == ReloadOutcome::All);
    outcome
}

async fn apply(
    mut checked: CheckedConfig,
    running: &mut Running,
    password: &mut MonitorPassword,
    logging: &Logging,
) -> ReloadOutcome {
    super::log_warnings(&checked.warnings);
    open_files::fit(&mut checked.proxy);
    password.refill(&mut checked, &running.health().login()).await;
    let auth = running.settled_auth();
    match running.reload(checked.proxy).await {
        Ok(mut needs_restart) => {
            password.follow(checked.password_command, running.health());
            let now = running.settled_auth();
            if now != auth {
                super::say_mode(now.as_ref());
            }
            needs_restart.extend(logging.reload(&checked.log));
            in_force(needs_restart)
        }
        Err(error) => {
            let hint = match &error {
                ReloadError::Start(error) => Some(super::start_hint(error)),
                ReloadError::Login(LoginRefusal { failure: ProbeFailure::Refusal { code, .. }, .. }) => {
                    Some(format!("To mend that, {}.", mend_login(code.as_str())))
                }
                ReloadError::Login(_) => None,
            };
            tracing::error!(%error, hint, "configuration not reloaded: nothing was changed");
            let hint = hint.map(|hint| format!("\n  HINT: {hint}")).unwrap_or_default();
            ReloadOutcome::Nothing { problems: vec![format!("{error}{hint}")] }
        }
    }
}

/// Logs that a configuration is in force but for the keys that need a restart.
pub(crate) fn in_force(needs_restart: Vec<&'static str>) -> ReloadOutcome {
    if needs_restart.is_empty() {
        tracing::info!("configuration reloaded");
        return ReloadOutcome::All;
    }
    for key in &needs_restart {
        tracing::error!(key, "configuration reloaded only in part: this key's new value needs a restart");
    }
    ReloadOutcome::Part { needs_restart: needs_restart.into_iter().map(str::to_owned).collect() }
}

/// Logs why a reload failed: one line for each problem.
pub(crate) fn log_problems(problems: &Problems) {
    for Problem { source, key, message, hint } in &problems.0 {
        let hint = hint.as_deref();
        tracing::error!(%source, key, problem = message, hint, "configuration not reloaded: it has a problem");
    }
}
