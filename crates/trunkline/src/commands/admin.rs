//! `trunkline drain`, `trunkline maint` and `trunkline ready`: set the administrative state of a server.

use hyper::Method;

use super::admin_socket::{AdminAnswer, AdminFlag};
use crate::{Exit, Failure, terminal};

const AFTER: &str = "\
Examples:
  trunkline drain replica1    no new sessions; those it has move on as they can
  trunkline maint replica1    the same, and out of the checks' good books
  trunkline ready replica1    back to work
  trunkline drain replica1 --admin /tmp/a.sock
      the socket of `trunkline serve --admin /tmp/a.sock`

It holds until the proxy ends or reads its configuration again, where [[server]] state says the same for good.

Exit status: 0 done, 1 not done, 2 wrong command line.";

/// Flags of the three commands.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Admin {
    /// The server's name
    #[arg(value_name = "SERVER")]
    server: String,
    #[command(flatten)]
    socket: AdminFlag,
}

/// The administrative state to set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WantedState {
    Ready,
    Drain,
    Maint,
}

impl WantedState {
    fn word(self) -> &'static str {
        match self {
            WantedState::Ready => "ready",
            WantedState::Drain => "drain",
            WantedState::Maint => "maint",
        }
    }
}

impl Admin {
    pub(crate) fn run(self, wanted: WantedState) -> Result<Exit, Failure> {
        let path = format!("/servers/{}/{}", self.server, wanted.word());
        let AdminAnswer { status, body, .. } = self.socket.ask(Method::POST, &path)?;
        if status != 200 {
            let said: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            let why = said["error"].as_str().unwrap_or("it gave no reason").to_owned();
            return Err(Failure::new(format!("{} was not set to {}: {why}", self.server, wanted.word())));
        }
        terminal::print(&format!("{}: {}\n", self.server, wanted.word()));
        Ok(Exit::Success)
    }
}
