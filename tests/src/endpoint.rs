//! The real binary in front of a cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use trunkline_cluster::{Cluster, MONITOR_PASSWORD, MONITOR_ROLE, PortLease, resident_bytes, send_signal};

use crate::http::exchange;
use crate::{Certificates, binary, tls_is_on};

/// How long the binary may take until all its servers are judged.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGINT before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The admin socket in an endpoint's directory.
const ADMIN_SOCKET: &str = "admin.sock";

/// Who authenticates clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// What the servers let the proxy do.
    Auto,
    /// The servers.
    Relay,
    /// The proxy.
    Verify,
    /// The servers, by a password that the proxy asks for.
    Login,
}

impl Auth {
    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Relay => "relay",
            Self::Verify => "verify",
            Self::Login => "login",
        }
    }
}

/// What an [`Endpoint`] is started with. The defaults are the tests', not the product's: a small `max_lag`
/// and no slow start, so that the suites need not wait.
#[derive(Debug, Clone)]
pub struct EndpointBuilder {
    /// Name, flag, and address.
    servers: Vec<(String, &'static str, String)>,
    awaited: Vec<String>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    sections: BTreeMap<String, BTreeMap<String, String>>,
    tables: String,
    has_admin: bool,
}

/// The ports of an endpoint.
#[derive(Debug)]
struct Ports {
    reads: PortLease,
    writes: PortLease,
    http: PortLease,
}

/// A running `trunkline serve`, ended when dropped. A failing test shows the end of its log.
#[derive(Debug)]
pub struct Endpoint {
    child: Child,
    ports: Ports,
    directory: TempDir,
    builder: EndpointBuilder,
}

impl Endpoint {
    /// An endpoint for all servers of `cluster`, authentication by the servers (`relay`).
    #[must_use]
    pub fn over(cluster: &Cluster) -> EndpointBuilder {
        let mut builder = Self::over_none();
        for (index, server) in cluster.servers().enumerate() {
            let role = if index == 0 { "--primary" } else { "--replica" };
            builder.servers.push((server.name().to_owned(), role, format!("127.0.0.1:{}", server.port())));
            builder.awaited.push(server.name().to_owned());
        }
        if tls_is_on() { builder.with_tls() } else { builder }
    }

    /// An endpoint without servers: tables of the configuration name them.
    #[must_use]
    pub fn over_none() -> EndpointBuilder {
        let builder = EndpointBuilder {
            servers: Vec::new(),
            awaited: Vec::new(),
            flags: Vec::new(),
            environment: Vec::new(),
            sections: BTreeMap::new(),
            tables: String::new(),
            has_admin: false,
        };
        // No test finds, or takes, the usual admin socket of this machine.
        let builder = builder.key("admin.socket", "\"off\"");
        let builder = builder.auth(Auth::Relay);
        builder.key("health.max_lag", "\"2s\"").key("health.slow_start", "\"0\"")
    }

    /// The same over the servers' Unix sockets.
    #[must_use]
    pub fn over_sockets(cluster: &Cluster) -> EndpointBuilder {
        let mut builder = Self::over(cluster);
        for (given, server) in builder.servers.iter_mut().zip(cluster.servers()) {
            given.2 = format!("{}:{}", cluster.socket_dir().display(), server.port());
        }
        builder
    }

    /// Port for reads.
    #[must_use]
    pub fn reads(&self) -> u16 {
        self.ports.reads.port()
    }

    /// Port for writes.
    #[must_use]
    pub fn writes(&self) -> u16 {
        self.ports.writes.port()
    }

    /// Port for HTTP.
    #[must_use]
    pub fn http(&self) -> u16 {
        self.ports.http.port()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids fit in i32")
    }

    /// Its memory in RAM, in bytes.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.pid()).expect("the endpoint runs")
    }

