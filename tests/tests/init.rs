//! A configuration that `trunkline init` makes is checked and served as it is.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use trunkline_cluster::{Cluster, MONITOR_PASSWORD, PortLease, send_signal};
use trunkline_tests::{Certificates, Login, Wire, binary, eventually, http_get, own_cluster, shared_cluster};

fn trunkline(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(directory).env("TRUNKLINE__MONITOR__PASSWORD", MONITOR_PASSWORD);
    command.env("PGPASSWORD", "postgres").output().unwrap()
}

/// Makes a configuration of `source`, and returns its directory, file and text.
fn init(source: &str) -> (TempDir, PathBuf, String) {
    init_with(source, &[])
}

fn init_with(source: &str, flags: &[&str]) -> (TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [&["init", "--from", source, "--out", "made.toml"], flags].concat();
    let output = trunkline(directory.path(), &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = directory.path().join("made.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("postgres postgres") && !text.contains("password ="), "a secret is in\n{text}");
    (directory, file, text)
}

/// How `trunkline init` ends, and what it says of errors.
fn said(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = trunkline(directory, &[&["init"][..], arguments].concat());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A `serve` that ends with the test.
struct Served {
    child: Child,
    log: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
        send_signal(self.child.id().try_into().unwrap(), Signal::SIGINT);
        let _reaped = self.child.wait();
    }
}

/// The configuration holds: `check --connect` says 0, a read is answered by a replica, and a write by the primary.
fn serves(directory: &Path, file: &Path, (reads, writes): (u16, u16), flags: &[String]) {
    let file = file.to_str().unwrap();
    let checked = trunkline(directory, &["check", "--connect", "--config", file]);
    let said = [checked.stdout, checked.stderr].concat();
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&said));

    let http = PortLease::take().unwrap();
    let log = directory.join("log");
    let mut command = Command::new(binary());
    command.args([
        "serve",
        "--config",
        file,
        "--admin",
        "off",
        "--http",
        &format!("127.0.0.1:{}", http.port()),
    ]);
    command.args(flags).current_dir(directory).env("TRUNKLINE__MONITOR__PASSWORD", MONITOR_PASSWORD);
    command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let served = Served { child: command.spawn().unwrap(), log };
    eventually(Duration::from_secs(20), "a replica and the primary serve", || {
        ["/replica", "/primary"]
            .iter()
            .all(|path| http_get(http.port(), path).is_some_and(|answer| answer.status == 200))
    });
    let mut reader = plain_login(reads);
    assert_eq!(reader.value("SELECT pg_is_in_recovery()"), "t");
    let mut writer = plain_login(writes);
    assert_eq!(writer.value("SELECT pg_is_in_recovery()"), "f");
    let table = format!("made_{}", writes);
    let answer = writer.query(&format!("CREATE TABLE {table} (i int); DROP TABLE {table}"));
    assert_eq!(answer.error, None);
    drop(served);
}

/// The configurations give clients no TLS, whatever the servers have.
fn plain_login(port: u16) -> Wire {
    let mut wire = Wire::connect_plain(port);
    let login = Login::default();
    wire.send(&login.packet());
    wire.finish_login(&login).unwrap();
    wire
}

/// Ports for the listeners of a source that has none of its own, and the flags that put them in place.
fn moved_listeners() -> (PortLease, PortLease, Vec<String>) {
    let (reads, writes) = (PortLease::take().unwrap(), PortLease::take().unwrap());
    let address = |lease: &PortLease| format!("127.0.0.1:{}", lease.port());
    let flags = vec!["--reads".to_owned(), address(&reads), "--writes".to_owned(), address(&writes)];
    (reads, writes, flags)
}

/// Hosts and ports of all servers, as libpq writes several.
fn all_of(cluster: &Cluster) -> String {
    let ports: Vec<_> = cluster.servers().map(|server| server.port().to_string()).collect();
    let hosts = vec!["127.0.0.1"; ports.len()];
    format!("host={} port={}", hosts.join(","), ports.join(","))
}

