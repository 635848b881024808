//! `trunkline`: parse the command line, run the command, exit with its status.

use std::process::ExitCode;

use trunkline::cli::Cli;

fn main() -> ExitCode {
    match Cli::read().run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}
