//! Finds the admin socket of a running proxy, and asks it.
//!
//! A path that is named is the only one asked. Otherwise those of [`admin_places`] are, in their order, and then the
//! sockets of demos that this user runs. The first that takes the connection gets the request.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use nix::unistd::Uid;
use tokio::net::UnixStream;

use super::fetch::{TIMEOUT, block_on, exchange};
use crate::Failure;
use crate::config::admin_places::{self, DEMO_PREFIX, FILE};
use crate::config::process_environment;

/// Most demos whose sockets are tried.
const DEMOS_MAX: usize = 16;

/// Where the admin socket is, as a flag.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AdminFlag {
    /// Path of the proxy's admin socket [default: the first that answers of /run/trunkline/admin.sock, the same in
    /// $XDG_RUNTIME_DIR, and a demo's]
    #[arg(long, value_name = "PATH", env = "TRUNKLINE_ADMIN")]
    admin: Option<PathBuf>,
}

/// What a socket answered.
#[derive(Debug)]
pub(crate) struct AdminAnswer {
    pub(crate) socket: PathBuf,
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Why nothing was asked or answered.
#[derive(Debug)]
pub(crate) enum AdminError {
    /// No socket took the connection: where it was looked, and what was found there.
    NoneAnswers(Vec<(PathBuf, io::Error)>),
    /// Several demos run, and nobody said which is meant.
    Several(Vec<PathBuf>),
    /// The connection was taken, and no answer came.
    NoAnswer(PathBuf, io::Error),
}

impl AdminFlag {
    /// Asks for `path`.
    pub(crate) fn ask(&self, method: Method, path: &str) -> Result<AdminAnswer, Failure> {
        self.ask_within(TIMEOUT, method, path)
    }

    /// The same for a request that may take up to `limit`.
    pub(crate) fn ask_within(
        &self,
        limit: Duration,
        method: Method,
        path: &str,
    ) -> Result<AdminAnswer, Failure> {
        let asked = match &self.admin {
            Some(named) => ask_first(limit, std::slice::from_ref(named), &[], method, path),
            None => ask_first(limit, &usual(), &demos(&std::env::temp_dir()), method, path),
        };
        asked.map_err(|error| error.into_failure(self.admin.is_some()))
    }
}

/// The usual places of this process.
pub(crate) fn usual() -> Vec<PathBuf> {
    admin_places::usual(&process_environment())
}

/// The sockets of the demos that this user runs. Those of others are passed over: anybody may make one there.
pub(crate) fn demos(temporary: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(temporary) else { return Vec::new() };
    let is_ours = |path: &PathBuf| {
        std::fs::symlink_metadata(path).is_ok_and(|found| found.uid() == Uid::effective().as_raw())
    };
    let named = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(DEMO_PREFIX)));
    named.map(|entry| entry.path().join(FILE)).filter(is_ours).take(DEMOS_MAX).collect()
}

/// Asks the first of `places` that takes the connection, or the one of `demos` that does.
pub(crate) fn ask_first(
    limit: Duration,
    places: &[PathBuf],
    demos: &[PathBuf],
    method: Method,
    path: &str,
) -> Result<AdminAnswer, AdminError> {
    let asked = block_on(limit, async {
        let found = find(places, demos).await;
        Ok(match found {
            Err(error) => Err(error),
            Ok((socket, stream)) => match exchange(stream, method, "localhost", path).await {
                Ok((status, body)) => Ok(AdminAnswer { socket, status, body }),
                Err(error) => Err(AdminError::NoAnswer(socket, error)),
            },
        })
    });
    // Only the time limit, or no runtime, ends it otherwise.
    asked.unwrap_or_else(|error| {
        let first = places.first().or(demos.first()).cloned().unwrap_or_default();
        Err(AdminError::NoAnswer(first, error))
    })
}

async fn find(places: &[PathBuf], demos: &[PathBuf]) -> Result<(PathBuf, UnixStream), AdminError> {
    let mut looked = Vec::new();
    for place in places {
        match UnixStream::connect(place).await {
            Ok(stream) => return Ok((place.clone(), stream)),
            Err(error) => looked.push((place.clone(), error)),
        }
    }
    let mut found = Vec::new();
    for demo in demos {
        match UnixStream::connect(demo).await {
            Ok(stream) => found.push((demo.clone(), stream)),
            Err(error) => looked.push((demo.clone(), error)),
        }
    }
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(AdminError::NoneAnswers(looked)),
        (Some(only), true) => Ok(only),
        (Some((last, _)), false) => {
            Err(AdminError::Several(found.into_iter().map(|(path, _)| path).chain([last]).collect()))
        }
    }
}

impl AdminError {
    /// The failure, with what to do.
    pub(crate) fn into_failure(self, is_named: bool) -> Failure {
        match self {
            AdminError::NoneAnswers(looked) => none_answers(&looked, is_named),
            AdminError::Several(demos) => Failure::new("several demos run here").hint(format!(
                "Say which with --admin: {}.",
                listed(demos.iter().map(|path| path.display()))
            )),
            AdminError::NoAnswer(socket, error) => {
                Failure::new(format!("no answer from the admin socket {}: {error}", socket.display()))
                    .hint("Its proxy is there and does not answer: look at its log.")
            }
        }
    }
}

