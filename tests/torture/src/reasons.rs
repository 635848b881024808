//! Why a pooler keeps server connections for single clients, as it says itself.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, bail};

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A command of the shell that prints a reason on a line for each client whose server connection is kept for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasonsCommand(String);

impl ReasonsCommand {
    /// The command.
    #[must_use]
    pub fn new(command: String) -> Self {
        Self(command)
    }

    /// The reasons of now. Empty lines, `-` and `null` are none.
    ///
    /// # Errors
    /// The command cannot be run, fails or prints too much.
    pub fn ask(&self) -> anyhow::Result<BTreeSet<String>> {
        let output = Command::new("sh").arg("-c").arg(&self.0).output().with_context(|| self.0.clone())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} ends with {}: {}", self.0, output.status, said.trim());
        }
        if output.stdout.len() > ANSWER_BYTES_MAX {
            bail!("{} prints more than {ANSWER_BYTES_MAX} bytes", self.0);
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().map(str::trim).filter(|line| !["", "-", "null"].contains(line));
        Ok(lines.map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_reason() {
        let ask = |command: &str| ReasonsCommand::new(command.to_owned()).ask();
        let reasons = ask("printf 'LISTEN\\n\\nnull\\n-\\n LISTEN\\nLOAD\\n'").expect("it runs");
        assert_eq!(reasons.into_iter().collect::<Vec<_>>(), ["LISTEN", "LOAD"]);
        let error = ask("echo gone >&2; exit 3").expect_err("it fails").to_string();
        assert!(error.contains("exit status: 3") && error.contains("gone"), "{error}");
    }
}
