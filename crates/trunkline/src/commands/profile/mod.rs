//! `trunkline profile`: where a query's time goes.
//!
//! [`run`](Profile::run) connects through the endpoint with `trunkline.timing=on`, which makes Trunkline send its
//! own timing as a notice after each answer ([`phases`]). For any other endpoint only the client's times are
//! known, and the output says so.

mod connect;
mod phases;
mod report;

use std::time::{Duration, Instant};

use crate::{Exit, Failure};
use connect::{ProfiledEndpoint, ProfiledSession};
use phases::Phases;

const AFTER: &str = "\
Examples:
  trunkline profile \"SELECT count(*) FROM ynar\"
  trunkline profile -n 100 \"SELECT 1\"                 and each server's share
  trunkline profile -n 100 --one-session \"SELECT 1\"
      without the cost of connecting
  trunkline profile --explain \"SELECT * FROM ynar\"    with the server's plan
  trunkline profile --dsn \"host=db1 port=5434 user=app dbname=appdb\" \"SELECT 1\"

Connection: --dsn, else PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE; the port is 5434 when none is given.
The query really runs, N times. --explain runs it once more, inside a transaction that is rolled back.

Exit status: 0 done, 1 the query or the connection failed, 2 wrong command line.";

/// Maximum number of runs; the times of each are kept in memory.
const RUNS_MAX: u32 = 100_000;

/// Flags of `trunkline profile`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Profile {
    /// Number of runs
    #[arg(short = 'n', long = "runs", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(RUNS_MAX)))]
    runs: u32,
    /// All runs in one session, instead of a new connection for each
    #[arg(long)]
    one_session: bool,
    /// Also print the server's plan with its own times
    #[arg(long)]
    explain: bool,
    /// Where to connect, in libpq's form [default: the PG* environment]
    #[arg(long, value_name = "CONNINFO")]
    dsn: Option<String>,
    /// The query
    sql: String,
}

/// One run of the query.
#[derive(Clone, Debug)]
struct Sample {
    /// Time to connect and log in; `None` when the session was open already.
    connect: Option<Duration>,
    /// From sending the query to its ReadyForQuery.
    query: Duration,
    /// What Trunkline measured; `None` when the endpoint is no Trunkline.
    phases: Option<Phases>,
    /// The server that answered.
    server: String,
    rows: u64,
}

impl Profile {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::because("could not start the runtime"))?;
        runtime.block_on(self.run_all())
    }

    async fn run_all(self) -> Result<Exit, Failure> {
        let mut endpoint = ProfiledEndpoint::new(self.dsn.as_deref())?;
        let mut samples = Vec::with_capacity(self.runs as usize);
        let mut kept: Option<ProfiledSession> = None;
        for _ in 0..self.runs {
            let began = Instant::now();
            let (mut session, connect) = match kept.take() {
                Some(session) => (session, None),
                None => (endpoint.connect().await?, Some(began.elapsed())),
            };
            samples.push(self.run_once(&mut session, connect).await?);
            if self.one_session {
                kept = Some(session);
            } else {
                session.close().await;
            }
        }
        crate::terminal::print(&report::report(&self.sql, &endpoint, &samples));
        if self.explain {
            let mut session = match kept {
                Some(session) => session,
                None => endpoint.connect().await?,
            };
            let plan = session.explain(&self.sql).await?;
            crate::terminal::print(&report::plan(&plan));
            session.close().await;
        }
        Ok(Exit::Success)
    }

    async fn run_once(
        &self,
        session: &mut ProfiledSession,
        connect: Option<Duration>,
    ) -> Result<Sample, Failure> {
        let began = Instant::now();
        let rows = session.query(&self.sql).await?;
        let query = began.elapsed();
        let phases = session.phases();
        let server = match &phases {
            Some(phases) => phases.server.clone(),
            None => session.server_address().await,
        };
        Ok(Sample { connect, query, phases, server, rows })
    }
}
