//! `trunkline profile`.
use crate::{Exit, Failure};
/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:")]
pub(crate) struct Profile {}
impl Profile {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        Ok(Exit::Success)
    }
}
