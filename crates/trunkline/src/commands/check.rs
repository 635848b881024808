//! `trunkline check`.

mod auth;
mod connect;
mod pools;
mod report;
mod sources;

use std::path::Path;
use std::sync::Arc;

use trunkline_auth::secrets::{UsersFileError, UsersFileProblem, check_users_file};

use crate::config::flags::{Flags, ProxyFlags, ServerFlags};
use crate::config::raw::RawConfig;
use crate::config::{ConfigSources, Problem, Problems, Source, checked, load, process_environment};
use crate::{Exit, Failure};

const AFTER: &str = "\
Examples:
  trunkline check               ./trunkline.toml, environment and defaults
  trunkline check --config /etc/trunkline.toml
  trunkline config default | trunkline check --config -
  trunkline check --connect --config trunkline.toml
      reachable, login, rights, roles, timelines, lag
  trunkline check --config trunkline.toml && kill -HUP \"$(pidof trunkline)\"

Without --connect nothing is connected to. With it each source of [discovery] is asked first, within 10 s, then every server,
side by side, with the login of the monitoring role, within 20 s. BEHIND is WAL that the primary had and the standby has not replayed.

Exit status: 0 valid, 1 valid but something is wrong with a server or a source (--connect), 2 not valid.";

/// Flags of `trunkline check`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Check {
    /// Ask the sources and the servers, too: reachable, login, rights, role, timeline, version, lag
    #[arg(long)]
    connect: bool,
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
        let of_users = users_file_problems(&loaded.raw);
        let checked = match checked::settings(loaded) {
            Ok(_) if !of_users.is_empty() => Err(Problems(of_users)),
            Err(Problems(problems)) => Err(Problems([problems, of_users].concat())),
            valid => valid,
        };
        match checked {
            Ok(checked) => {
                checked.warnings.0.iter().for_each(|warning| eprintln!("warning: {warning}"));
                crate::terminal::print(&format!("{from}: the configuration is valid\n{}", checked.summary()));
                if self.connect { connect::run(checked) } else { Ok(Exit::Success) }
            }
            Err(problems) => {
                eprintln!("{problems}");
                Ok(Exit::Usage)
            }
        }
    }
}

/// What is wrong with the lines of the users file. Whether it can be read at all is checked with the other keys.
fn users_file_problems(raw: &RawConfig) -> Vec<Problem> {
    let Some(file) = &raw.auth.users_file.value else { return Vec::new() };
    if !raw.proxy.auth.may_read_secrets() || !Path::new(file).is_file() {
        return Vec::new();
    }
    let Err(UsersFileError::Invalid { problems, .. }) = check_users_file(Path::new(file)) else {
        return Vec::new();
    };
    let path: Arc<str> = Arc::from(file.as_str());
    let problem = |found: UsersFileProblem| {
        let source = Source::File { path: Arc::clone(&path), line: found.line };
        Problem::new(&source, "", found.kind.to_string())
            .hint("Lines are \"user\" \"secret\", as in PgBouncer's userlist.txt.")
    };
    problems.into_iter().map(problem).collect()
}
