//! A users file that was read. It does not change before a reload, which opens another store: whoever asks looks in it without
//! waiting for the store's task, but for what takes milliseconds to make.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use super::secret::{Secret, Stored, Unusable};
use super::userlist::{self, UsersFileError};

/// Passwords whose verifiers are made as soon as a file is read: some seconds of one thread. Who has none yet waits for it once,
/// which a client can tell from the answer about a name that is not in the file.
const MADE_AHEAD_MAX: usize = 4096;

/// A users file and what was read of it.
pub(super) struct FileSecrets {
    path: PathBuf,
    users: HashMap<Box<str>, FileUser>,
}

struct FileUser {
    stored: Stored,
    /// Of a password, once its verifier has been made.
    made: OnceLock<Secret>,
}

impl fmt::Debug for FileSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSecrets({}, {} users)", self.path.display(), self.users.len())
    }
}

impl FileSecrets {
    /// # Errors
    /// When the file cannot be read or has errors: all of them, with their lines.
    pub(super) fn read(path: &Path) -> Result<Self, UsersFileError> {
        let user = |(name, stored)| (name, FileUser { stored, made: OnceLock::new() });
        let users = userlist::read(path)?.into_iter().map(user).collect();
        Ok(FileSecrets { path: path.to_owned(), users })
    }

    /// What the file has of a user.
    pub(super) fn stored(&self, user: &str) -> Stored {
        self.users.get(user).map_or(Stored::Unusable(Unusable::Unknown), |user| user.stored.clone())
    }

    /// The secret of a user; `None` for a password whose verifier is still to be made.
    pub(super) fn at_hand(&self, user: &str) -> Option<Secret> {
        let Some(user) = self.users.get(user) else { return Some(Secret::Unusable(Unusable::Unknown)) };
        match &user.stored {
            Stored::Scram(verifier) => Some(Secret::Scram(verifier.clone())),
            Stored::Md5(hash) => Some(Secret::Md5(hash.clone())),
            Stored::Unusable(why) => Some(Secret::Unusable(*why)),
            Stored::Cleartext(_) => user.made.get().cloned(),
        }
    }

    /// Keeps the secret that was made of a user's password. Returns what is kept: of two that were made at the same time, one.
    pub(super) fn keep(&self, user: &str, secret: Secret) -> Secret {
        match (self.users.get(user), &secret) {
            (Some(user), Secret::Password { .. }) => user.made.get_or_init(|| secret).clone(),
            (Some(_) | None, _) => secret,
        }
    }

    /// Makes the verifiers of all passwords, one after the other, for as long as somebody has the file.
    pub(super) async fn make_ahead(self: Arc<Self>) {
        let unmade = self.users.keys().filter(|user| self.at_hand(user).is_none());
        let users: Vec<Box<str>> = unmade.take(MADE_AHEAD_MAX).cloned().collect();
        let file: Weak<Self> = Arc::downgrade(&self);
        drop(self);
        for user in users {
            let Some(stored) = file.upgrade().filter(|file| file.at_hand(&user).is_none()) else { continue };
            let stored = stored.stored(&user);
            let secret = stored.derive(None).await;
            if let Some(file) = file.upgrade() {
                file.keep(&user, secret);
            }
        }
    }
}
