//! `trunkline config`.

use clap::Subcommand;

use crate::Exit;
use crate::config::{reference, sample};

const AFTER: &str = "\
Examples:
  trunkline config default > trunkline.toml
  trunkline check --config trunkline.toml";

/// Flags of `trunkline config`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Config {
    #[command(subcommand)]
    what: ConfigAction,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Print a file with every key at its default
    Default,
    /// Print every key as a Markdown page (docs/configuration.md)
    Reference,
}

impl Config {
    pub(crate) fn run(self) -> Exit {
        crate::terminal::print(&match self.what {
            ConfigAction::Default => sample::sample(),
            ConfigAction::Reference => reference::reference(),
        });
        Exit::Success
    }
}
