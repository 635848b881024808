//! A cluster of Patroni: etcd, and PostgreSQL servers that Patroni runs, each on a [`Machine`] of its own.

mod config;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use trunkline_cluster::{PgInstall, ServerAccount};

use self::config::{REST_PORT, SERVER_PORT, member_config, roles, start_etcd};
use crate::cluster::install;
use crate::{HttpAnswer, Machine, TestNetwork, http_request, within};

/// The last part of the first member's address.
const FIRST_MEMBER: u8 = 11;
/// Members whose addresses are before those of other things.
const MEMBERS_MAX: usize = 100;
/// Longest wait for an answer of the REST API that takes no work.
const REST_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a switchover, which is answered when it is done.
const SWITCHOVER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for anything that Patroni does, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What `GET /cluster` says of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatroniMember {
    /// Its name: `n1`, `n2`, ...
    pub name: String,
    /// `leader`, `replica`, `sync_standby`.
    pub role: String,
    /// `running`, `streaming`, `starting`, ...
    pub state: String,
    /// The timeline, where it is known.
    pub timeline: Option<u64>,
}

/// A running cluster. All of it ends when it is dropped.
#[derive(Debug)]
pub struct PatroniCluster {
    running: Vec<RunningMember>,
    _etcd: Machine,
    network: TestNetwork,
    account: ServerAccount,
    install: PgInstall,
    /// After all that writes to it.
    directory: TempDir,
}

#[derive(Debug)]
struct RunningMember {
    name: String,
    machine: Machine,
}