fn none_answers(looked: &[(PathBuf, io::Error)], is_named: bool) -> Failure {
    let first = |kind| looked.iter().find(|(_, error)| error.kind() == kind).map(|(path, _)| path);
    let (message, mut hint) = if let Some(path) = first(io::ErrorKind::PermissionDenied) {
        let message = format!("permission denied on the admin socket {}", path.display());
        (
            message,
            format!("Only its owner{} may use it: run this command as that user, or as root.", owner(path)),
        )
    } else if let Some(path) = first(io::ErrorKind::ConnectionRefused) {
        let message = format!("the proxy of the admin socket {} is not running", path.display());
        (
            message,
            "A process that has ended left the socket behind; the next `trunkline serve` replaces it."
                .to_owned(),
        )
    } else if is_named && let Some((path, error)) = looked.first() {
        let message = format!("could not open the admin socket {}: {}", path.display(), in_words(error));
        (
            message,
            "A running `trunkline serve` says at its start where its socket is (\"ready: admin on\")."
                .to_owned(),
        )
    } else {
        let message = "no running proxy with an admin socket was found".to_owned();
        (
            message,
            "Start `trunkline serve`, or name the socket of one that runs with --admin PATH.".to_owned(),
        )
    };
    if !is_named {
        let places = looked.iter().map(|(path, error)| format!("{} ({})", path.display(), in_words(error)));
        let _infallible = write!(
            hint,
            "\n  Looked at {}, and for demos in {}.",
            listed(places),
            std::env::temp_dir().display()
        );
    }
    Failure::new(message).hint(hint)
}

/// The owner, if that can be seen.
fn owner(path: &Path) -> String {
    let uid = std::fs::symlink_metadata(path).map(|found| Uid::from_raw(found.uid()));
    let name = |uid| nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    match uid {
        Ok(uid) => format!(" ({})", name(uid).unwrap_or_else(|| format!("uid {uid}"))),
        Err(_) => String::new(),
    }
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody answers".to_owned(),
        _ => error.to_string(),
    }
}

fn listed(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn failure(places: &[PathBuf], is_named: bool) -> String {
        let error = ask_first(TIMEOUT, places, &[], Method::GET, "/sessions").expect_err("nobody is there");
        error.into_failure(is_named).to_string()
    }

    #[test]
    fn what_is_wrong_with_a_socket_has_its_own_message_and_hint() {
        let directory = tempfile::tempdir().expect("a directory");
        let (missing, stale) = (directory.path().join("missing"), directory.path().join("stale"));
        drop(UnixListener::bind(&stale).expect("free"));
        let said = failure(std::slice::from_ref(&missing), true);
        assert!(said.contains("missing: no such file\n  HINT: A running `trunkline serve` says"), "{said}");
        assert!(!said.contains("Looked at"), "{said}");
        let said = failure(&[missing.clone(), stale], false);
        assert!(said.contains("/stale is not running\n  HINT: A process that has ended left"), "{said}");
        let looked = format!("Looked at {} (no such file), ", missing.display());
        assert!(
            said.contains(&looked) && said.contains("/stale (nobody answers), and for demos in"),
            "{said}"
        );
        assert!(failure(&[missing], false).contains("no running proxy with an admin socket was found"));
    }

    #[test]
    fn a_socket_that_may_not_be_opened_says_whose_it_is() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admin.sock");
        std::fs::write(&path, "").expect("writable");
        let said = none_answers(&[(path, denied)], false).to_string();
        let uid = Uid::effective();
        let name =
            nix::unistd::User::from_uid(uid).ok().flatten().map_or(format!("uid {uid}"), |user| user.name);
        assert!(said.contains(&format!("Only its owner ({name}) may use it")), "{said}");
        assert!(said.contains("permission denied on the admin socket"), "{said}");
    }

    #[test]
    fn a_demo_is_found_by_its_directory_and_two_have_to_be_told_apart() {
        let temporary = tempfile::tempdir().expect("a directory");
        let socket = |name: &str| {
            let directory = temporary.path().join(name);
            std::fs::create_dir(&directory).expect("free");
            UnixListener::bind(directory.join(FILE)).expect("free")
        };
        let connected = |demos: &[PathBuf]| {
            block_on(TIMEOUT, async { Ok(find(&[], demos).await.map(|(path, _)| path)) }).expect("a runtime")
        };
        let _other = socket("something-else");
        assert!(demos(temporary.path()).is_empty());
        let _one = socket("trunkline-demo-1");
        let found = demos(temporary.path());
        assert_eq!(found, [temporary.path().join("trunkline-demo-1").join(FILE)]);
        assert_eq!(connected(&found).expect("one demo"), found[0]);
        let _two = socket("trunkline-demo-2");
        let error = connected(&demos(temporary.path())).expect_err("which of them?");
        let said = error.into_failure(false).to_string();
        assert!(said.contains("trunkline-demo-1/admin.sock") && said.contains("trunkline-demo-2/"), "{said}");
    }
}
