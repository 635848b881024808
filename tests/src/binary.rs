//! The binary under test.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::root;

/// The binary under test: `$TRUNKLINE_BIN`, or the one that cargo builds with the profile `quick`.
#[must_use]
pub fn binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| std::env::var_os("TRUNKLINE_BIN").map_or_else(build, PathBuf::from)).clone()
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--profile", "quick", "-p", "trunkline"])
        .current_dir(root())
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the binary does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    root().join(target).join("quick/trunkline")
}
