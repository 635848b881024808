//! The files that the admin socket may be in when none is named.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The socket's name in its directory.
pub const FILE: &str = "admin.sock";

/// How the names of the demo's directories begin, below the temporary one.
pub const DEMO_PREFIX: &str = "trunkline-demo-";

/// The word for no socket.
pub const OFF: &str = "off";

/// The directory of the system's services.
const RUN: &str = "/run/trunkline";

/// The usual places, best first: the service manager's directory, the system's, the user's.
///
/// Source: systemd.exec(5), RuntimeDirectory, for `RUNTIME_DIRECTORY`; XDG Base Directory Specification for
/// `XDG_RUNTIME_DIR`. Paths that are not absolute are passed over.
#[must_use]
pub fn usual(environment: &HashMap<String, String>) -> Vec<PathBuf> {
    let variable = |name| environment.get(name).map(String::as_str).unwrap_or_default();
    let managed = variable("RUNTIME_DIRECTORY").split(':').map(PathBuf::from);
    let own = Path::new(variable("XDG_RUNTIME_DIR")).join("trunkline");
    let mut files: Vec<PathBuf> = Vec::new();
    for directory in managed.chain([PathBuf::from(RUN), own]) {
        let file = directory.join(FILE);
        if directory.is_absolute() && !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(variables: &[(&str, &str)]) -> Vec<PathBuf> {
        usual(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn files(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn the_managers_directory_comes_first_and_the_users_last() {
        assert_eq!(given(&[]), files(&["/run/trunkline/admin.sock"]));
        assert_eq!(
            given(&[("XDG_RUNTIME_DIR", "/run/user/7"), ("RUNTIME_DIRECTORY", "/run/a:/run/trunkline")]),
            files(&["/run/a/admin.sock", "/run/trunkline/admin.sock", "/run/user/7/trunkline/admin.sock"])
        );
    }

    #[test]
    fn what_is_no_absolute_path_is_passed_over() {
        assert_eq!(
            given(&[("XDG_RUNTIME_DIR", "here"), ("RUNTIME_DIRECTORY", "")]),
            files(&["/run/trunkline/admin.sock"])
        );
    }
}
