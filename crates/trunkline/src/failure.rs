//! How a command ends.

use std::fmt;
use std::process::ExitCode;

/// Exit status of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: it did what was asked.
    Success,
    /// 1: it failed while running.
    Failed,
    /// 2: the command line or the configuration is wrong. clap uses the same.
    Usage,
    /// The status of the command that was run, 128 + n for signal n.
    Of(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Of(status) => status,
        })
    }
}

/// What happened, to what, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// Exit status.
    pub exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure while running. Lower case, no full stop.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Failed, message: message.into(), hint: None }
    }

    /// A wrong command line or configuration.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Usage, ..Failure::new(message) }
    }

    /// The same failure with what to do about it, in whole sentences.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Makes a closure for `map_err`: "`what`: the error and its causes".
    pub fn because<E: std::error::Error>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |error| Failure::new(format!("{}: {}", what.into(), with_causes(&error)))
    }
}

/// An error and its causes on one line, each said once.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trunkline: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  HINT: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
