//! What can go wrong, in words for the person at the terminal.

use std::path::PathBuf;
use std::time::Duration;

/// Why a cluster or one of its servers did not do what was asked. Its text ends with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No directory with `postgres` and `initdb` was found.
    #[error(
        "no PostgreSQL server programs found in {searched}\n\
         HINT: install them with \"apt-get install postgresql\", or name a directory that holds postgres, initdb, \
         pg_basebackup and psql (trunkline demo: --pg-bin)."
    )]
    NotInstalled {
        /// Where it was looked for.
        searched: String,
    },
    /// Running as root, and the OS user that the servers should run as does not exist.
    #[error(
        "PostgreSQL refuses to run as root, and there is no OS user \"{user}\" to run it as\n\
         HINT: install Debian's postgresql package, which creates it, or run \"useradd --system {user}\"."
    )]
    NoServerAccount {
        /// The missing user.
        user: &'static str,
    },
    /// The servers' OS user may not enter a directory it needs.
    #[error(
        "OS user \"{user}\" cannot enter {}\n\
         HINT: choose a directory below /tmp, or let others enter it with \"chmod o+x\".",
        directory.display()
    )]
    Unreachable {
        /// The servers' user.
        user: String,
        /// The first directory on the way that refuses.
        directory: PathBuf,
    },
    /// The directory for a new cluster already holds something.
    #[error(
        "{} is not empty\n\
         HINT: a cluster is created in a directory of its own and removes it at the end; name another one.",
        directory.display()
    )]
    NotEmpty {
        /// That directory.
        directory: PathBuf,
    },
    /// A PostgreSQL program ended with an error.
    #[error("{tool} ended with {status}\n{output}\nHINT: {hint}")]
    Tool {
        /// Its name, without the path.
        tool: String,
        /// Its exit status.
        status: String,
        /// The last lines it wrote.
        output: String,
        /// What to do.
        hint: &'static str,
    },
    /// A server ended while starting, or was not ready in time.
    #[error("server \"{server}\" {how}; the end of its log is\n{log}\nHINT: {hint}")]
    NotStarted {
        /// The server's name.
        server: String,
        /// How it failed.
        how: String,
        /// The last lines of its log.
        log: String,
        /// What to do.
        hint: &'static str,
    },
    /// A server did not end in time.
    #[error(
        "server \"{server}\" did not stop within {} s\n\
         HINT: a smart shutdown waits for every session to end; a fast one ends them.",
        waited.as_secs()
    )]
    NotStopped {
        /// The server's name.
        server: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A statement failed.
    #[error("statement on server \"{server}\" failed: {message}\nSTATEMENT: {sql}")]
    Statement {
        /// The server's name.
        server: String,
        /// What `psql` said.
        message: String,
        /// The statement.
        sql: String,
    },
    /// Something that was waited for did not happen.
    #[error(
        "waited {} s in vain until {what}\nHINT: the machine may be overloaded, or the server's log tells more.",
        waited.as_secs()
    )]
    TimedOut {
        /// What should have happened.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// No port could be had.
    #[error("no free port between {first} and {last} on 127.0.0.1\nHINT: end other servers on this machine.")]
    NoPort {
        /// Lowest port tried.
        first: u16,
        /// Highest port tried.
        last: u16,
    },
    /// The operating system refused something.
    #[error("could not {what}: {source}")]
    Io {
        /// What was tried, as words after "could not".
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl ClusterError {
    /// An [`ClusterError::Io`] maker for `map_err`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// The hint that fits the end of a server's or a program's log.
pub(crate) fn hint_for(log: &str) -> &'static str {
    const KNOWN: [(&str, &str); 7] = [
        ("Address already in use", "another process took the port; try again."),
        ("No space left on device", "free some disk space, or choose another directory."),
        (
            "Permission denied",
            "the servers' OS user needs access to that path; a directory below /tmp is safe.",
        ),
        (
            "could not create shared memory segment",
            "raise kernel.shmmax and kernel.shmmni, or end other servers.",
        ),
        (
            "error while loading shared libraries",
            "a library that this PostgreSQL needs is missing; install it.",
        ),
        ("unrecognized configuration parameter", "this PostgreSQL version does not know that setting."),
        ("Cannot allocate memory", "free some memory, or start fewer replicas."),
    ];
    KNOWN
        .iter()
        .find(|(text, _)| log.contains(text))
        .map_or("the lines above say what PostgreSQL missed.", |(_, hint)| hint)
}
