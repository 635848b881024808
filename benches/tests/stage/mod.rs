//! The proxy before a server of canned answers.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trunkline_cluster::PortLease;

/// How long the proxy may take to find its server healthy.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Both of them, running.
pub(crate) struct Stage {
    proxy: Running,
    _server: Running,
    reads: PortLease,
    _http: PortLease,
}

impl Stage {
    /// Starts both; the server with these arguments.
    pub(crate) fn set(server: &[&str]) -> Self {
        let mut server = Command::new(env!("CARGO_BIN_EXE_fakepg"))
            .args(server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("fakepg runs");
        let mut port = String::new();
        BufReader::new(server.stdout.take().expect("it is piped"))
            .read_line(&mut port)
            .expect("it says its port");
        let (reads, http) =
            (PortLease::take().expect("a free port"), PortLease::take().expect("a free port"));
        let address = |port: u16| format!("127.0.0.1:{port}");
        let proxy = Command::new(trunkline_tests::binary())
            .args([
                "serve",
                "--config",
                "/dev/null",
                "--auth",
                "relay",
                "--threads",
                "1",
                "--monitor",
                "user=bench dbname=bench",
            ])
            .args(["--primary", &format!("primary=127.0.0.1:{}", port.trim())])
            .args(["--reads", &address(reads.port()), "--http", &address(http.port())])
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let stage = Stage { proxy: Running(proxy), _server: Running(server), reads, _http: http };
        let deadline = Instant::now() + READY_TIMEOUT;
        while !stage.is_served() {
            assert!(Instant::now() < deadline, "the proxy serves nobody");
            std::thread::sleep(Duration::from_millis(50));
        }
        stage
    }

    pub(crate) fn port(&self) -> u16 {
        self.reads.port()
    }

    pub(crate) fn proxy_id(&self) -> u32 {
        self.proxy.0.id()
    }

    /// Queries answered to so many clients in so many seconds.
    pub(crate) fn load(&self, clients: u32, seconds: f64) -> Option<f64> {
        let out = Command::new(env!("CARGO_BIN_EXE_pgload"))
            .args(["loop", "--warm-up", "0", "--seconds", &seconds.to_string()])
            .args(["--port", &self.port().to_string(), "--clients", &clients.to_string()])
            .stderr(Stdio::null())
            .output()
            .expect("pgload runs");
        let figures: serde_json::Value = serde_json::from_slice(&out.stdout).ok()?;
        figures["count"].as_f64()
    }

    fn is_served(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port())).is_ok() && self.load(1, 0.01).is_some()
    }
}
