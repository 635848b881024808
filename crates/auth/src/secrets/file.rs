//! A users file that was read. It does not change before a reload, which opens another store: whoever asks looks in it without
//! waiting for the store's task, but for what takes milliseconds to make.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::secret::{Secret, Stored, Unusable};
use super::userlist::{self, UsersFileError};

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

    /// Keeps the secret that was made of a user's password.
    pub(super) fn keep(&self, user: &str, secret: &Secret) {
        if let (Some(user), Secret::Password { .. }) = (self.users.get(user), secret) {
            // Of two that were made at the same time, one will do.
            let _other = user.made.set(secret.clone());
        }
    }
}
