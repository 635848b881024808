//! Where PostgreSQL's programs are.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ClusterError;

/// Where Debian's packages put each major version: `<here>/<major>/bin`.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// One installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgInstall {
    /// The directory of `postgres`, `initdb`, `pg_basebackup`, `psql`.
    pub bin: PathBuf,
    /// The libraries it brought along, when it is an unpacked archive and not a system package.
    pub lib: Option<PathBuf>,
    /// Its major version, such as 15.
    pub major: u32,
}

impl PgInstall {
    /// The PostgreSQL in the directory `explicit`, or the newest one of Debian's and those on `PATH`.
    ///
    /// # Errors
    /// [`ClusterError::NotInstalled`] when there is none, [`ClusterError::Tool`] when it does not run.
    pub fn find(explicit: Option<&Path>) -> Result<Self, ClusterError> {
        if let Some(bin) = explicit {
            return Self::at(bin);
        }
        let newest = debian_directories()
            .into_iter()
            .chain(path_directories())
            .filter(|bin| holds_server(bin))
            .filter_map(|bin| Self::at(&bin).ok())
            .max_by_key(|install| install.major);
        newest.ok_or_else(|| ClusterError::NotInstalled { searched: format!("{DEBIAN_ROOT} and PATH") })
    }

    /// The PostgreSQL whose programs are in `bin`.
    ///
    /// # Errors
    /// As [`PgInstall::find`].
    pub fn at(bin: &Path) -> Result<Self, ClusterError> {
        if !holds_server(bin) {
            return Err(ClusterError::NotInstalled { searched: bin.display().to_string() });
        }
        let bin = bin.canonicalize().map_err(ClusterError::io(format!("resolve {}", bin.display())))?;
        let mut install = Self { lib: bundled_libraries(&bin), bin, major: 0 };
        install.major = install.ask_major()?;
        Ok(install)
    }

    /// A command for one of its programs, with the environment that it needs and nothing of the caller's `PG*`.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        if let Some(lib) = &self.lib {
            command.env("LD_LIBRARY_PATH", lib);
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        // Error texts are matched and shown: one language for all machines.
        command.env("LC_ALL", "C").env("PGCONNECT_TIMEOUT", "10");
        command
    }

    fn ask_major(&self) -> Result<u32, ClusterError> {
        let output = self
            .command("postgres")
            .arg("--version")
            .output()
            .map_err(ClusterError::io(format!("run {}", self.bin.join("postgres").display())))?;
        let text = String::from_utf8_lossy(&output.stdout);
        parse_major(&text).ok_or_else(|| {
            let output_text = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
            ClusterError::Tool {
                tool: "postgres --version".into(),
                status: output.status.to_string(),
                hint: crate::error::hint_for(&output_text),
                output: output_text,
            }
        })
    }
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, also of `18beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn holds_server(bin: &Path) -> bool {
    ["postgres", "initdb", "pg_basebackup", "psql"].iter().all(|program| bin.join(program).is_file())
}

/// An unpacked archive has its own libpq beside its programs; system packages leave it to the loader.
fn bundled_libraries(bin: &Path) -> Option<PathBuf> {
    let lib = bin.parent()?.join("lib");
    lib.join("libpq.so.5").exists().then_some(lib)
}

fn debian_directories() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(DEBIAN_ROOT) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().join("bin")).collect()
}

fn path_directories() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::parse_major;

    #[test]
    fn major_version_is_read_from_releases_and_betas() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("bash: not found"), None);
    }
}
