//! The files of the repository: what git tracks, not what this checkout happens to hold.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tracked files, by their paths from the root, with `/` between the parts.
pub(crate) struct Repository {
    root: PathBuf,
    files: BTreeSet<String>,
}

impl Repository {
    /// What git tracks here. Outside of a git checkout (an unpacked archive): every file there is.
    pub(crate) fn open() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
        let files = match listed {
            Ok(listed) if listed.status.success() => {
                String::from_utf8(listed.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect()
            }
            Ok(_) | Err(_) => {
                let mut files = BTreeSet::new();
                walk(&root, "", &mut files);
                files
            }
        };
        Repository { root, files }
    }

    /// The Markdown files.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str).filter(|file| file.ends_with(".md"))
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Whether `path` is a tracked file, or a folder that holds one.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains(path)
            || self.files.range(folder.clone()..).next().is_some_and(|file| file.starts_with(&folder))
    }

    /// Where `path`, named in `document`, leads: from the document's folder, from the root, or from `crates`.
    pub(crate) fn find(&self, document: &str, path: &str) -> Option<String> {
        let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
        [folder, "", "crates"].iter().filter_map(|base| join(base, path)).find(|path| self.has(path))
    }

    /// Whether `name` is a folder at the root.
    pub(crate) fn is_top_folder(&self, name: &str) -> bool {
        !name.is_empty() && !self.files.contains(name) && self.has(name)
    }
}

/// `path` as seen from the folder `base`; `None` when it leaves the repository.
pub(crate) fn join(base: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

fn walk(folder: &Path, name: &str, files: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let base = entry.file_name().into_string().unwrap();
        let path = if name.is_empty() { base.clone() } else { format!("{name}/{base}") };
        if !entry.file_type().unwrap().is_dir() {
            files.insert(path);
        } else if base != "target" && base != ".git" {
            walk(&entry.path(), &path, files);
        }
    }
}
