//! The binary as a person meets it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn trunkline(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command.args(arguments).current_dir(directory.path()).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn check_accepts_what_flags_suffice_for() {
    let output = trunkline(&[
        "check",
        "--primary",
        "db1",
        "--replica",
        "replica1=db2:5433",
        "--writes",
        "127.0.0.1:5431",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for expected in [
        "the configuration is valid",
        "db1 db1:5432 (primary",
        "writes 127.0.0.1:5431 (read-write",
        "fallback primary",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in\n{shown}");
    }
}

#[test]
fn the_default_configuration_passes_check() {
    let sample = trunkline(&["config", "default"]).stdout;
    let check = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
        command.args(["check", "--config", "-"]).args(arguments).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&sample).unwrap();
        child.wait_with_output().unwrap()
    };
    for arguments in [&[][..], &["--primary", "db1"]] {
        let output = check(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with("standard input: the configuration is valid"));
        assert!(text(&output.stderr).starts_with("warning: monitor.password: is not set"));
    }
}

#[test]
fn check_reads_the_users_file_and_names_its_lines() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users.txt");
    std::fs::write(&users, "\"app\" \"secret\"\nanother secret\n").unwrap();
    let file = directory.path().join("trunkline.toml");
    let auth = format!("[auth]\nmode = \"verify\"\nusers_file = \"{}\"\n", users.display());
    std::fs::write(&file, auth).unwrap();
    let output = trunkline(&["check", "--config", file.to_str().unwrap(), "--primary", "db1"]);
    assert_eq!(output.status.code(), Some(2));
    let said = format!("{}:2: the user name must be in double quotes\n", users.display());
    assert!(text(&output.stderr).contains(&said), "{}", text(&output.stderr));
}

#[test]
fn check_exits_with_2_and_names_the_flag() {
    let output = trunkline(&["check", "--primary", "db1", "--max-lag", "2", "--reads", "here"]);
    assert_eq!(output.status.code(), Some(2));
    let shown = text(&output.stderr);
    assert!(shown.contains("flag --max-lag: the unit is missing in \"2\""), "{shown}");
    assert!(shown.contains("flag --reads: \"here\" is not an address and a port"), "{shown}");
    assert!(shown.contains("2 problems"), "{shown}");
}

#[test]
fn there_is_no_flag_with_another_word_for_a_server() {
    let output = trunkline(&["drain", "--target", "replica1"]);
    assert_eq!(output.status.code(), Some(2));
    let shown = text(&output.stderr);
    assert!(shown.contains("unexpected argument '--target'") && shown.contains("<SERVER>"), "{shown}");
}

#[test]
fn serve_refuses_a_wrong_configuration_with_2() {
    let output = trunkline(&["serve"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("server: there is none"), "{}", text(&output.stderr));
}

#[test]
fn serve_says_what_is_wrong_with_an_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    // Source: RFC 5737, an address of documentation, which no machine has.
    let foreign = "192.0.2.1:5434".to_owned();
    for (address, hint) in [(at, "HINT: Another program"), (foreign, "HINT: 192.0.2.1 is no address")] {
        let output = trunkline(&["serve", "--primary", "db1.invalid", "--http", "off", "--reads", &address]);
        assert_eq!(output.status.code(), Some(1));
        let shown = text(&output.stderr);
        assert!(shown.contains(&format!("could not listen on {address}")) && shown.contains(hint), "{shown}");
    }
}

#[test]
fn status_says_what_to_do_when_nobody_answers() {
    // Port 1 is tcpmux, which nobody runs.
    let output = trunkline(&["status", "--http", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    assert!(shown.contains("127.0.0.1:1") && shown.contains("HINT:"), "{shown}");
}

#[test]
fn profile_says_what_to_do_when_nobody_answers() {
    let output = trunkline(&["profile", "--dsn", "host=127.0.0.1 port=1 user=u", "SELECT 1"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    assert!(shown.contains("could not connect to 127.0.0.1:1") && shown.contains("HINT:"), "{shown}");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = trunkline(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("demo"), "{shell}");
    }
}

#[test]
fn there_is_one_recipe_for_the_monitoring_role() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let output = trunkline(&["init-sql"]);
    let recipe = text(&output.stdout);
    let indented: String =
        recipe.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect();
    assert!(
        read("docs/authentication.md").contains(&indented),
        "docs/authentication.md has another recipe than\n{indented}"
    );
    let from = recipe.find("CREATE SCHEMA").unwrap();
    let function = &recipe[from..recipe.find("\nCOMMIT").unwrap()];
    assert!(
        read("deploy/docker/postgres/init.sql").contains(function),
        "the compose project has another function than\n{function}"
    );
    for file in ["README.md", "docs/health.md", "deploy/k8s/README.md"] {
        let document = read(file);
        assert!(document.contains("trunkline init-sql"), "{file} does not name the recipe");
        assert!(!document.contains("CREATE ROLE trunkline_monitor"), "{file} has a recipe of its own");
    }
}

#[test]
fn every_long_help_has_examples_and_exit_status() {
    for command in ["serve", "health", "check", "init-sql", "profile", "status", "demo"] {
        let output = trunkline(&[command, "--help"]);
        let shown = text(&output.stdout);
        assert!(shown.contains("Examples:") && shown.contains("Exit status:"), "{command}:\n{shown}");
    }
}

#[cfg(feature = "demo")]
#[test]
fn a_wrong_flag_ends_the_demo_before_it_makes_a_cluster() {
    let output = trunkline(&["demo", "--max-lag", "2"]);
    assert_eq!(output.status.code(), Some(2));
    let shown = text(&output.stderr);
    assert!(shown.contains("flag --max-lag: the unit is missing in \"2\""), "{shown}");
    assert!(!text(&output.stdout).contains("creating"), "{}", text(&output.stdout));
    let output = trunkline(&["demo", "--pg-bin", "/nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    assert!(shown.starts_with("trunkline: no PostgreSQL server programs found in /nowhere"), "{shown}");
    assert!(shown.contains("--pg-bin"), "{shown}");
}

#[test]
fn help_fits_a_terminal_of_80_columns_and_is_wrapped_once() {
    for command in ["serve", "health", "check", "init-sql", "profile", "status", "sessions", "drain", "demo"]
    {
        let mut program = Command::new(env!("CARGO_BIN_EXE_trunkline"));
        let output = program.args([command, "--help"]).env_clear().env("COLUMNS", "80").output().unwrap();
        let shown = text(&output.stdout);
        let mut lines = shown.lines().peekable();
        while let Some(line) = lines.next() {
            assert!(line.chars().count() <= 80, "{command}: more than 80 columns: {line}");
            let is_prose = !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
            let Some(next) = lines.peek().filter(|next| is_prose && !next.is_empty()) else { continue };
            // A line ends early only where the next word did not fit.
            let word = next.split(' ').next().unwrap_or_default().chars().count();
            assert!(line.chars().count() + 1 + word > 80, "{command}: wrapped twice: {line}\n{next}");
        }
    }
}
