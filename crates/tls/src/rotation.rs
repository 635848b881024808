//! Files that are replaced while they are in use.
//!
//! A certificate is renewed every few weeks or days, by whoever writes its file: certbot, or Kubernetes, which swaps a
//! symbolic link. What was made of the old files stays in force until new ones are in order.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

/// What is presented to peers, for those who watch over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Its path, or what stands for one.
    pub file: String,
    /// When it expires, in seconds since 1970.
    pub expires_at: i64,
    /// Its key is RSA: each signature takes several times as long as one by ECDSA.
    pub is_rsa: bool,
}

/// What a look at the files has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The files are those of the last look.
    Unchanged,
    /// New ones are in force.
    Renewed,
    /// New ones cannot be used: what was in force still is.
    Broken,
}

/// What tells a file from the one that replaces it, without reading it. Symbolic links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileStamp {
    /// `None` of a file that is not there.
    fn of(path: &str) -> Option<Self> {
        let told = std::fs::metadata(path).ok()?;
        Some(Self {
            device: told.dev(),
            inode: told.ino(),
            bytes: told.len(),
            modified: (told.mtime(), told.mtime_nsec()),
        })
    }
}

/// What was made of some files, and is made anew when they are replaced.
#[derive(Debug)]
pub(crate) struct Rotating<T> {
    in_force: ArcSwap<T>,
    files: Vec<String>,
    seen: Mutex<FilesSeen>,
}

/// What the last look has seen.
#[derive(Debug)]
struct FilesSeen {
    stamps: Vec<Option<FileStamp>>,
    problem: Option<String>,
}

impl<T> Rotating<T> {
    /// Reads the files for the first time.
    pub(crate) fn load<E>(files: Vec<String>, load: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        // Before they are read: what is replaced meanwhile is seen by the next look.
        let stamps = stamps(&files);
        let in_force = ArcSwap::from_pointee(load()?);
        Ok(Self { in_force, files, seen: Mutex::new(FilesSeen { stamps, problem: None }) })
    }

    /// What is in force.
    pub(crate) fn in_force(&self) -> Arc<T> {
        self.in_force.load_full()
    }

    /// Why the files as they are now cannot be used; `None` where they are in force.
    pub(crate) fn problem(&self) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Reads the files if they are others than at the last look, or could not be used then: what was wrong need not show
    /// in the file, as with rights that are given after it was written.
    pub(crate) fn look<E: std::fmt::Display>(&self, load: impl FnOnce() -> Result<T, E>) -> Rotation {
        let stamps = stamps(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = seen.stamps == stamps;
        if is_same && seen.problem.is_none() {
            return Rotation::Unchanged;
        }
        seen.stamps = stamps;
        match load() {
            Ok(new) => {
                self.in_force.store(Arc::new(new));
                seen.problem = None;
                Rotation::Renewed
            }
            Err(error) => {
                let problem = Some(error.to_string());
                let is_told = is_same && seen.problem == problem;
                seen.problem = problem;
                if is_told { Rotation::Unchanged } else { Rotation::Broken }
            }
        }
    }
}

fn stamps(files: &[String]) -> Vec<Option<FileStamp>> {
    files.iter().map(|file| FileStamp::of(file)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(path: &str) -> Result<String, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        if text.starts_with("good") { Ok(text) } else { Err(format!("{text} is not good")) }
    }

    fn rotating(path: &Path) -> (Rotating<String>, String) {
        let path = path.to_str().unwrap().to_owned();
        (Rotating::load(vec![path.clone()], || read(&path)).unwrap(), path)
    }

    #[test]
    fn what_is_good_is_in_force_and_what_is_broken_is_told_until_it_is_mended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "good 1").unwrap();
        let (rotating, path) = rotating(&path);
        assert_eq!(rotating.look(|| read(&path)), Rotation::Unchanged);
        std::fs::write(&path, "broken").unwrap();
        assert_eq!(rotating.look(|| read(&path)), Rotation::Broken);
        assert_eq!(rotating.look(|| read(&path)), Rotation::Unchanged, "it is told once");
        assert_eq!(rotating.in_force().as_str(), "good 1");
        assert_eq!(rotating.problem().as_deref(), Some("broken is not good"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(rotating.look(|| read(&path)), Rotation::Broken, "it is gone");
        std::fs::write(&path, "good 22").unwrap();
        assert_eq!(rotating.look(|| read(&path)), Rotation::Renewed);
        assert_eq!((rotating.in_force().as_str(), rotating.problem()), ("good 22", None));
    }

    #[test]
    fn what_is_mended_without_a_new_file_is_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "good 1").unwrap();
        let (rotating, path) = rotating(&path);
        std::fs::write(&path, "good 22").unwrap();
        let denied = || Err::<String, _>("permission denied");
        assert_eq!(rotating.look(denied), Rotation::Broken);
        assert_eq!(rotating.look(denied), Rotation::Unchanged, "it is told once");
        assert_eq!(
            rotating.look(|| Err::<String, _>("of no use")),
            Rotation::Broken,
            "that is another problem"
        );
        assert_eq!(rotating.look(|| read(&path)), Rotation::Renewed);
        assert_eq!((rotating.in_force().as_str(), rotating.problem()), ("good 22", None));
        assert_eq!(rotating.look(|| read(&path)), Rotation::Unchanged);
    }

    #[test]
    fn a_symbolic_link_that_is_swapped_leads_to_another_file() {
        // As Kubernetes has it: tls.crt -> ..data/tls.crt, ..data -> a directory that is never written to again.
        let mount = tempfile::tempdir().unwrap();
        for (version, text) in [("..1", "good 1"), ("..2", "good 2")] {
            std::fs::create_dir(mount.path().join(version)).unwrap();
            std::fs::write(mount.path().join(version).join("tls.crt"), text).unwrap();
        }
        let link = |to: &str| {
            std::os::unix::fs::symlink(to, mount.path().join("..tmp")).unwrap();
            std::fs::rename(mount.path().join("..tmp"), mount.path().join("..data")).unwrap();
        };
        link("..1");
        std::os::unix::fs::symlink("..data/tls.crt", mount.path().join("tls.crt")).unwrap();
        let (rotating, path) = rotating(&mount.path().join("tls.crt"));
        link("..2");
        assert_eq!(rotating.look(|| read(&path)), Rotation::Renewed);
        assert_eq!(rotating.in_force().as_str(), "good 2");
    }
}
