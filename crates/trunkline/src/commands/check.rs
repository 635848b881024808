//! `trunkline check`.

use crate::config::flags::{Flags, ProxyFlags, ServerFlags};
use crate::config::{ConfigSources, checked, load, process_environment};
use crate::{Exit, Failure};

const AFTER: &str = "\
Examples:
  trunkline check                          ./trunkline.toml, environment and defaults
  trunkline check --config /etc/trunkline.toml
  trunkline check --config trunkline.toml && kill -HUP \"$(pidof trunkline)\"

Nothing is connected to. Exit status: 0 valid, 2 not valid.";

/// Flags of `trunkline check`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Check {
    #[command(flatten)]
    servers: ServerFlags,
    #[command(flatten)]
    proxy: ProxyFlags,
}

impl Check {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let flags = Flags::from(&self.servers).with_proxy(&self.proxy);
        let loaded = load(&ConfigSources { flags, environment: process_environment() });
        let from = loaded.file_shown();
        match checked::settings(loaded) {
            Ok(checked) => {
                crate::terminal::print(&format!("{from}: the configuration is valid\n{}", checked.summary()));
                Ok(Exit::Success)
            }
            Err(problems) => {
                eprintln!("{problems}");
                Ok(Exit::Usage)
            }
        }
    }
}
