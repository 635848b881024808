//! Passwords of users for the servers, printed by a command: `[auth] password_command`.
//!
//! For sessions whose login at the proxy has left nothing that a server takes: a client that came by its certificate, or a
//! server that wants the password or a token itself. A password is kept until a server refuses it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::password_command::run;

/// Users whose passwords are kept; one more, and all are forgotten.
const USERS_MAX: usize = 10_000;

/// Runs of the command at one time.
const RUNS_MAX: usize = 8;

/// Least time between two runs for one user.
const RUN_PAUSE: Duration = Duration::from_secs(1);

/// A password, shared by the sessions that log in with it.
pub type SharedPassword = Arc<Zeroizing<String>>;

/// The passwords that the command has printed. Clones share.
#[derive(Clone, Debug)]
pub struct SessionPasswords {
    command: Arc<[String]>,
    runtime: Handle,
    users: Arc<Mutex<HashMap<Box<str>, Arc<UserPassword>>>>,
    runs: Arc<Semaphore>,
}

/// One user's. The lock is held while the command runs, so that many logins share one run.
#[derive(Default)]
struct UserPassword(tokio::sync::Mutex<Option<Printed>>);

impl std::fmt::Debug for UserPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserPassword(..)")
    }
}

/// What the last run printed, and when it ended.
struct Printed {
    password: Option<SharedPassword>,
    at: Instant,
}

impl SessionPasswords {
    /// Runs `command`, with the user's name as its last argument, on `runtime`.
    #[must_use]
    pub fn new(command: Vec<String>, runtime: Handle) -> Self {
        let runs = Arc::new(Semaphore::new(RUNS_MAX));
        Self { command: command.into(), runtime, users: Arc::default(), runs }
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// The user's password; `None`, and a line in the log, if the command prints none. Never waits longer than for some
    /// runs of the command.
    pub async fn of(&self, user: &str) -> Option<SharedPassword> {
        self.find(user, None).await
    }

    /// Another one than that which a server has refused; `None` if the command has no other.
    pub async fn instead(&self, user: &str, refused: &SharedPassword) -> Option<SharedPassword> {
        self.find(user, Some(refused)).await.filter(|password| !Arc::ptr_eq(password, refused))
    }

    async fn find(&self, user: &str, refused: Option<&SharedPassword>) -> Option<SharedPassword> {
        let entry = self.entry(user);
        let mut printed = entry.0.lock().await;
        if let Some(Printed { password, at }) = &*printed {
            let is_refused = match (password, refused) {
                (Some(password), Some(refused)) => Arc::ptr_eq(password, refused),
                (Some(_), None) => false,
                // It failed: it may print one by now.
                (None, _) => true,
            };
            if !is_refused || at.elapsed() < RUN_PAUSE {
                return password.clone();
            }
        }
        let password = self.run(user).await;
        *printed = Some(Printed { password: password.clone(), at: Instant::now() });
        password
    }

    fn entry(&self, user: &str) -> Arc<UserPassword> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = users.get(user) {
            return Arc::clone(entry);
        }
        if users.len() >= USERS_MAX {
            users.clear();
        }
        Arc::clone(users.entry(user.into()).or_default())
    }

    async fn run(&self, user: &str) -> Option<SharedPassword> {
        let (command, runs, user) = (Arc::clone(&self.command), Arc::clone(&self.runs), user.to_owned());
        let ran = self.runtime.spawn(async move {
            let _place = runs.acquire_owned().await;
            match run("[auth] password_command", &command, &[&user]).await {
                Ok(password) => Some(Arc::new(password)),
                Err(reason) => {
                    tracing::error!(
                        %reason, command = command.first(), db.user = %user,
                        hint = "run it by hand as the proxy's user: it is to print that user's password and nothing else",
                        "[auth] password_command gives no password"
                    );
                    None
                }
            }
        });
        ran.await.ok().flatten()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests run on tokio")]
mod tests {
    use super::*;

    fn passwords(script: &str) -> SessionPasswords {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        SessionPasswords::new(command, Handle::current())
    }

    #[tokio::test]
    async fn users_password_is_printed_once_and_anew_once_it_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let count = directory.path().join("count");
        let script = format!("echo x >> {0}; echo \"$0 $(wc -l < {0})\"", count.display());
        let passwords = passwords(&script);
        let both = tokio::join!(passwords.of("app"), passwords.of("app"));
        assert_eq!(both.0.as_ref().map(|password| password.as_str()), Some("app 1"));
        assert_eq!(both.1.as_ref().map(|password| password.as_str()), Some("app 1"));
        let first = both.0.expect("it was printed");
        assert!(passwords.instead("app", &first).await.is_none(), "no second run within a moment");
        tokio::time::sleep(RUN_PAUSE).await;
        let second = passwords.instead("app", &first).await.expect("it prints another");
        assert_eq!(second.as_str(), "app 2");
        let third = passwords.instead("app", &first).await.expect("another session has had it refused, too");
        assert!(Arc::ptr_eq(&second, &third));
    }

    #[tokio::test]
    async fn command_that_fails_is_tried_again_after_a_moment() {
        let directory = tempfile::tempdir().expect("a directory");
        let password = directory.path().join("password");
        let passwords = passwords(&format!("cat {}", password.display()));
        assert!(passwords.of("app").await.is_none());
        std::fs::write(&password, "secret").expect("the directory takes a file");
        tokio::time::sleep(RUN_PAUSE).await;
        assert_eq!(passwords.of("app").await.as_ref().map(|password| password.as_str()), Some("secret"));
    }
}
