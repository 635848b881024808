//! Where a scenario is played, and the direct connection beside it that prepares, waits and cleans.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::client::{LoginFailure, TortureClient};
use crate::dsn::Dsn;
use crate::flight;
use crate::reasons::ReasonsCommand;
use crate::scenario::{Need, Until};
use crate::seen::{Seen, SeenEnd};

/// Longest wait for what the server does in its own time: a process that ends, a statement that begins.
const SERVER_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at what the server tells nobody.
const POLL_INTERVAL: Duration = Duration::from_millis(3);
/// Logins through the pooler until one works, after its server connections were ended: it may hold dead ones, one each.
const SETTLING_ATTEMPTS_MAX: usize = 100;
/// From a login until a proxy chooses a server for each request: it may keep that of the login until it knows what that gives.
const SETTLED_AFTER: Duration = Duration::from_millis(150);

/// What is between the clients and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing: each client has a server process of its own.
    Direct,
    /// The pooler under test.
    Pooled,
}

/// The direct connection beside the scenarios of one database.
#[derive(Debug)]
pub struct Prompter {
    client: TortureClient,
    direct: Dsn,
    pooler: Dsn,
    reasons: Option<ReasonsCommand>,
    awaits_standbys: bool,
}

impl Prompter {
    /// Logs in to the direct DSN.
    ///
    /// # Errors
    /// The login is refused, or the server cannot be reached.
    pub fn connect(direct: &Dsn, pooler: &Dsn) -> anyhow::Result<Self> {
        match TortureClient::connect(direct, &[], SERVER_WAIT) {
            Ok(client) => Ok(Self {
                client,
                direct: direct.clone(),
                pooler: pooler.clone(),
                reasons: None,
                awaits_standbys: false,
            }),
            Err(LoginFailure::Refused(error)) => bail!("the direct server refuses the login: {error}"),
            Err(LoginFailure::Broken(error)) => Err(error).context("no connection to the direct server"),
        }
    }

    /// With a command that is asked for reasons.
    #[must_use]
    pub fn asking(mut self, reasons: Option<ReasonsCommand>) -> Self {
        self.reasons = reasons;
        self
    }

    /// With standbys of the direct server from which the pooler may read, if `awaits_standbys` is set.
    #[must_use]
    pub fn awaiting_standbys(mut self, awaits_standbys: bool) -> Self {
        self.awaits_standbys = awaits_standbys;
        self
    }

