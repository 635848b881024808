//! The runner of suites, `scripts/ci/lanes.sh`: what must fail a run does, and each suite is heard.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const OK: &str = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'";
const FAILED: &str = "echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'";

/// Runs suites that are shell scripts, three at one time, as a step, and gives its status and what it printed.
fn run(directory: &str, suites: &[(&str, &str)]) -> (i32, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join(directory);
    fs::create_dir_all(&logs).unwrap();
    let artifacts: String =
        suites.iter().map(|(name, script)| artifact(&root, &logs, name, script)).collect();
    fs::write(logs.join("artifacts.json"), artifacts).unwrap();
    let names: Vec<&str> = suites.iter().map(|&(name, _)| name).collect();
    let script = format!(
        r#"
        source scripts/ci/steps.sh; logs='{}'; source scripts/ci/suites.sh; source scripts/ci/lanes.sh
        SUITE_SECONDS_MAX=2
        all() {{ local failed_suites=(); in_lanes 3 "$@"; echo "failed: ${{failed_suites[*]}}"; [ "${{#failed_suites[@]}}" -eq 0 ]; }}
        step suites all {}; finish"#,
        logs.display(),
        names.join(" ")
    );
    let output = Command::new("bash").args(["-c", &script]).current_dir(&root).output().unwrap();
    fs::remove_dir_all(&logs).unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Makes the suite, and the line by which cargo tells of it.
fn artifact(root: &Path, logs: &Path, name: &str, script: &str) -> String {
    let path: PathBuf = logs.join(name);
    let manifest = root.join("tests/Cargo.toml");
    let line = format!(
        r#"{{"reason":"compiler-artifact","package_id":"x","manifest_path":"{}","target":{{"kind":["test"],"name":"{name}","test":true}},"profile":{{"opt_level":"0","test":true}},"features":[],"executable":"{}","fresh":true}}"#,
        manifest.display(),
        path.display()
    );
    if script == "absent" {
        return String::new();
    }
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    line + "\n"
}

#[test]
fn suites_that_pass_are_counted_and_pass() {
    let (status, said) = run("lanes-pass", &[("a", OK), ("b", OK), ("c", OK), ("d", OK), ("e", OK)]);
    assert_eq!(status, 0, "{said}");
    assert!(said.ends_with("10 passed, 0 failed\n"), "{said}");
}

#[test]
fn a_suite_that_fails_crashes_hangs_or_is_silent_fails_the_run() {
    let fails = format!("{FAILED}; exit 101");
    let late = format!("{OK}; exit 1");
    let (crashes, hangs) = ("echo running; kill -SEGV $$", "exec sleep 1000");
    let suites = [
        ("fails", &*fails),
        ("crashes", crashes),
        ("hangs", hangs),
        ("silent", "true"),
        ("good", OK),
        ("none", "absent"),
        ("late", &*late),
    ];
    let (status, said) = run("lanes-fail", &suites);
    assert_eq!(status, 1, "{said}");
    let failed = said.lines().find_map(|line| line.strip_prefix("failed: ")).unwrap();
    let mut failed: Vec<&str> = failed.split(' ').collect();
    failed.sort_unstable();
    assert_eq!(failed, ["crashes", "fails", "hangs", "late", "none", "silent"]);
    assert!(said.contains("it was ended after 2 s"), "{said}");
    assert!(said.ends_with("5 passed, 5 failed\n"), "{said}");
}

#[test]
fn a_suite_that_fails_beside_others_only_passes_and_is_named() {
    let once = std::env::temp_dir().join(format!("trunkline-lanes-{}", std::process::id()));
    let fails_once = format!("mkdir '{}' && {{ {FAILED}; exit 101; }}; {OK}", once.display());
    let (status, said) = run("lanes-again", &[("a", OK), ("unlucky", &fails_once), ("b", OK)]);
    fs::remove_dir(&once).unwrap();
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("result beside others: FAILED. 1 passed; 1 failed"), "{said}");
    assert!(said.contains("\nFailed beside others, passed alone: unlucky\n\n"), "{said}");
    assert!(said.ends_with("6 passed, 0 failed\n"), "{said}");
}

#[test]
fn what_a_suite_says_stays_together() {
    let talks = |name: &str| format!("echo {name} begins; sleep 0.2; echo {name} ends; {OK}");
    let (a, b, c) = (talks("a"), talks("b"), talks("c"));
    let (status, said) = run("lanes-together", &[("a", &a), ("b", &b), ("c", &c)]);
    assert_eq!(status, 0, "{said}");
    for name in ["a", "b", "c"] {
        assert!(said.contains(&format!("\n{name} begins\n{name} ends\ntest result: ok")), "{said}");
    }
}
