//! `trunkline reload`: have the running proxy read its configuration again.

use std::fmt::Write as _;
use std::time::Duration;

use hyper::Method;
use trunkline_control::reload::ReloadOutcome;

use super::admin_socket::{AdminAnswer, AdminFlag};
use crate::{Exit, Failure, terminal};

const AFTER: &str = "\
Examples:
  trunkline reload    the proxy reads the file that it was started with again
  trunkline reload --admin /tmp/a.sock
      the socket of `trunkline serve --admin /tmp/a.sock`

A configuration with a problem changes nothing at all. Keys that need a restart keep their values, all others are in force.
SIGHUP does the same, and says in the log what became of it.

Exit status: 0 all of it is in force, 1 nothing or not all of it, 2 wrong command line.";

/// How long the proxy may take: it reads files, binds sockets and asks servers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Flags of the command.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Reload {
    #[command(flatten)]
    socket: AdminFlag,
}

impl Reload {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let AdminAnswer { body, .. } = self.socket.ask_within(PATIENCE, Method::POST, "/reload")?;
        match serde_json::from_str(&body) {
            Ok(ReloadOutcome::All) => {
                terminal::print("configuration reloaded\n");
                Ok(Exit::Success)
            }
            Ok(ReloadOutcome::Part { needs_restart }) => Err(in_part(&needs_restart)),
            Ok(ReloadOutcome::Nothing { problems }) => Err(not_at_all(&problems)),
            Err(_) => {
                let said: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
                let why = said["error"].as_str().unwrap_or("it gave no reason");
                Err(Failure::new(format!("the configuration was not reloaded: {why}")))
            }
        }
    }
}

fn in_part(needs_restart: &[String]) -> Failure {
    let mut text = "the configuration is in force, but for keys whose new values need a restart".to_owned();
    for key in needs_restart {
        let _infallible = write!(text, "\n  {key}");
    }
    Failure::new(text).hint("Restart the proxy, or put their old values back.")
}

fn not_at_all(problems: &[String]) -> Failure {
    let mut text = "the configuration was not reloaded, nothing was changed".to_owned();
    for problem in problems {
        let _infallible = write!(text, "\n{problem}");
    }
    Failure::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_done_is_said_with_its_reason() {
        let text = in_part(&["runtime.threads".to_owned(), "server".to_owned()]).to_string();
        assert!(text.contains("need a restart\n  runtime.threads\n  server\n  HINT: "), "{text}");
        let text = not_at_all(&["a.toml:3: health.max_lag: no\n  HINT: Write it.".to_owned()]).to_string();
        assert!(
            text.contains("nothing was changed\na.toml:3: health.max_lag: no\n  HINT: Write it."),
            "{text}"
        );
    }
}
