//! `trunkline demo`: a throw-away cluster with Trunkline in front of it.
//!
//! [`stage`] starts the servers and loads the table, [`ports`] chooses where everything listens, and then either
//! [`guide`] prints what to try while [`watch`] shows the servers, or [`exec`] runs a command. Everything is in
//! this process and one directory: nothing is left behind.

mod certificates;
mod exec;
mod guide;
mod ports;
mod progress;
mod stage;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use trunkline_cluster::{Cluster, ClusterSpec, PgInstall};
use trunkline_proxy::Running;
use trunkline_proxy::settings::AuthMode;

use super::serve::{self, SignalStreams, runtime};
use crate::config::checked::CheckedConfig;
use crate::config::words::Word as _;
use crate::logging::{self, Logging, StatementOutput};
use crate::{Exit, Failure};
use certificates::DemoCertificates;
use ports::{PortSet, Ports};
use progress::DemoProgress;

const AFTER: &str = "\
Examples:
  trunkline demo
  trunkline demo --replicas 3 --max-lag 2s --auth relay
  trunkline demo --tls            TLS from psql on, each certificate verified
  trunkline demo --statements     every statement with its timing, as it happens
  trunkline demo --exec 'psql -c \"SELECT count(*) FROM ynar\"'
  trunkline demo --pg-bin /usr/lib/postgresql/17/bin --exec ./my_test.sh

--exec runs CMD by `sh -c` once all is ready, with PGHOST, PGPORT (reads), PGUSER, PGPASSWORD, PGDATABASE,
TRUNKLINE_WRITES_PORT, TRUNKLINE_SPLIT_PORT (reads and writes; not with --auth relay), TRUNKLINE_HTTP (address:port),
TRUNKLINE_ADMIN (the admin socket) and TRUNKLINE_DEMO_DIR (data directories primary, replica1, ... below it) set; with
--tls PGSSLMODE, PGSSLROOTCERT and PGCHANNELBINDING, too. Standard output is CMD's alone, and the exit status is CMD's.

Needs PostgreSQL's server programs (Debian: apt-get install postgresql). Started by root, the servers run as the
OS user postgres. Ctrl-C ends it and leaves nothing behind.

Exit status: 0 ended by a signal, 1 failed, 2 wrong command line; with --exec that of CMD.";

/// Maximum number of replicas: each is a whole server on this machine.
const REPLICAS_MAX: u16 = 16;

/// Exit status of a process ended by SIGINT: 128 + 2, as in shells.
const INTERRUPTED: u8 = 130;

/// Flags of `trunkline demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Demo {
    /// Run this command once all servers are ready, then stop
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// Number of replicas
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=i64::from(REPLICAS_MAX)))]
    replicas: u16,
    /// A replica with more proven lag than this gets no reads [default: 10s]
    #[arg(long, value_name = "DURATION")]
    max_lag: Option<String>,
    /// Who authenticates clients: auto, verify, login or relay
    #[arg(long, value_name = "MODE", default_value = "verify")]
    auth: String,
    /// Directory of initdb and postgres [default: the newest found]
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Show every statement with its timing
    #[arg(long)]
    statements: bool,
    /// Make a CA and certificates: TLS from clients and to servers, which let nobody in without
    #[arg(long)]
    tls: bool,
}

/// Everything that runs in the demo.
struct DemoStage {
    cluster: Cluster,
    running: Running,
    ports: Ports,
    directory: PathBuf,
    /// The root of all certificates, with `--tls`.
    root: Option<PathBuf>,
    /// The path of PostgreSQL's `pg_ctl`, for the commands that are printed.
    pg_ctl: PathBuf,
}

/// What is known before anything runs.
struct DemoPlan {
    checked: CheckedConfig,
    /// With `--tls`.
    certificates: Option<DemoCertificates>,
}

impl DemoStage {
    /// Where clients connect. Every libpq finds a name in a certificate; those before 15 find no address there.
    fn host(&self) -> &'static str {
        if self.root.is_some() { "localhost" } else { "127.0.0.1" }
    }
}

