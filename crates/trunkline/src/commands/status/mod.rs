//! `trunkline status`: the table of servers, from a running Trunkline's admin socket or HTTP.

mod certificates;
mod pools;
mod routed;
mod screen;
mod servers;
mod source;
mod sources;
mod speeds;
mod summary;
mod table;

use std::time::Duration;

use crate::{Exit, Failure, terminal};
pub(crate) use screen::Screen;
#[cfg(feature = "demo")]
pub(crate) use servers::ServerRow;
pub(crate) use servers::parse;
use source::StatusSource;
pub(crate) use summary::{mobility, summary};
pub(crate) use table::{columns, table};

const AFTER: &str = "\
Examples:
  trunkline status
  trunkline status --watch
  trunkline status --why
  trunkline status --http 10.0.0.5:8008 --json | jq .

Without --http and --admin it asks the admin socket that `trunkline drain` would ask, and if there is none 127.0.0.1:8008.

LAG is the estimate, in seconds; \"-\" is not known, which is never zero. IN SYNC: it has replayed all that the
primary's newest sample had. WHY says what the state follows from. ZONE and FROM are shown where there are zones, or sources
of servers: FROM names the source. Below: how many sessions could go to another server and
what keeps the others, and what moved since the start; `trunkline sessions` lists them. With route = \"statement\", ROUTED says where
requests went and why, and how many are the primary's for an hour because a replica has refused them. Where server connections
are shared, POOLS has a line for each server, database and user, in the words of PgBouncer's SHOW POOLS.

With --why: ZONE, the SHARE of its weight that a server keeps for its speed, how many of the statements (by groups of sessions)
that its peers run, too, were slow there, and the times to the first byte of the most frequent ones, with their fingerprints.

Exit status: 0 shown, 1 no answer from there, 2 wrong command line.";

/// Where the state of the servers is read from.
pub(crate) const PATH: &str = "/cluster";
/// Refresh interval of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Flags of `trunkline status`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Status {
    #[command(flatten)]
    source: StatusSource,
    /// Redraw the table twice a second until interrupted
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Show what was measured of the servers' speeds, too
    #[arg(long, conflicts_with = "json")]
    why: bool,
    /// Print the JSON as received
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        if self.watch {
            return self.watch();
        }
        let (from, body) = self.source.get(PATH)?;
        if self.json {
            terminal::print(&format!("{}\n", body.trim_end()));
        } else {
            terminal::print(&self.shown(&from, &body)?);
        }
        Ok(Exit::Success)
    }

    /// Ends with Ctrl-C. A proxy that cannot be reached is shown as such and asked again: it may be restarting.
    fn watch(&self) -> Result<Exit, Failure> {
        let mut screen = Screen::default();
        loop {
            let shown = self.source.get(PATH).and_then(|(from, body)| self.shown(&from, &body));
            let text = shown.unwrap_or_else(|failure| format!("{failure}\n"));
            if terminal::is_terminal() {
                screen.draw(&text);
            } else {
                terminal::print(&format!("{text}\n"));
            }
            std::thread::sleep(WATCH_INTERVAL);
        }
    }

    /// The tables of what `from` answered.
    fn shown(&self, from: &str, body: &str) -> Result<String, Failure> {
        let view = parse(body).ok_or_else(|| {
            Failure::new(format!("{from} does not answer as Trunkline does"))
                .hint("Something else listens there: name Trunkline's [http] listen with --http.")
        })?;
        let why = if self.why { speeds::table(body) } else { String::new() };
        Ok(table(&view, terminal::paint()) + &why + &summary(body))
    }
}
