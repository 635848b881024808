//! `trunkline completions`.

use clap_complete::Shell;

use crate::{Exit, terminal};

const AFTER: &str = "\
Examples:
  trunkline completions bash > /etc/bash_completion.d/trunkline
  trunkline completions zsh > \"${fpath[1]}/_trunkline\"
  trunkline completions fish > ~/.config/fish/completions/trunkline.fish";

/// Flags of `trunkline completions`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Completions {
    /// The shell
    shell: ShellName,
}

/// The shells whose completions are tested.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    /// Prints the script for `command`, the whole command line.
    pub(crate) fn run(self, mut command: clap::Command) -> Exit {
        let shell = match self.shell {
            ShellName::Bash => Shell::Bash,
            ShellName::Zsh => Shell::Zsh,
            ShellName::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "trunkline", &mut script);
        terminal::print(&String::from_utf8_lossy(&script));
        Exit::Success
    }
}
