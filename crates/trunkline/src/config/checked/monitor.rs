//! `[monitor]`, checked.

use tokio_postgres::config::SslMode;

use crate::config::raw::MonitorSection;
use crate::config::{Problem, Problems};

/// Role of the probes, and database, when none is written.
const DEFAULT_LOGIN: &str = "postgres";

/// How probes log in; hosts and ports come from the servers.
pub(super) fn monitor(monitor: &MonitorSection, problems: &mut Problems) -> Option<tokio_postgres::Config> {
    let conninfo = monitor.conninfo.value.as_deref().unwrap_or_default();
    let mut config: tokio_postgres::Config = match conninfo.parse() {
        Ok(config) => config,
        Err(_) => {
            // The error may repeat a part of the text, and the text holds a password.
            problems.push(
                Problem::new(&monitor.conninfo.source, "monitor.conninfo", "is not a valid connection string")
                    .hint("Write \"user=monitor password=secret dbname=postgres\", values with spaces in single quotes."),
            );
            return None;
        }
    };
    if !config.get_hosts().is_empty() || !config.get_ports().is_empty() {
        problems.push(
            Problem::new(&monitor.conninfo.source, "monitor.conninfo", "has a host or a port")
                .hint("Leave them out: every server is probed at its own address."),
        );
    }
    if config.get_ssl_mode() != SslMode::Prefer {
        problems.push(Problem::new(&monitor.conninfo.source, "monitor.conninfo", "has an sslmode").hint(
            "Write it in [server_tls], or in a [[server]]: it is one for all connections to a server.",
        ));
    }
    if let Some(user) = &monitor.user {
        config.user(user);
    }
    if let Some(password) = &monitor.password {
        config.password(password);
    }
    if let Some(dbname) = &monitor.dbname {
        config.dbname(dbname);
    }
    let command = &monitor.password_command;
    if command.value.is_some() && config.get_password().is_some() {
        problems.push(
            Problem::new(&command.source, "monitor.password_command", "is set together with a password")
                .hint("The password comes from one of them: delete the other, or the password in monitor.conninfo."),
        );
    }
    if config.get_user().is_none() {
        config.user(DEFAULT_LOGIN);
    }
    if config.get_dbname().is_none() {
        config.dbname(DEFAULT_LOGIN);
    }
    Some(config)
}
