//! `trunkline`: parse the command line, run the command, exit with its status.

use std::process::ExitCode;

use clap::Parser as _;
use trunkline::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}