#[test]
fn a_live_cluster_becomes_a_configuration_that_serves() {
    let cluster = shared_cluster();
    let (directory, file, text) = init(&format!("{} user=postgres dbname=appdb", all_of(cluster)));
    for said in [
        "name = \"replica2\"".to_owned(),
        format!("# - the primary is 127.0.0.1:{}, with 2 standbys", cluster.primary.port()),
        format!("standby, receives from 127.0.0.1:{}, streaming, async", cluster.primary.port()),
        "may read stored secrets, so that auto is verify".to_owned(),
        "psql -X -h 127.0.0.1".to_owned(),
        "dbname = \"appdb\"".to_owned(),
    ] {
        assert!(text.contains(&said), "{said} is missing in\n{text}");
    }
    let (reads, writes, flags) = moved_listeners();
    serves(directory.path(), &file, (reads.port(), writes.port()), &flags);
}

#[test]
fn a_standby_leads_to_its_primary_and_what_the_primary_cannot_see_is_said() {
    let cluster = own_cluster(2);
    let (_directory, _file, text) = init(&cluster.replicas[1].conninfo());
    let primary = cluster.primary.port();
    for said in [
        "address = \"127.0.0.1:".to_owned() + &primary.to_string(),
        "name = \"replica2\"".to_owned(),
        "the standby \"replica1\" at 127.0.0.1 (streaming, async): a sender does not see its port".to_owned(),
        "# address = \"127.0.0.1:PORT\"".to_owned(),
    ] {
        // Comments are broken where a line ends.
        let joined = text.replace("\n#   ", " ");
        assert!(joined.contains(&said), "{said} is missing in\n{text}");
    }
    assert!(!text.contains("name = \"replica1\""), "{text}");

    cluster.primary.psql("DROP OWNED BY trunkline_monitor; DROP ROLE trunkline_monitor").unwrap();
    let (_directory, _file, text) = init(&cluster.primary.conninfo());
    assert!(
        text.contains("the monitoring role is not there yet")
            && text.contains("CREATE ROLE trunkline_monitor"),
        "{text}"
    );
}

/// What Patroni says of a cluster.
fn said_by_patroni(cluster: &Cluster) -> String {
    let member = |(at, server): (usize, &trunkline_cluster::Server)| {
        let role = if at == 0 { "leader" } else { "replica" };
        format!(
            r#"{{"name": "{}", "role": "{role}", "state": "running", "host": "127.0.0.1", "port": {}, "timeline": 1}}"#,
            server.name(),
            server.port()
        )
    };
    let members: Vec<_> = cluster.servers().enumerate().map(member).collect();
    format!(r#"{{"members": [{}], "scope": "shop"}}"#, members.join(", "))
}

/// Answers `GET /cluster` as Patroni does, until the test ends.
fn patroni_of(cluster: &Cluster) -> u16 {
    let body = said_by_patroni(cluster);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked).unwrap();
            assert!(asked.starts_with("GET /cluster "), "{asked}");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
            // Who asks may be gone: a proxy that has just been ended.
            let _gone = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            // The client closes when it has read the answer.
            let _gone = stream.read_to_end(&mut Vec::new());
        }
    });
    port
}

#[test]
fn a_patroni_cluster_becomes_a_configuration_that_serves() {
    let cluster = shared_cluster();
    let port = patroni_of(cluster);
    let (directory, file, text) = init(&format!("patroni:http://127.0.0.1:{port}"));
    for said in [
        "the Patroni cluster \"shop\" of 3 members".to_owned(),
        format!("\n[[discovery.source]]\nkind = \"patroni\"\nurls = [\"http://127.0.0.1:{port}\"]\n"),
        "\n# name = \"replica2\"\n".to_owned(),
    ] {
        assert!(text.contains(&said), "{said} is missing in\n{text}");
    }
    assert!(!text.contains("\n[[server]]"), "its members come and go:\n{text}");
    let (reads, writes, flags) = moved_listeners();
    serves(directory.path(), &file, (reads.port(), writes.port()), &flags);
}