    /// Waits until all standbys have replayed what has been written: what one client did, another one finds there.
    ///
    /// # Errors
    /// As [`Prompter::run`], or they do not replay it.
    pub fn await_standbys(&mut self, stage: Stage) -> anyhow::Result<()> {
        let sql =
            "SELECT 'behind' FROM pg_stat_replication WHERE (replay_lsn < pg_current_wal_lsn()) IS NOT FALSE";
        let deadline = Instant::now() + SERVER_WAIT;
        while self.awaits_standbys && stage == Stage::Pooled && self.run(sql)?.contains("behind") {
            if Instant::now() > deadline {
                bail!("a standby does not replay what was written within {SERVER_WAIT:?}");
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Waits, with standbys from which the pooler may read, until it does so for a client that has just logged in.
    pub fn let_settle(&self, stage: Stage) {
        if self.awaits_standbys && stage == Stage::Pooled {
            std::thread::sleep(SETTLED_AFTER);
        }
    }

    /// Why the pooler keeps server connections now, if there is a command to ask.
    ///
    /// # Errors
    /// As [`ReasonsCommand::ask`].
    pub fn reasons(&self, stage: Stage) -> anyhow::Result<BTreeSet<String>> {
        match (&self.reasons, stage) {
            (Some(command), Stage::Pooled) => command.ask(),
            (None, _) | (_, Stage::Direct) => Ok(BTreeSet::new()),
        }
    }

    /// The DSN of a stage.
    #[must_use]
    pub fn dsn(&self, stage: Stage) -> &Dsn {
        match stage {
            Stage::Direct => &self.direct,
            Stage::Pooled => &self.pooler,
        }
    }

    /// Runs SQL and gives what was seen.
    ///
    /// # Errors
    /// The connection is lost, or the server says ERROR.
    pub fn run(&mut self, sql: &str) -> anyhow::Result<Seen> {
        self.client.send(&flight::query(sql).bytes)?;
        let mut seen = Seen::nothing();
        self.client.read(&mut seen, Until::Ready(1), Instant::now() + SERVER_WAIT);
        if seen.end != SeenEnd::Complete {
            bail!("the direct server does not answer to {sql}: {seen}");
        }
        if let Some(error) = seen.lines.iter().find(|line| line.starts_with("E(")) {
            bail!("{sql}: {error}");
        }
        Ok(seen)
    }

    /// Whether the server and the role have what a scenario needs.
    ///
    /// # Errors
    /// As [`Prompter::run`].
    pub fn has(&mut self, need: Need) -> anyhow::Result<bool> {
        let sql = match need {
            Need::Nothing => return Ok(true),
            Need::Superuser => "SELECT 'is ' || current_setting('is_superuser')",
            Need::PreparedTransactions => {
                "SELECT 'is ' || (CASE WHEN current_setting('max_prepared_transactions') <> '0' THEN 'on' END)"
            }
        };
        Ok(self.run(sql)?.contains("is on"))
    }

    /// Ends whatever server processes earlier scenarios have left, so that none finds the state of another, and waits
    /// until they are gone. On the pooler's stage, waits until it serves again, too.
    ///
    /// # Errors
    /// They do not end, or the pooler does not serve again.
    pub fn clear(&mut self, stage: Stage) -> anyhow::Result<()> {
        let sql = "SELECT 'ended', pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid() \
                   AND usename = ANY (ARRAY[current_user, session_user]) AND backend_type = 'client backend'";
        let deadline = Instant::now() + SERVER_WAIT;
        let mut is_clear = true;
        while self.run(sql)?.contains("D(ended") {
            is_clear = false;
            if Instant::now() > deadline {
                bail!("the server's old processes do not end within {SERVER_WAIT:?}");
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        match stage {
            // A pooler that has lost nothing has nothing to notice.
            Stage::Pooled if !is_clear => self.settle(),
            Stage::Direct | Stage::Pooled => Ok(()),
        }
    }

    fn settle(&self) -> anyhow::Result<()> {
        let mut last = String::new();
        for _ in 0..SETTLING_ATTEMPTS_MAX {
            match self.probe() {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        bail!("the pooler does not serve: {last}");
    }

    fn probe(&self) -> Result<(), String> {
        let mut client =
            TortureClient::connect(&self.pooler, &[], SERVER_WAIT).map_err(|failure| match failure {
                LoginFailure::Refused(error) => error,
                LoginFailure::Broken(error) => error.to_string(),
            })?;
        client.send(&flight::query("SELECT 'served'").bytes).map_err(|error| error.to_string())?;
        let mut seen = Seen::nothing();
        client.read(&mut seen, Until::Ready(1), Instant::now() + SERVER_WAIT);
        if !seen.contains("D(served)") {
            return Err(seen.to_string());
        }
        client.send(&flight::terminate().bytes).map_err(|error| error.to_string())
    }

    /// Waits until a server process of this database runs, or waits in, a statement that contains `text`; says whether one
    /// did within `wait`.
    ///
    /// # Errors
    /// As [`Prompter::run`].
    pub fn await_active(&mut self, text: &str, wait: Duration) -> anyhow::Result<bool> {
        let quoted = text.replace('\'', "''");
        let sql = format!(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid() AND state = 'active' AND position('{quoted}' IN query) > 0"
        );
        let deadline = Instant::now() + wait;
        while !self.run(&sql)?.contains("D(t)") {
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(true)
    }
}
