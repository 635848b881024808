//! Trunkline in front of a cluster, with an operator who has sessions move.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use trunkline_cluster::{Cluster, Server};
use trunkline_codec::write;
use trunkline_tests::{Auth, Endpoint, Login, Wire, binary, eventually};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The server a session is on.
pub(crate) const WHERE: &str = "SELECT inet_server_port()";

pub(crate) struct Movers<'a> {
    pub(crate) endpoint: Endpoint,
    socket: PathBuf,
    cluster: &'a Cluster,
}

impl<'a> Movers<'a> {
    /// `name` is the test's own.
    pub(crate) fn over(cluster: &'a Cluster, name: &str) -> Self {
        let socket = cluster.directory().join(format!("{name}.sock"));
        let admin = socket.to_str().unwrap();
        let endpoint = Endpoint::over(cluster).auth(Auth::Verify).flag("--admin", admin).start();
        Movers { endpoint, socket, cluster }
    }

    pub(crate) fn login(&self, login: &Login) -> Wire {
        login.connect(self.endpoint.reads())
    }

    /// The server a session is on.
    pub(crate) fn home(&self, session: &mut Wire) -> &'a Server {
        let port = session.value(WHERE).parse::<u16>().unwrap();
        self.cluster.servers().find(|server| server.port() == port).unwrap()
    }

    /// Has the session, which must be the only one, go to another replica.
    pub(crate) fn move_it(&self, session: &mut Wire) {
        let name = self.home(session).name();
        self.operator("drain", name);
        eventually(PATIENCE, "the session leaves", || self.endpoint.sessions_on(name) == 0);
        // Not by a Query: it would drop the unnamed statement.
        session.send_with(write::sync);
        let answer = session.read_answer();
        assert!(answer.error.is_none(), "{:?}\n{}", answer.error, self.endpoint.log());
        self.operator("ready", name);
        self.endpoint.await_health(name, true, PATIENCE);
    }

    pub(crate) fn operator(&self, wanted: &str, server: &str) {
        let output =
            Command::new(binary()).args([wanted, server, "--admin"]).arg(&self.socket).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Returns when all that is committed by now is known of every server.
    pub(crate) fn await_looks(&self) {
        self.cluster.wait_caught_up().unwrap();
        // The first may have found a change, and be the question before it is read.
        for _ in 0..2 {
            for server in self.cluster.servers() {
                let now = server.psql("SELECT clock_timestamp()").unwrap();
                let looked = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trunkline_defaults' \
                     AND state = 'idle' AND query LIKE '%pg_conf_load_time%' AND query_start > '{now}'"
                );
                eventually(PATIENCE, "the server was looked at", || server.psql(&looked).unwrap() != "0");
            }
        }
    }
}
