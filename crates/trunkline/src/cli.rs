//! The command line.

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::admin::{self, WantedState};
#[cfg(feature = "demo")]
use crate::commands::demo;
use crate::commands::{
    adopt, check, completions, config, explain, health, init, init_sql, profile, reload, serve, server,
    sessions, status,
};
use crate::{Exit, Failure};

const AFTER: &str = "\
Examples:
  trunkline demo              a primary, two replicas, and Trunkline in front
  trunkline init --from SOURCE       a configuration from what is there
  trunkline init-sql          SQL for the monitoring role of your servers
  trunkline serve --config trunkline.toml
  trunkline status --watch    which server serves, which does not, and why
  trunkline profile -n 20 \"SELECT 1\"      where a query's time goes

Exit status: 0 done, 1 failed while running, 2 wrong command line or configuration.";

/// One PostgreSQL endpoint in front of a primary and its streaming replicas.
///
/// Reads go to replicas that are alive and fresh, every statement can be timed, and the death of a replica is
/// hidden from clients.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, after_long_help = AFTER, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy, with its health checks
    Serve(serve::Serve),
    /// Run only the health checks: HTTP and agent-check for HAProxy
    Health(health::HealthCommand),
    /// Check the configuration and report every problem at once
    Check(check::Check),
    /// Print a configuration file
    Config(config::Config),
    /// Make a configuration from a live cluster, Patroni, PgBouncer or HAProxy
    Init(init::Init),
    /// Print the SQL that creates the monitoring role
    InitSql(init_sql::InitSql),
    /// Run a query through the endpoint and print where its time goes
    Profile(profile::Profile),
    /// Print the servers: role, state, lag, sessions, and why
    Status(status::Status),
    /// List the sessions: who, on which server, and what keeps them there
    Sessions(sessions::SessionsCommand),
    /// Say where a request would go by a listener with route = "statement", and why
    Explain(explain::ExplainCommand),
    /// Add, change or remove a server of the running proxy
    Server(server::ServerCommand),
    /// Give a server no new sessions, and move those it has
    Drain(admin::Admin),
    /// Take a server out of service
    Maint(admin::Admin),
    /// Put a drained server, or one in maintenance, back to work
    #[command(alias = "undrain")]
    Ready(admin::Admin),
    /// Have the running proxy read its configuration again
    Reload(reload::Reload),
    /// Go on with a cluster that was re-initialised, under its new system identifier
    Adopt(adopt::Adopt),
    #[cfg(feature = "demo")]
    /// Start a throw-away cluster with Trunkline in front of it
    Demo(demo::Demo),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

/// The whole command line. Texts are broken where the terminal ends, and nowhere else.
#[must_use]
pub fn command() -> clap::Command {
    fn joined(command: clap::Command) -> clap::Command {
        match command.get_after_long_help().map(|text| join_paragraphs(&text.to_string())) {
            Some(text) => command.after_long_help(text),
            None => command,
        }
    }
    joined(Cli::command()).mut_subcommands(joined)
}

/// One line for each paragraph; lines that begin with blanks, such as examples, stay as they are.
fn join_paragraphs(text: &str) -> String {
    let mut out = String::new();
    let mut is_open = false;
    for line in text.lines() {
        let is_prose = !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
        if !out.is_empty() {
            out.push(if is_open && is_prose { ' ' } else { '\n' });
        }
        out.push_str(line);
        is_open = is_prose;
    }
    out
}

impl Cli {
    /// Reads the process's arguments. Ends the process where they are wrong or ask for help.
    #[must_use]
    pub fn read() -> Self {
        Self::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What happened and what to do about it, for the terminal.
    pub fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Health(health) => health.run(),
            Command::Check(check) => check.run(),
            Command::Config(config) => Ok(config.run()),
            Command::Init(init) => init.run(),
            Command::InitSql(init_sql) => Ok(init_sql.run()),
            Command::Profile(profile) => profile.run(),
            Command::Status(status) => status.run(),
            Command::Sessions(sessions) => sessions.run(),
            Command::Explain(explain) => explain.run(),
            Command::Server(server) => server.run(),
            Command::Drain(admin) => admin.run(WantedState::Drain),
            Command::Maint(admin) => admin.run(WantedState::Maint),
            Command::Ready(admin) => admin.run(WantedState::Ready),
            Command::Reload(reload) => reload.run(),
            Command::Adopt(adopt) => adopt.run(),
            #[cfg(feature = "demo")]
            Command::Demo(demo) => demo.run(),
            Command::Completions(completions) => Ok(completions.run(command())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{command, join_paragraphs};

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_that_fit_a_terminal() {
        for command in command().get_subcommands() {
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{} has no examples", command.get_name());
            let wide = help.lines().find(|line| line.starts_with(' ') && line.chars().count() > 80);
            assert_eq!(wide, None, "{}: an example of more than 80 columns", command.get_name());
        }
    }

    #[test]
    fn a_paragraph_is_one_line() {
        let text = "Examples:\n  trunkline a\n      --b\n\none\ntwo.\n\nthree";
        assert_eq!(join_paragraphs(text), "Examples:\n  trunkline a\n      --b\n\none two.\n\nthree");
    }
}