impl PatroniCluster {
    /// Why there can be none here, or `None`.
    #[must_use]
    pub fn missing() -> Option<&'static str> {
        let has = |program: &str| {
            let mut look = Command::new(program);
            look.arg("--version").output().is_ok_and(|output| output.status.success())
        };
        if !has("patroni") || !has("etcd") {
            return Some("no patroni and etcd here (apt-get install patroni etcd-server)");
        }
        TestNetwork::missing()
    }

    /// Moves the calling thread to a new network, and starts a cluster of so many members there.
    ///
    /// # Panics
    /// When it does not come up, with the ends of its logs; see [`PatroniCluster::missing`].
    #[must_use]
    pub fn start(members: usize) -> Self {
        let network = TestNetwork::enter();
        let account = ServerAccount::detect().expect("the servers have an OS user");
        let directory = tempfile::Builder::new().prefix("trunkline-test-").tempdir_in("/tmp");
        let directory = directory.expect("/tmp takes a directory");
        give(&account, directory.path());
        let etcd = start_etcd(&network, &account, directory.path());
        let mut patroni =
            Self { running: Vec::new(), _etcd: etcd, network, account, install: install(), directory };
        for _ in 0..members {
            patroni.add();
        }
        patroni.await_settled(members);
        let leader = patroni.leader();
        for (database, sql) in roles() {
            patroni.psql(&leader, database, &sql);
        }
        patroni
    }

    /// The names of its members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.running.iter().map(|member| member.name.as_str())
    }

    /// Where PostgreSQL of the member `name` listens.
    #[must_use]
    pub fn server(&self, name: &str) -> SocketAddr {
        (self.member(name).machine.address(), SERVER_PORT).into()
    }

    /// The URLs of the REST API.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.running.iter().map(|member| format!("http://{}:{REST_PORT}", member.machine.address())).collect()
    }

    /// What the first member that answers says of all.
    #[must_use]
    pub fn members(&self) -> Vec<PatroniMember> {
        let answer = self.running.iter().find_map(|member| rest(member, "GET", "/cluster", "", REST_TIMEOUT));
        answer.map(|answer| parse_members(&answer.body)).unwrap_or_default()
    }

    /// Waits until there is a leader, and gives its name.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    #[track_caller]
    pub fn leader(&self) -> String {
        self.await_leader(|_| true)
    }

    /// Waits until there is a leader other than `old`, and gives its name.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    #[track_caller]
    pub fn leader_after(&self, old: &str) -> String {
        self.await_leader(|name| name != old)
    }

    #[track_caller]
    fn await_leader(&self, is_wanted: impl Fn(&str) -> bool) -> String {
        let look = || {
            let found =
                self.members().into_iter().find(|member| member.role == "leader" && is_wanted(&member.name));
            found.map(|leader| leader.name)
        };
        within(PATIENCE, "Patroni has a leader", look).0
    }

    /// Waits until there are `count` members, all running on the leader's timeline, and one of them is the synchronous
    /// standby, which has all that was ever acknowledged.
    ///
    /// # Panics
    /// When they are not in time, with what they say and the ends of their logs.
    #[track_caller]
    pub fn await_settled(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let members = self.members();
            if is_settled(&members, count) {
                return;
            }
            assert!(Instant::now() < deadline, "not settled: {members:#?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The name of the synchronous standby.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    #[track_caller]
    pub fn synchronous(&self) -> String {
        let look = || self.members().into_iter().find(|member| member.role == "sync_standby");
        within(PATIENCE, "Patroni has a synchronous standby", look).0.name
    }

    /// Makes the member `to` the leader, in order.
    ///
    /// # Panics
    /// When Patroni refuses.
    #[track_caller]
    pub fn switch_over(&self, to: &str) {
        let leader = self.leader();
        let body = json!({"leader": leader, "candidate": to}).to_string();
        let answer = rest(self.member(&leader), "POST", "/switchover", &body, SWITCHOVER_TIMEOUT);
        let answer = answer.expect("the leader answers");
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// SIGKILL to Patroni and PostgreSQL of the member `name`, all at once.
    pub fn kill(&mut self, name: &str) {
        self.running_member_mut(name).machine.kill_all();
    }

    /// Starts Patroni of the member `name`, which starts its PostgreSQL.
    ///
    /// # Panics
    /// When the member does not exist.
    pub fn start_member(&mut self, name: &str) {
        let (config, log) = (self.path(&format!("{name}.json")), self.path(&format!("{name}.log")));
        let config = config.display().to_string();
        let account = self.account.clone();
        self.running_member_mut(name).machine.run(&account, &log, &["patroni", &config]);
    }

    /// Pulls the cable of the member `name`: nothing reaches it, and nobody is told.
    pub fn cut(&self, name: &str) {
        self.member(name).machine.cut();
    }

    /// Undoes [`PatroniCluster::cut`].
    pub fn heal(&self, name: &str) {
        self.member(name).machine.heal();
    }

    /// Has the replica `name` copied from the leader again; returns when the copy has been started.
    ///
    /// # Panics
    /// When Patroni refuses.
    #[track_caller]
    pub fn reinit(&self, name: &str) {
        let member = self.member(name);
        let started = || {
            let answer = rest(member, "GET", "/patroni", "", REST_TIMEOUT)?;
            let status: Value = serde_json::from_str(&answer.body).ok()?;
            status["postmaster_start_time"].as_str().map(str::to_owned)
        };
        let (before, _) = within(PATIENCE, "the replica runs", started);
        let body = json!({"force": true}).to_string();
        let answer = rest(member, "POST", "/reinitialize", &body, REST_TIMEOUT).expect("the replica answers");
        assert_eq!(answer.status, 200, "{answer:?}");
        within(PATIENCE, "the copy runs", || started().filter(|now| *now != before));
    }

    /// Starts one more member, and gives its name.
    ///
    /// # Panics
    /// When there are too many.
    pub fn add(&mut self) -> String {
        // Numbers of members that were removed may be given again: the last one's successor.
        let index = self.running.len();
        assert!(index < MEMBERS_MAX, "{index} members");
        let number = FIRST_MEMBER + u8::try_from(index).expect("it is below MEMBERS_MAX");
        let name = format!("n{}", index + 1);
        let machine = self.network.boot(number, &self.path(&format!("{name}.machine.log")));
        let config = member_config(&name, &machine, &self.install, self.directory.path());
        std::fs::write(self.path(&format!("{name}.json")), config.to_string())
            .expect("the directory takes a file");
        let sockets = self.sockets(&name);
        std::fs::create_dir(&sockets).expect("the directory takes another");
        give(&self.account, &sockets);
        self.running.push(RunningMember { name: name.clone(), machine });
        self.start_member(&name);
        name
    }

    /// Ends the last member for good, with its machine: Patroni and PostgreSQL get a SIGKILL.
    ///
    /// # Panics
    /// When there is none.
    pub fn remove_last(&mut self) {
        self.running.pop().expect("there is a member");
    }

    /// What `sql` returns on the member `name` as the superuser: rows by line, columns between `|`.
    ///
    /// # Panics
    /// When it fails, with what the server said.
    #[track_caller]
    pub fn psql(&self, name: &str, database: &str, sql: &str) -> String {
        let mut command = self.install.command("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"]);
        command.arg(self.sockets(name)).arg("-c").arg(sql);
        let output = command.output().expect("psql runs");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The ends of all logs.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for name in self.names().chain(["etcd"]) {
            let bytes = std::fs::read(self.path(&format!("{name}.log"))).unwrap_or_default();
            let log = String::from_utf8_lossy(&bytes).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
            let _infallible = writeln!(text, "the end of the log of {name}:\n{}", end.join("\n"));
        }
        text
    }

    fn member(&self, name: &str) -> &RunningMember {
        self.running.iter().find(|member| member.name == name).expect("the test names its members")
    }

    fn running_member_mut(&mut self, name: &str) -> &mut RunningMember {
        self.running.iter_mut().find(|member| member.name == name).expect("the test names its members")
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn sockets(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.sockets"))
    }
}

impl Drop for PatroniCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

fn is_settled(members: &[PatroniMember], count: usize) -> bool {
    let Some(leader) = members.iter().find(|member| member.role == "leader") else { return false };
    let runs = |member: &PatroniMember| matches!(member.state.as_str(), "running" | "streaming");
    let follows = |member: &&PatroniMember| runs(member) && member.timeline == leader.timeline;
    members.len() == count
        && members.iter().filter(follows).count() == count
        && members.iter().filter(|member| member.role == "sync_standby").count() == 1
}

fn parse_members(body: &str) -> Vec<PatroniMember> {
    let Ok(cluster) = serde_json::from_str::<Value>(body) else { return Vec::new() };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let members = cluster["members"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    members
        .map(|member| PatroniMember {
            name: text(&member["name"]),
            role: text(&member["role"]),
            state: text(&member["state"]),
            timeline: member["timeline"].as_u64(),
        })
        .collect()
}

fn rest(
    member: &RunningMember,
    method: &str,
    path: &str,
    body: &str,
    timeout: Duration,
) -> Option<HttpAnswer> {
    http_request((member.machine.address(), REST_PORT).into(), method, path, body, timeout)
}

fn give(account: &ServerAccount, directory: &Path) {
    if let ServerAccount::Dropped { uid, gid, .. } = account {
        let given = std::os::unix::fs::chown(directory, Some(uid.as_raw()), Some(gid.as_raw()));
        given.expect("root gives away what is its own");
    }
}

#[cfg(test)]
mod tests {
    use super::{is_settled, parse_members};

    #[test]
    fn a_cluster_is_settled_when_all_follow_the_leader_and_one_synchronously() {
        let body = r#"{"members": [
            {"name": "n1", "role": "leader", "state": "running", "timeline": 2},
            {"name": "n2", "role": "sync_standby", "state": "streaming", "timeline": 2, "lag": 0},
            {"name": "n3", "role": "replica", "state": "running", "timeline": 2, "lag": 0}]}"#;
        let mut members = parse_members(body);
        assert!(is_settled(&members, 3));
        assert!(!is_settled(&members, 4));
        members[2].timeline = Some(1);
        assert!(!is_settled(&members, 3));
        assert!(!is_settled(&parse_members("no JSON"), 0));
    }
}