impl Demo {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let runtime = runtime()?;
        let result = runtime.block_on(self.run_async());
        runtime.shutdown_background();
        result
    }

    async fn run_async(self) -> Result<Exit, Failure> {
        let is_relayed = self.auth.eq_ignore_ascii_case(AuthMode::Relay.word());
        if self.tls && is_relayed {
            return Err(Failure::usage("--tls with --auth relay: a server's SCRAM cannot be passed from one TLS connection to another")
                .hint("Leave --auth out: with verify, the proxy proves who the client is on each."));
        }
        let mut signals = SignalStreams::listen()?;
        let progress = DemoProgress::new(self.exec.is_some());
        let set = if is_relayed { PortSet::NoSplit } else { PortSet::All };
        let ports = Ports::choose(self.exec.is_some(), set, self.replicas, &progress)?;
        let directory = stage::directory();
        // Before the servers are made: a flag that is wrong costs nothing.
        let checked = stage::configure(&self, &ports, &directory, None)?;
        let certificates = self.tls.then(DemoCertificates::make).transpose()?;
        let install = PgInstall::find(self.pg_bin.as_deref()).map_err(|error| stage::failure(&error))?;
        let pg_ctl = install.bin.join("pg_ctl");
        let mut spec = ClusterSpec::new(install, usize::from(self.replicas), directory);
        spec.certificate = certificates.as_ref().map(DemoCertificates::of_servers);
        spec.ports = ports.servers().map(|(_, lease)| Arc::clone(lease)).collect();
        let Some(cluster) = stage::start(spec, &progress, &mut signals).await? else {
            // A command that never ran must not appear to have succeeded.
            return Ok(if self.exec.is_some() { Exit::Of(INTERRUPTED) } else { Exit::Success });
        };
        let plan = DemoPlan { checked, certificates };
        // From here on the cluster must be dropped on a thread that may block, whatever happens.
        let (cluster, result) =
            self.with_cluster(cluster, plan, ports, pg_ctl, &progress, &mut signals).await;
        if self.exec.is_none() {
            progress.say("stopping the servers and removing their directory");
        }
        let ended = tokio::task::spawn_blocking(move || drop(cluster)).await;
        ended.map_err(Failure::because("could not stop the servers"))?;
        result
    }

    async fn with_cluster(
        &self,
        cluster: Cluster,
        plan: DemoPlan,
        ports: Ports,
        pg_ctl: PathBuf,
        progress: &DemoProgress,
        signals: &mut SignalStreams,
    ) -> (Cluster, Result<Exit, Failure>) {
        let directory = cluster.directory().to_path_buf();
        let started = async {
            // The cluster wants its directory empty, so these come after it.
            let files = plan.certificates.map(|made| made.write(&directory)).transpose()?;
            let checked = match &files {
                Some(files) => stage::configure(self, &ports, &directory, Some(files))?,
                None => plan.checked,
            };
            let statements =
                if self.statements { StatementOutput::AlsoOnStderr } else { StatementOutput::InLog };
            let logging = logging::start_in_file(&checked.log, &directory.join("trunkline.log"), statements)?;
            let running = serve::start(&checked, None).await?;
            Ok((logging, running, files.map(|files| files.root)))
        };
        let (logging, running, root) = match started.await {
            Ok(started) => started,
            Err(failure) => return (cluster, Err(failure)),
        };
        let stage = DemoStage { cluster, running, ports, directory, root, pg_ctl };
        let result = self.show(&stage, &logging, progress, signals).await;
        let DemoStage { cluster, running, .. } = stage;
        running.stop().await;
        (cluster, result)
    }

    async fn show(
        &self,
        stage: &DemoStage,
        logging: &Logging,
        progress: &DemoProgress,
        signals: &mut SignalStreams,
    ) -> Result<Exit, Failure> {
        stage::wait_until_up(&stage.running, progress).await?;
        match &self.exec {
            Some(command) => tokio::select! {
                exit = exec::run(command, stage, signals) => exit,
                never = stage::reap(&stage.cluster) => match never {},
            },
            None => {
                crate::terminal::print(&guide::guide(stage));
                let style = watch::Style::choose(self.statements);
                tokio::select! {
                    _ = signals.ending() => {}
                    never = watch::watch(&stage.ports, style) => match never {},
                    never = stage::reap(&stage.cluster) => match never {},
                    never = logging.report_dropped() => match never {},
                }
                crate::terminal::print("\n");
                Ok(Exit::Success)
            }
        }
    }
}
