//! One PostgreSQL server of a cluster: start, stop, break, ask.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::hint_for;
use crate::process::{descendants, is_started_for, send_signal, wait_gone};
use crate::spec::{MONITOR_PASSWORD, MONITOR_ROLE, quote};
use crate::tool::{last_lines, run_with_input};
use crate::{ClusterError, PgInstall, PortLease, ServerAccount};

/// How long a server may take to accept connections.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to end after a request to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to end by itself before it is killed, when the cluster goes.
const LAST_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a state is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(10);

/// How a server is told to stop. Source: PostgreSQL manual, "Shutting Down the Server".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// No new sessions; ends when the last one is gone.
    Smart,
    /// Ends all sessions with 57P01.
    Fast,
    /// As after a crash.
    Immediate,
}

impl StopMode {
    fn signal(self) -> Signal {
        match self {
            Self::Smart => Signal::SIGTERM,
            Self::Fast => Signal::SIGINT,
            Self::Immediate => Signal::SIGQUIT,
        }
    }
}

/// What all servers of one cluster share.
#[derive(Debug)]
pub(crate) struct ClusterShared {
    pub(crate) install: PgInstall,
    pub(crate) account: ServerAccount,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) socket_dir: PathBuf,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
}

/// A server that this process started, with its data directory. Dropping it stops it; the directory stays.
#[derive(Debug)]
pub struct Server {
    name: String,
    lease: Arc<PortLease>,
    data_dir: PathBuf,
    log_file: PathBuf,
    shared: Arc<ClusterShared>,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// A server for the existing data directory `directory/name`.
    pub(crate) fn new(
        name: &str,
        directory: &Path,
        lease: Arc<PortLease>,
        shared: Arc<ClusterShared>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            lease,
            data_dir: directory.join(name),
            log_file: directory.join(format!("{name}.log")),
            shared,
            child: Mutex::new(None),
        }
    }

    /// Its name: `primary`, `replica1`, ...
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its port on 127.0.0.1, the same after every restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.lease.port()
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where its unix socket is.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.shared.socket_dir
    }

    /// A libpq connection string for the superuser over TCP.
    #[must_use]
    pub fn conninfo(&self) -> String {
        let ClusterShared { user, password, database, .. } = &*self.shared;
        format!("host=127.0.0.1 port={} user={user} password={password} dbname={database}", self.port())
    }

    /// A libpq connection string for the monitoring role over TCP.
    #[must_use]
    pub fn monitor_conninfo(&self) -> String {
        let port = self.port();
        let database = &self.shared.database;
        format!(
            "host=127.0.0.1 port={port} user={MONITOR_ROLE} password={MONITOR_PASSWORD} dbname={database}"
        )
    }

    /// All that it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log_file)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Starts it and waits until it accepts connections. One that runs is left alone.
    ///
    /// # Errors
    /// [`ClusterError::NotStarted`] with the end of its log.
    pub fn start(&self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let lines_before = self.log().lines().count();
            self.launch()?;
            match self.wait_ready() {
                // Children of a killed postmaster need a moment to notice and end.
                Err(_ended) if self.was_in_use(lines_before) && Instant::now() < deadline => {
                    std::thread::sleep(POLL);
                }
                outcome => return outcome,
            }
        }
    }

    /// Whether a start failed because processes of the postmaster before still hold its shared memory; they may write
    /// to the log themselves.
    fn was_in_use(&self, lines_before: usize) -> bool {
        self.log().lines().skip(lines_before).any(|line| line.contains("is still in use"))
    }

    /// Starts it and returns at once.
    ///
    /// # Errors
    /// [`ClusterError::Io`] when the program cannot be run.
    pub fn launch(&self) -> Result<(), ClusterError> {
        if self.postmaster_pid().is_some() {
            return Ok(());
        }
        // It names a process that is gone; were its number in use again, PostgreSQL would refuse to start.
        let _absent = std::fs::remove_file(self.pid_file());
        let failed = || ClusterError::io(format!("start server \"{}\"", self.name));
        let log = OpenOptions::new().create(true).append(true).open(&self.log_file).map_err(failed())?;
        let mut command = self.shared.install.command("postgres");
        command.arg("-D").arg(&self.data_dir).current_dir(&self.data_dir).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(failed())?).stderr(log);
        // A group of its own: Ctrl-C at the terminal is for us, and we end the servers in order.
        command.process_group(0);
        self.shared.account.apply(&mut command);
        command.envs(self.shared.environment.iter().cloned());
        let child = command.spawn().map_err(failed())?;
        *self.child() = Some(child);
        Ok(())
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    /// [`ClusterError::NotStarted`] when it ends, or is not ready within a minute.
    pub fn wait_ready(&self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if self.is_ready() {
                return Ok(());
            }
            let ended = self.child().as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(self.not_started(format!("ended with {status}")));
            }
            if Instant::now() >= deadline {
                return Err(self.not_started(format!("was not ready within {} s", START_TIMEOUT.as_secs())));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Tells it to stop and waits until it has. One that is down already is left so.
    ///
    /// # Errors
    /// [`ClusterError::NotStopped`] when it still runs after half a minute.
    pub fn stop(&self, mode: StopMode) -> Result<(), ClusterError> {
        self.request_stop(mode);
        self.wait_stopped(STOP_TIMEOUT)
    }

    /// Tells it to stop and returns at once.
    pub fn request_stop(&self, mode: StopMode) {
        if let Some(pid) = self.postmaster_pid() {
            send_signal(pid, mode.signal());
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`ClusterError::NotStopped`] when it still runs after `timeout`.
    pub fn wait_stopped(&self, timeout: Duration) -> Result<(), ClusterError> {
        let deadline = Instant::now() + timeout;
        loop {
            self.reap();
            if self.postmaster_pid().is_none() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(ClusterError::NotStopped { server: self.name.clone(), waited: timeout });
            }
            std::thread::sleep(POLL);
        }
    }

    /// SIGKILL to the postmaster and to all its children, which are gone on return.
    pub fn kill(&self) {
        let Some(postmaster) = self.postmaster_pid() else { return };
        // Stopped, it starts no further child between the look and the blow.
        send_signal(postmaster, Signal::SIGSTOP);
        let mut pids = descendants(postmaster);
        pids.push(postmaster);
        for &pid in pids.iter().rev() {
            send_signal(pid, Signal::SIGKILL);
        }
        wait_gone(&pids, STOP_TIMEOUT);
        self.reap();
    }

    /// SIGKILL to the postmaster alone: its children notice and end by themselves, as after an operator's `kill -9`.
    pub fn kill_postmaster(&self) {
        let Some(postmaster) = self.postmaster_pid() else { return };
        send_signal(postmaster, Signal::SIGKILL);
        wait_gone(&[postmaster], STOP_TIMEOUT);
        self.reap();
    }

    /// SIGSTOP to the postmaster and its children: the server hangs, while its sockets stay open.
    pub fn pause(&self) {
        let Some(postmaster) = self.postmaster_pid() else { return };
        send_signal(postmaster, Signal::SIGSTOP);
        for pid in descendants(postmaster) {
            send_signal(pid, Signal::SIGSTOP);
        }
    }

    /// Undoes [`Server::pause`].
    pub fn resume(&self) {
        let Some(postmaster) = self.postmaster_pid() else { return };
        for pid in descendants(postmaster) {
            send_signal(pid, Signal::SIGCONT);
        }
        send_signal(postmaster, Signal::SIGCONT);
    }

    /// The postmaster's process id, when it runs.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<i32> {
        let pid = self.pid_file_line(0)?.parse().ok()?;
        is_started_for(pid, &self.data_dir).then_some(pid)
    }

    /// The process ids of its children whose title contains `words`, such as `walsender`.
    #[must_use]
    pub fn children_titled(&self, words: &str) -> Vec<i32> {
        let children = self.postmaster_pid().map(descendants).unwrap_or_default();
        let title = |pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        children.into_iter().filter(|&pid| title(pid).contains(words)).collect()
    }

    /// What `sql` returns over the private socket as the superuser: rows by line, columns between `|`.
    ///
    /// # Errors
    /// [`ClusterError::Statement`] with what the server said.
    pub fn psql(&self, sql: &str) -> Result<String, ClusterError> {
        self.psql_in(&self.shared.database, sql)
    }

    /// As [`Server::psql`], in another database.
    ///
    /// # Errors
    /// As [`Server::psql`].
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String, ClusterError> {
        let mut command = self.shared.install.command("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h"]).arg(&self.shared.socket_dir);
        command.args(["-p", &self.port().to_string(), "-U", &self.shared.user, "-d", database, "-f", "-"]);
        let output = run_with_input(&mut command, "psql", sql)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        Err(ClusterError::Statement {
            server: self.name.clone(),
            message: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
            sql: sql.to_owned(),
        })
    }

    /// Makes a standby the primary of a new timeline.
    ///
    /// # Errors
    /// [`ClusterError::Statement`] when it is none, or takes over a minute.
    pub fn promote(&self) -> Result<(), ClusterError> {
        self.psql("SELECT pg_promote(true, 60)").map(drop)
    }

    /// Changes a setting that needs no restart, for this server only.
    ///
    /// # Errors
    /// [`ClusterError::Statement`] when the server refuses it.
    pub fn set(&self, name: &str, value: &str) -> Result<(), ClusterError> {
        self.psql(&format!("ALTER SYSTEM SET {name} = {};\nSELECT pg_reload_conf();", quote(value))).map(drop)
    }

    /// Stops a standby's replay and waits until it stands still.
    ///
    /// # Errors
    /// [`ClusterError::Statement`] when it is no standby, [`ClusterError::TimedOut`] when replay goes on.
    pub fn pause_replay(&self) -> Result<(), ClusterError> {
        self.psql("SELECT pg_wal_replay_pause()")?;
        self.wait_until("replay is paused", "SELECT pg_get_wal_replay_pause_state() = 'paused'")
    }

    /// Lets a standby replay again.
    ///
    /// # Errors
    /// [`ClusterError::Statement`] when it is no standby.
    pub fn resume_replay(&self) -> Result<(), ClusterError> {
        self.psql("SELECT pg_wal_replay_resume()").map(drop)
    }

    /// Waits until `condition`, a statement, returns `t`.
    ///
    /// # Errors
    /// [`ClusterError::TimedOut`] after half a minute, [`ClusterError::Statement`] when it fails.
    pub fn wait_until(&self, what: &str, condition: &str) -> Result<(), ClusterError> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.psql(condition)? != "t" {
            if Instant::now() >= deadline {
                let what = format!("on server \"{}\" {what}", self.name);
                return Err(ClusterError::TimedOut { what, waited: STOP_TIMEOUT });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Ends it in any case: politely, then by SIGKILL.
    pub(crate) fn end(&self) {
        self.resume();
        self.request_stop(StopMode::Fast);
        if self.wait_stopped(LAST_STOP_TIMEOUT).is_err() {
            self.kill();
        }
        self.reap();
        self.remove_shared_memory();
    }

    fn is_ready(&self) -> bool {
        // Source: PostgreSQL, src/include/utils/pidfile.h: line 8 is the postmaster's state.
        self.pid_file_line(7).is_some_and(|state| state == "ready") && self.postmaster_pid().is_some()
    }

    /// A killed postmaster leaves its small System V segment; no other process can be attached to it any more.
    fn remove_shared_memory(&self) {
        let Some(line) = self.pid_file_line(6) else { return };
        if let Some(id) = line.split_whitespace().nth(1) {
            let quiet = Stdio::null;
            let _absent =
                std::process::Command::new("ipcrm").args(["-m", id]).stdout(quiet()).stderr(quiet()).status();
        }
    }

    fn not_started(&self, how: String) -> ClusterError {
        let log = self.log();
        let hint = hint_for(&last_lines(&log));
        ClusterError::NotStarted { server: self.name.clone(), how, log: last_lines(&log), hint }
    }

    fn pid_file(&self) -> PathBuf {
        self.data_dir.join("postmaster.pid")
    }

    fn pid_file_line(&self, index: usize) -> Option<String> {
        let text = std::fs::read_to_string(self.pid_file()).ok()?;
        text.lines().nth(index).map(|line| line.trim().to_owned())
    }

    fn reap(&self) {
        let mut child = self.child();
        if child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
            *child = None;
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        // A panic elsewhere does not make a process handle wrong.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
