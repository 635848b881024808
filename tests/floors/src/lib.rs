//! Dependencies point down only, between crates and between the modules of a crate; files and functions stay short; a
//! type's name is its own.
//!
//! `cargo test -p trunkline-floors` checks it, `cargo run -p trunkline-floors` prints the graph. The order itself is
//! in [`order`], and what it means in ARCHITECTURE.md.

pub mod graph;
pub mod imports;
pub mod lengths;
pub mod manifest;
pub mod names;
pub mod order;

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The top of the repository that cargo runs this in.
///
/// # Panics
/// When cargo does not run it.
#[must_use]
pub fn repository() -> PathBuf {
    // Not as it was when this was built: worktrees may share what is built.
    let folder = env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    Path::new(&folder).ancestors().nth(2).expect("two folders below the top").to_owned()
}

/// All Rust files below `folder`, in order.
///
/// # Panics
/// When the repository cannot be read.
#[must_use]
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of the repository").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The tokens of a Rust file.
///
/// # Panics
/// When the file cannot be read, or is not Rust.
#[must_use]
pub fn tokens(file: &Path) -> Vec<proc_macro2::TokenTree> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let stream: proc_macro2::TokenStream =
        text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    stream.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates() -> Vec<manifest::Manifest> {
        manifest::read_all(&repository().join("crates"))
    }

    #[test]
    fn crates_depend_on_lower_crates_only() {
        let faults = order::crate_faults(&crates());
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    #[test]
    fn modules_import_from_lower_modules_only() {
        let mut faults = Vec::new();
        for manifest in crates() {
            faults.extend(order::module_faults(&manifest.name, &imports::read(&manifest.root)));
        }
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    #[test]
    fn each_type_has_a_name_of_its_own() {
        let faults = names::faults(&repository().join("crates"));
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    #[test]
    fn files_and_functions_stay_short() {
        let mut faults = Vec::new();
        for folder in ["crates", "tests", "benches", "fuzz/fuzz_targets"] {
            for file in rust_files(&repository().join(folder)) {
                faults.extend(lengths::faults(&file));
            }
        }
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }
}
