//! What a crate's `Cargo.toml` says.

use std::fs;
use std::path::{Path, PathBuf};

/// A crate of the workspace.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its folder's name.
    pub name: String,
    /// `lib.rs`, or `main.rs` of a binary.
    pub root: PathBuf,
    /// The folders of the workspace's crates that it depends on, but for tests.
    pub dependencies: Vec<String>,
}

/// All crates in the folders of `folder`.
///
/// # Panics
/// When the repository cannot be read.
#[must_use]
pub fn read_all(folder: &Path) -> Vec<Manifest> {
    let entries = fs::read_dir(folder).expect("the folder of the crates");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("a crate's folder").path()).collect();
    folders.sort();
    folders.iter().map(|folder| read(folder)).collect()
}

fn read(folder: &Path) -> Manifest {
    let text = fs::read_to_string(folder.join("Cargo.toml")).expect("a crate has a Cargo.toml");
    let table: toml::Table = text.parse().expect("cargo reads it, too");
    let dependencies =
        table.get("dependencies").and_then(toml::Value::as_table).expect("a crate depends on some");
    let library = folder.join("src/lib.rs");
    Manifest {
        name: folder.file_name().expect("a folder").to_string_lossy().into_owned(),
        root: if library.exists() { library } else { folder.join("src/main.rs") },
        dependencies: dependencies
            .keys()
            .filter_map(|name| name.strip_prefix("trunkline-"))
            .map(str::to_owned)
            .collect(),
    }
}