/// The same over TLS, by the certificate of an endpoint; ends with this.
struct SecurePatroni {
    server: Child,
    port: PortLease,
    _files: TempDir,
}

impl SecurePatroni {
    fn of(cluster: &Cluster) -> Self {
        let (files, port) = (tempfile::tempdir().unwrap(), PortLease::take().unwrap());
        std::fs::write(files.path().join("cluster"), said_by_patroni(cluster)).unwrap();
        let [certificate, key] = Certificates::shared().endpoint();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-WWW", "-accept", &format!("127.0.0.1:{}", port.port())]);
        command.arg("-cert").arg(certificate).arg("-key").arg(key).current_dir(&files);
        let server =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let listens = || std::net::TcpStream::connect(("127.0.0.1", port.port())).is_ok();
        eventually(Duration::from_secs(20), "openssl listens", listens);
        Self { server, port, _files: files }
    }
}

impl Drop for SecurePatroni {
    fn drop(&mut self) {
        let _ended = self.server.kill();
        let _reaped = self.server.wait();
    }
}

#[test]
fn a_patroni_behind_tls_is_asked_once_its_certificate_is_vouched_for() {
    let cluster = shared_cluster();
    let patroni = SecurePatroni::of(cluster);
    let url = format!("https://127.0.0.1:{}", patroni.port.port());
    let (status, error) = said(Path::new("/"), &["--from", &url]);
    assert_eq!(status, Some(1));
    assert!(error.contains("UnknownIssuer") && error.contains("--ca-file"), "{error}");

    let root = Certificates::shared().root();
    let root = root.to_str().unwrap();
    let (directory, file, text) = init_with(&url, &["--ca-file", root]);
    let source =
        format!("\n[[discovery.source]]\nkind = \"patroni\"\nurls = [\"{url}\"]\nca_file = \"{root}\"\n");
    assert!(text.contains(&source), "{source} is missing in\n{text}");
    let (reads, writes, flags) = moved_listeners();
    serves(directory.path(), &file, (reads.port(), writes.port()), &flags);

    let (status, error) = said(Path::new("/"), &["--from", "host=127.0.0.1", "--ca-file", root]);
    assert_eq!(status, Some(2), "{error}");
}

#[test]
fn a_pgbouncer_ini_becomes_a_configuration_that_serves() {
    let cluster = shared_cluster();
    let [primary, replica1, replica2] =
        [&cluster.primary, &cluster.replicas[0], &cluster.replicas[1]].map(|s| s.port());
    // The listener of reads is at the port after: two free ones in a row.
    let (writes, _reads) = two_ports_in_a_row();
    let source = tempfile::tempdir().unwrap();
    let ini = source.path().join("pgbouncer.ini");
    let users = source.path().join("userlist.txt");
    std::fs::write(&users, "\"postgres\" \"postgres\"\n").unwrap();
    let text = format!(
        "[databases]\nappdb = host=127.0.0.1 port={primary} dbname=appdb\n\
         appdb_ro = host=127.0.0.1 port={replica1} dbname=appdb\nappdb_ro2 = host=127.0.0.1 port={replica2}\n\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nauth_type = scram-sha-256\nauth_file = {}\n\
         pool_mode = session\nmax_client_conn = 50\nidle_transaction_timeout = 60\nserver_reset_query = DISCARD ALL\n",
        writes.port(),
        users.display()
    );
    std::fs::write(&ini, text).unwrap();
    let (directory, file, text) = init(ini.to_str().unwrap());
    for said in [
        "connections_max = 50",
        "idle_in_transaction = \"60s\"",
        "server_reset_query = DISCARD ALL (line 14)",
        "stored secrets are in users_file",
    ] {
        assert!(text.contains(said), "{said} is missing in\n{text}");
    }
    serves(directory.path(), &file, (writes.port() + 1, writes.port()), &[]);
}

