//! The demo: one command, a live cluster, and nothing left behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::unistd::Uid;
use trunkline_tests::{binary, eventually, pg18, root};

fn demo(arguments: &[&str], command: &str) -> Output {
    Command::new(binary()).arg("demo").args(arguments).args(["--exec", command]).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn exec_finds_a_live_cluster_and_its_status_is_the_demos() {
    let output = demo(
        &["--max-lag", "2s"],
        "set -e
         for i in 1 2 3 4 5 6 7 8 9 10; do psql -XAtqc 'SHOW cluster_name'; done | sort | uniq -c
         test \"$(psql -XAtqc 'SELECT pg_is_in_recovery()' -p $TRUNKLINE_WRITES_PORT)\" = f
         ls -d $TRUNKLINE_DEMO_DIR/primary $TRUNKLINE_DEMO_DIR/replica1 $TRUNKLINE_DEMO_DIR/replica2
         test -n \"$TRUNKLINE_HTTP\"
         both() { psql -XAtq -p $TRUNKLINE_SPLIT_PORT -c \"$1 current_setting('cluster_name')\"; }
         both \"INSERT INTO ynar (info) VALUES ('new') RETURNING\" | grep -x primary
         # Until the catalog is read, reads go to the primary, too.
         tries=0
         until both SELECT | grep -x 'replica.'; do tries=$((tries + 1)); test $tries -lt 200; done
         echo \"directory: $TRUNKLINE_DEMO_DIR\"
         exit 7",
    );
    let said = text(&output);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("5 replica1") && said.contains("5 replica2"), "{said}");
    let directory = said.lines().find_map(|line| line.strip_prefix("directory: ")).unwrap();
    assert!(!Path::new(directory).exists(), "{directory} is left behind");
}

#[test]
fn commands_find_the_demos_admin_socket_by_themselves() {
    // In a temporary directory of its own: of two demos a command asks which is meant. The servers' user goes through it.
    let temporary = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    let trunkline = binary().display().to_string();
    let script = format!(
        "set -e
         unset TRUNKLINE_ADMIN TRUNKLINE_HTTP
         export RUNTIME_DIRECTORY=
         {trunkline} drain replica1
         {trunkline} sessions
         {trunkline} status"
    );
    let output = Command::new(binary())
        .args(["demo", "--exec", &script])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("replica1: drain\n") && said.contains("sessions  0, 0 movable, 0 pinned\n"),
        "{said}"
    );
    let drained = said.lines().find(|line| line.starts_with("replica1 ") && line.contains("DRAIN"));
    assert!(drained.is_some(), "{said}");
}

#[test]
fn options_choose_replicas_and_authentication() {
    let output = demo(
        &["--replicas", "1", "--auth", "verify"],
        "set -e; psql -XAtqc 'SHOW cluster_name'; test ! -e $TRUNKLINE_DEMO_DIR/replica2; test -n \"$TRUNKLINE_SPLIT_PORT\"",
    );
    assert!(output.status.success() && text(&output).contains("replica1"), "{}", text(&output));
    // A client keeps the server that it has logged in to.
    let relayed = demo(&["--replicas", "1", "--auth", "relay"], "test -z \"$TRUNKLINE_SPLIT_PORT\"");
    assert!(relayed.status.success(), "{}", text(&relayed));
}

#[test]
fn with_tls_both_legs_are_verified_and_nobody_comes_without() {
    let trunkline = binary().display().to_string();
    let output = demo(
        &["--replicas", "1", "--tls"],
        &format!(
            "set -e
             psql -XAtc 'SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()'
             psql -XAtc '\\conninfo'
             {trunkline} status
             for port in $PGPORT $TRUNKLINE_WRITES_PORT; do
               if PGSSLMODE=disable psql -XAtc 'SELECT 1' -p $port; then exit 9; fi
               if PGSSLROOTCERT=/etc/ssl/certs/ca-certificates.crt psql -XAtc 'SELECT 1' -p $port; then exit 8; fi
             done
             psql -XAtc 'SHOW cluster_name' -p $TRUNKLINE_WRITES_PORT
             replica=$(sed -n 4p $TRUNKLINE_DEMO_DIR/replica1/postmaster.pid)
             if PGSSLMODE=disable psql -XAtc 'SELECT 1' -p $replica; then exit 7; fi
             stat -c %a $TRUNKLINE_DEMO_DIR/tls/proxy.key"
        ),
    );
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("TLSv1.3|TLS_AES_256_GCM_SHA384\n"), "{said}");
    assert!(said.contains("SSL connection (protocol: TLSv1.3"), "{said}");
    assert!(said.contains("tls       for clients: ") && said.contains("\nprimary\n"), "{said}");
    assert!(said.contains("no encryption") && said.contains("certificate verify failed"), "{said}");
    assert!(said.contains("\n600\n"), "{said}");
    let relayed = demo(&["--tls", "--auth", "relay"], "true");
    assert_eq!(relayed.status.code(), Some(2), "{}", text(&relayed));
}