    /// All that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid(), signal);
    }

    /// Changes its configuration file, as for a reload.
    pub fn rewrite(&mut self, key: &str, value: &str) {
        self.builder = self.builder.clone().key(key, value);
        self.builder.write_file(self.directory.path());
    }

    /// Adds tables to its configuration file, as for a reload.
    pub fn rewrite_toml(&mut self, tables: &str) {
        self.builder = self.builder.clone().toml(tables);
        self.builder.write_file(self.directory.path());
    }

    /// Puts other tables at the end of its configuration file, as for a reload.
    pub fn replace_toml(&mut self, tables: &str) {
        tables.clone_into(&mut self.builder.tables);
        self.builder.write_file(self.directory.path());
    }

    /// The exit status of one of the binary's admin commands, and what it prints. See [`EndpointBuilder::with_admin`].
    ///
    /// # Panics
    /// When the binary does not run.
    #[must_use]
    pub fn admin(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--admin").arg(self.directory.path().join(ADMIN_SOCKET));
        let output = command.output().expect("the binary runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// What the admin socket answers to a POST: status and body. See [`EndpointBuilder::with_admin`].
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn admin_post(&self, path: &str) -> (u16, String) {
        let socket = UnixStream::connect(self.directory.path().join(ADMIN_SOCKET)).expect("it listens");
        let answer = exchange(socket, "POST", path).expect("it answers");
        (answer.status, answer.body)
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    #[track_caller]
    pub fn await_end(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the endpoint still runs after {limit:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(60);
            eprintln!("the end of the endpoint's log:\n{}", lines[from..].join("\n"));
        }
        self.signal(Signal::SIGCONT);
        self.signal(Signal::SIGINT);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl EndpointBuilder {
    /// Who authenticates clients.
    #[must_use]
    pub fn auth(self, auth: Auth) -> Self {
        self.key("auth.mode", &format!("\"{}\"", auth.word()))
    }

    /// Clients may use TLS, and servers are reached by it alone: they have certificates.
    #[must_use]
    pub fn with_tls(self) -> Self {
        let certificates = Certificates::shared();
        let quoted = |path: &std::path::Path| format!("{:?}", path.display().to_string());
        let [certificate, key] = certificates.endpoint();
        self.key("client_tls.cert_file", &quoted(&certificate))
            .key("client_tls.key_file", &quoted(&key))
            .key("server_tls.sslmode", "\"verify-full\"")
            .key("server_tls.sslrootcert", &quoted(&certificates.root()))
    }

    /// Listens on an admin socket in the endpoint's directory.
    #[must_use]
    pub fn with_admin(mut self) -> Self {
        self.has_admin = true;
        self
    }

    /// One more flag of `trunkline serve`.
    #[must_use]
    pub fn flag(mut self, flag: &str, value: &str) -> Self {
        self.flags.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A key of the configuration file, `section.key`, with its value as TOML.
    #[must_use]
    pub fn key(mut self, key: &str, value: &str) -> Self {
        let (section, key) = key.rsplit_once('.').expect("keys are written section.key");
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// Tables of the configuration file as they are, such as a `[[server]]`, which flags of the same name complete.
    #[must_use]
    pub fn toml(mut self, tables: &str) -> Self {
        self.tables.push_str(tables);
        self
    }

    /// Reaches the server `name` at another port, such as a forwarder's.
    #[must_use]
    pub fn through(mut self, name: &str, port: u16) -> Self {
        for server in self.servers.iter_mut().filter(|server| server.0 == name) {
            server.2 = format!("127.0.0.1:{port}");
        }
        self
    }

    /// Leaves the server `name` out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.servers.retain(|server| server.0 != name);
        self.not_awaiting(name)
    }

    /// Starts when the server `name`, which the configuration file or a discovery names, is healthy, too.
    #[must_use]
    pub fn awaiting(mut self, name: &str) -> Self {
        self.awaited.push(name.to_owned());
        self
    }

    /// Starts also while the server `name` is not healthy.
    #[must_use]
    pub fn not_awaiting(mut self, name: &str) -> Self {
        self.awaited.retain(|awaited| awaited != name);
        self
    }

    /// Starts it and waits until its servers are healthy.
    ///
    /// # Panics
    /// When it ends, or is not ready in time, with its log.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Endpoint {
        let directory =
            tempfile::Builder::new().prefix("trunkline-endpoint-").tempdir().expect("a directory");
        let take = || PortLease::take().expect("a port is free");
        let ports = Ports { reads: take(), writes: take(), http: take() };
        self.write_file(directory.path());
        let log = File::create(directory.path().join("log")).expect("the directory takes a file");
        let mut command = Command::new(binary());
        command.arg("serve").arg("--config").arg(directory.path().join("trunkline.toml"));
        for (name, role, address) in &self.servers {
            command.arg(role).arg(format!("{name}={address}"));
        }
        for (flag, lease) in [("--reads", &ports.reads), ("--writes", &ports.writes), ("--http", &ports.http)]
        {
            command.arg(flag).arg(format!("127.0.0.1:{}", lease.port()));
        }
        if !self.sections.contains_key("monitor") {
            let login = format!("user={MONITOR_ROLE} password={MONITOR_PASSWORD} dbname=appdb");
            command.arg("--monitor").arg(login);
        }
        if self.has_admin {
            command.arg("--admin").arg(directory.path().join(ADMIN_SOCKET));
        }
        command.args(&self.flags).envs(self.environment.iter().cloned());
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file can be opened twice")).stderr(log);
        let child = command.spawn().expect("the binary runs");
        let mut endpoint = Endpoint { child, ports, directory, builder: self };
        endpoint.await_ready();
        endpoint
    }

    /// Puts the file in place whole: a reload that is still under way reads the one before or this one.
    fn write_file(&self, directory: &std::path::Path) {
        let mut text = String::new();
        for (section, keys) in &self.sections {
            let _infallible = writeln!(text, "[{section}]");
            for (key, value) in keys {
                let _infallible = writeln!(text, "{key} = {value}");
            }
        }
        text.push_str(&self.tables);
        let written = directory.join("trunkline.toml.new");
        std::fs::write(&written, text).expect("the directory takes a file");
        std::fs::rename(written, directory.join("trunkline.toml")).expect("it takes its place");
    }
}

impl Endpoint {
    #[track_caller]
    fn await_ready(&mut self) {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut missing = self.builder.awaited.clone();
        loop {
            missing.retain(|name| self.status_of(&format!("/{name}")) != 200);
            if missing.is_empty() && self.status_of("/livez") == 200 {
                return;
            }
            let ended = self.child.try_wait().expect("it is our child");
            let is_late = Instant::now() >= deadline;
            assert!(
                ended.is_none() && !is_late,
                "the endpoint is not ready ({ended:?}), missing {missing:?}; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