/// Two leased ports, the second after the first.
fn two_ports_in_a_row() -> (PortLease, PortLease) {
    let mut leases: Vec<PortLease> = Vec::new();
    loop {
        let lease = PortLease::take().unwrap();
        if let Some(at) = leases.iter().position(|before| before.port() + 1 == lease.port()) {
            return (leases.swap_remove(at), lease);
        }
        leases.push(lease);
        assert!(leases.len() < 1000, "no two free ports in a row");
    }
}

#[test]
fn an_haproxy_configuration_becomes_a_configuration_that_serves() {
    let cluster = shared_cluster();
    let [primary, replica1, replica2] =
        [&cluster.primary, &cluster.replicas[0], &cluster.replicas[1]].map(|s| s.port());
    let (reads, writes) = (PortLease::take().unwrap(), PortLease::take().unwrap());
    let source = tempfile::tempdir().unwrap();
    let cfg = source.path().join("haproxy.cfg");
    let servers = format!(
        "    server primary 127.0.0.1:{primary} check port 8008\n    server replica1 127.0.0.1:{replica1} check port 8008\n    \
         server replica2 127.0.0.1:{replica2} check port 8008\n"
    );
    let text = format!(
        "global\n    maxconn 100\ndefaults\n    mode tcp\n    timeout connect 4s\n    timeout client 30m\n\
         listen postgres_write\n    bind 127.0.0.1:{}\n    option httpchk GET /primary\n    http-check expect status 200\n{servers}\
         listen postgres_read\n    bind 127.0.0.1:{}\n    balance leastconn\n    option httpchk GET /replica\n{servers}",
        writes.port(),
        reads.port()
    );
    std::fs::write(&cfg, text).unwrap();
    let (directory, file, text) = init(cfg.to_str().unwrap());
    for said in ["balance = \"least-outstanding\"", "connect = \"4s\"", "looks like Patroni"] {
        assert!(text.contains(said), "{said} is missing in\n{text}");
    }
    serves(directory.path(), &file, (reads.port(), writes.port()), &[]);
}

#[test]
fn what_is_wrong_is_said_and_no_file_is_overwritten_unasked() {
    let directory = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| said(directory.path(), arguments);
    let closed = PortLease::take().unwrap();
    let place = format!("host=127.0.0.1 port={} user=postgres", closed.port());
    let (status, error) = said(&["--from", &place]);
    assert!(
        status == Some(1) && error.contains("could not look at 127.0.0.1:") && error.contains("HINT"),
        "{error}"
    );
    let (status, error) = said(&["--from", &format!("patroni:http://127.0.0.1:{}", closed.port())]);
    assert!(status == Some(1) && error.contains("could not ask Patroni at http://127.0.0.1:"), "{error}");
    let (status, error) = said(&["--from", "nothing"]);
    assert!(status == Some(2) && error.contains("is no file, and no connection string"), "{error}");

    std::fs::write(directory.path().join("h.cfg"), "listen write\n bind :1\n server a 10.0.0.1:5432\n")
        .unwrap();
    std::fs::write(directory.path().join("there.toml"), "mine").unwrap();
    let (status, error) = said(&["--from", "h.cfg", "--out", "there.toml"]);
    assert!(status == Some(1) && error.contains("there.toml is there already"), "{error}");
    assert_eq!(std::fs::read_to_string(directory.path().join("there.toml")).unwrap(), "mine");
    let (status, error) = said(&["--from", "h.cfg", "--out", "there.toml", "--force"]);
    assert_eq!(status, Some(0), "{error}");
    let written = std::fs::read_to_string(directory.path().join("there.toml")).unwrap();
    assert!(written.contains("address = \"10.0.0.1:5432\""), "{written}");
}
