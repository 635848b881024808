//! Why the proxy did not start, or did not take new settings.

use std::io;
use std::path::PathBuf;

use trunkline_auth::secrets::UsersFileError;
use trunkline_control::ListenError;
use trunkline_hba::FileProblems;
use trunkline_health::LoginRefusal;
use trunkline_tls::accept::AcceptError;

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The proxy cannot listen on an address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The admin socket cannot be created.
    #[error("could not listen on the admin socket {}: {source}", path.display())]
    Admin {
        /// Its file.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// A worker thread or the like could not be started.
    #[error("could not start {what}: {source}")]
    Thread {
        /// What should have run there.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The secrets for `verify` authentication cannot be read.
    #[error("could not set up authentication: {0}")]
    Secrets(#[from] UsersFileError),
    /// The TLS of clients cannot be had.
    #[error("could not set up TLS for clients: {0}")]
    Tls(#[from] AcceptError),
    /// The rules for clients cannot be read.
    #[error("could not read the rules of hba_file: {0}")]
    Access(#[from] FileProblems),
    /// The operating system has no randomness.
    #[error("the operating system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Why nothing was changed by a reload.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// What the new settings need cannot be had.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A server refuses the monitoring role's new login.
    #[error(transparent)]
    Login(#[from] LoginRefusal),
}