/// Commands of README's transcript that begin so, each with what it prints there.
fn shown(start: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let transcript = text.split("<!-- transcript: ").nth(1).unwrap();
    let blocks = transcript
        .split("\n\n")
        .map(|block| block.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect::<Vec<_>>());
    let commands = blocks.filter_map(|block| {
        let command = block.first()?.strip_prefix("$ ").filter(|command| command.starts_with(start))?;
        let said: String = block.iter().skip(1).map(|line| format!("{line}\n")).collect();
        Some((command.to_owned(), said))
    });
    commands.collect()
}

#[test]
fn what_readme_shows_of_tls_is_what_happens() {
    let commands = shown("trunkline demo --tls");
    for word in ["channel_binding=require", "sslnegotiation=direct"] {
        assert!(commands.iter().any(|(command, _)| command.contains(word)), "{word}: {commands:?}");
    }
    // The newest psql, and this trunkline, as they are found on the PATH.
    let programs = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(binary(), programs.path().join("trunkline")).unwrap();
    let newest = pg18();
    let lib = newest.lib.as_ref().map(|lib| lib.display().to_string()).unwrap_or_default();
    let psql = programs.path().join("psql");
    let script =
        format!("#!/bin/sh\nLD_LIBRARY_PATH='{lib}' exec '{}' \"$@\"\n", newest.bin.join("psql").display());
    std::fs::write(&psql, script).unwrap();
    std::fs::set_permissions(&psql, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    for (command, said) in commands {
        let output = Command::new("sh").args(["-c", &command]).env("PATH", &path).output().unwrap();
        assert!(output.status.success(), "{command}\n{}", text(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), said, "{command}");
    }
}

/// A demo of one replica, and its banner up to the last line, with what comes after it.
fn shown_by(arguments: &[&str]) -> (Child, Vec<String>, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(binary())
        .args(["demo", "--replicas", "1"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let banner = lines.by_ref().take_while(|line| !line.starts_with("Ctrl-C ends it")).collect();
    (child, banner, lines)
}

/// What the banner says of `what`, up to the next space.
fn named<'a>(banner: &'a [String], what: &str) -> &'a str {
    let value = banner.iter().find_map(|line| line.strip_prefix("  ")?.strip_prefix(what));
    value.and_then(|value| value.split_whitespace().next()).unwrap_or_else(|| panic!("{banner:#?}"))
}

#[test]
fn with_tls_anybody_can_paste_what_the_banner_names_into_a_shell() {
    let (mut child, banner, _more) = shown_by(&["--tls"]);
    let sql = "SELECT current_setting('cluster_name'), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let outputs = ["reads", "writes", "split"].map(|what| {
        let command = format!("psql {} -XAtc \"{sql}\"", named(&banner, what));
        let mut shell = Command::new("sh");
        if Uid::effective().is_root() {
            // Another user than the one who has started it.
            shell = Command::new("runuser");
            shell.args(["-u", "nobody", "--", "sh"]);
        }
        shell.args(["-c", &command]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        shell.current_dir("/").output().unwrap()
    });
    interrupt(&child);
    eventually(Duration::from_secs(20), "the demo ends", || child.try_wait().unwrap().is_some());
    // Statistics of connections are the primary's.
    assert_eq!(outputs.each_ref().map(text), ["replica1|t\n", "primary|t\n", "primary|t\n"]);
}

#[test]
fn the_banner_names_what_is_there() {
    let (mut child, banner, _more) = shown_by(&[]);
    let named = |what| named(&banner, what);
    let page = named("page").strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut asked = TcpStream::connect(page).unwrap();
    asked.write_all(b"GET / HTTP/1.0\r\nAccept: text/html\r\n\r\n").unwrap();
    let mut answer = String::new();
    asked.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("<html"), "{answer}");
    assert!(Path::new(named("admin")).exists(), "{banner:#?}");
    let status =
        Command::new(binary()).args(["drain", "replica1", "--admin", named("admin")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&status.stdout), "replica1: drain\n", "{status:?}");
    interrupt(&child);
    eventually(Duration::from_secs(20), "the demo ends", || child.try_wait().unwrap().is_some());
    assert!(!Path::new(named("admin")).exists());
}

fn interrupt(child: &std::process::Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let note = directory.path().join("note");
    let mut child = Command::new(binary())
        .args(["demo", "--replicas", "1", "--exec"])
        .arg(format!("echo $TRUNKLINE_DEMO_DIR > {0}.part; mv {0}.part {0}; sleep 600", note.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually(Duration::from_secs(60), "the demo is live", || note.exists());
    let home = std::fs::read_to_string(&note).unwrap().trim().to_owned();
    let pid = i32::try_from(child.id()).unwrap();
    let children = trunkline_cluster::descendants(pid);
    interrupt(&child);
    eventually(Duration::from_secs(20), "the demo ends", || child.try_wait().unwrap().is_some());
    assert!(!Path::new(&home).exists(), "{home} is left behind");
    eventually(Duration::from_secs(30), "its processes are gone", || {
        children.iter().all(|&pid| !trunkline_cluster::is_alive(pid))
    });
}
