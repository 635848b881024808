//! `make install`: everything where it belongs, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CONFIG: &str = "etc/trunkline/trunkline.toml";

fn make(goal: &str, root: &Path) -> Output {
    let mut command = Command::new("make");
    command.args(["--no-print-directory", goal, "PREFIX=/usr/local"]);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command.env("DESTDIR", root).env("TRUNKLINE_BIN", env!("CARGO_BIN_EXE_trunkline"));
    for inherited in ["MAKEFLAGS", "MAKELEVEL", "SYSCONFDIR"] {
        command.env_remove(inherited);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "make {goal}: {output:?}");
    output
}

/// The files below `root`, by their paths from there.
fn files(root: &Path) -> BTreeSet<String> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn what_make_installs_runs_and_is_removed_again() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    make("install", root);
    let mut installed = files(root);
    // Only where there is a program that takes it out of the binary.
    installed.remove("usr/local/bin/.debug/trunkline.debug");
    let expected = [
        CONFIG,
        "usr/local/bin/trunkline",
        "usr/local/lib/systemd/system/trunkline.service",
        "usr/local/share/bash-completion/completions/trunkline",
        "usr/local/share/doc/trunkline/trunkline.toml",
        "usr/local/share/fish/vendor_completions.d/trunkline.fish",
        "usr/local/share/zsh/site-functions/_trunkline",
    ];
    assert_eq!(installed, expected.map(str::to_owned).into());
    let version = Command::new(root.join("usr/local/bin/trunkline")).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("trunkline "), "{version:?}");
    let unit = std::fs::read_to_string(root.join("usr/local/lib/systemd/system/trunkline.service")).unwrap();
    let starts = "ExecStart=/usr/local/bin/trunkline serve --config /etc/trunkline/trunkline.toml";
    assert!(unit.contains(starts) && !unit.contains("/usr/bin/"), "{unit}");

    std::fs::write(root.join(CONFIG), "# mine\n").unwrap();
    make("install", root);
    assert_eq!(std::fs::read_to_string(root.join(CONFIG)).unwrap(), "# mine\n");
    make("uninstall", root);
    assert_eq!(files(root), [CONFIG.to_owned()].into());
}
