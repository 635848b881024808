//! `trunkline adopt`: the cluster was re-initialised on purpose.

use hyper::Method;

use super::admin_socket::{AdminAnswer, AdminFlag};
use crate::{Exit, Failure, terminal};

const AFTER: &str = "\
Examples:
  trunkline adopt        after pg_upgrade, or a restore with a new identifier

Every server that answers must belong to the new cluster: stop the old ones, or put them in maintenance.
Without this command it is adopted by itself after [health] adopt_after.

Exit status: 0 adopted, 1 not adopted, 2 wrong command line.";

/// Flags of the command.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Adopt {
    #[command(flatten)]
    socket: AdminFlag,
}

impl Adopt {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let AdminAnswer { status, body, .. } = self.socket.ask(Method::POST, "/adopt")?;
        let said: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        if status != 200 {
            let why = said["error"].as_str().unwrap_or("it gave no reason");
            return Err(Failure::new(format!("no cluster was adopted: {why}")));
        }
        let system = said["system_identifier"].as_str().unwrap_or("unknown");
        terminal::print(&format!("adopted the cluster with the system identifier {system}\n"));
        Ok(Exit::Success)
    }
}
