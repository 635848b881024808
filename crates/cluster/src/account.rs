//! The OS user that the servers run as: PostgreSQL refuses to be root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

use crate::ClusterError;

/// Debian's packages create this user, and so do most others.
const SERVER_USER: &str = "postgres";

/// Who runs the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAccount {
    /// The caller, who is not root.
    Caller,
    /// The caller is root: its servers run as this user.
    Dropped {
        /// User name.
        name: String,
        /// User id.
        uid: Uid,
        /// Primary group id.
        gid: Gid,
    },
}

impl ServerAccount {
    /// The caller, or `postgres` when the caller is root.
    ///
    /// # Errors
    /// [`ClusterError::NoServerAccount`] for root without an OS user `postgres`.
    pub fn detect() -> Result<Self, ClusterError> {
        if !Uid::effective().is_root() {
            return Ok(Self::Caller);
        }
        match User::from_name(SERVER_USER) {
            Ok(Some(user)) => Ok(Self::Dropped { name: user.name, uid: user.uid, gid: user.gid }),
            Ok(None) | Err(_) => Err(ClusterError::NoServerAccount { user: SERVER_USER }),
        }
    }

    /// Makes `command` run as this account.
    pub(crate) fn apply(&self, command: &mut Command) {
        match self {
            Self::Caller => {}
            Self::Dropped { uid, gid, .. } => {
                command.uid(uid.as_raw()).gid(gid.as_raw()).env("HOME", "/");
            }
        }
    }

    /// Creates the directory `path` for this account only.
    pub(crate) fn create_directory(&self, path: &Path) -> Result<(), ClusterError> {
        let what = || format!("create directory {}", path.display());
        std::fs::create_dir_all(path).map_err(ClusterError::io(what()))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .map_err(ClusterError::io(what()))?;
        self.own(path)
    }

    /// Gives the file `path` to this account.
    pub(crate) fn own(&self, path: &Path) -> Result<(), ClusterError> {
        match self {
            Self::Caller => Ok(()),
            Self::Dropped { uid, gid, name } => {
                std::os::unix::fs::chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
                    .map_err(ClusterError::io(format!("give {} to OS user \"{name}\"", path.display())))
            }
        }
    }

    /// Refuses a `path` below a directory that this account cannot enter, before a program fails on it obscurely.
    pub(crate) fn check_can_enter(&self, path: &Path) -> Result<(), ClusterError> {
        let Self::Dropped { name, uid, gid } = self else { return Ok(()) };
        for directory in path.ancestors().skip(1).filter(|ancestor| !ancestor.as_os_str().is_empty()) {
            let Ok(meta) = directory.metadata() else { continue };
            let bit = if meta.uid() == uid.as_raw() {
                0o100
            } else if meta.gid() == gid.as_raw() {
                0o010
            } else {
                0o001
            };
            if meta.mode() & bit == 0 {
                return Err(ClusterError::Unreachable {
                    user: name.clone(),
                    directory: directory.to_path_buf(),
                });
            }
        }
        Ok(())
    }
}
