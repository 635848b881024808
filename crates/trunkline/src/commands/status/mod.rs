//! `trunkline status`: the table of servers, from a running Trunkline's HTTP.

mod fetch;
mod screen;
mod servers;
mod summary;
mod table;

use std::time::Duration;

use crate::{Exit, Failure, terminal};
pub(crate) use fetch::{get, on_socket, on_socket_within};
pub(crate) use screen::Screen;
#[cfg(feature = "demo")]
pub(crate) use servers::ServerRow;
pub(crate) use servers::parse;
pub(crate) use summary::{mobility, summary};
pub(crate) use table::{columns, table};

const AFTER: &str = "\
Examples:
  trunkline status
  trunkline status --watch
  trunkline status --http 10.0.0.5:8008 --json | jq .

LAG is the estimate, in seconds; \"-\" is not known, which is never zero. IN SYNC: it has replayed all that the
primary's newest sample had. WHY says what the state follows from. Below: how many sessions could go to another server and
what keeps the others, and what moved since the start; `trunkline sessions` lists them.

Exit status: 0 shown, 1 no answer from there, 2 wrong command line.";

/// The default address of Trunkline's HTTP server.
const DEFAULT_HTTP: &str = "127.0.0.1:8008";
/// Where the state of the servers is read from.
pub(crate) const PATH: &str = "/cluster";
/// Refresh interval of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Flags of `trunkline status`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Status {
    /// Trunkline's HTTP address
    #[arg(long, value_name = "ADDRESS:PORT", env = "TRUNKLINE_HTTP", default_value = DEFAULT_HTTP)]
    http: String,
    /// Redraw the table twice a second until interrupted
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Print the JSON as received
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        if self.watch {
            return self.watch();
        }
        let (_, body) = get(&self.http, PATH)?;
        if self.json {
            terminal::print(&format!("{}\n", body.trim_end()));
        } else {
            terminal::print(&self.table(&body)?);
        }
        Ok(Exit::Success)
    }

    fn table(&self, body: &str) -> Result<String, Failure> {
        let view = parse(body).ok_or_else(|| {
            Failure::new(format!("{} does not answer as Trunkline does", self.http))
                .hint("Something else listens there: name Trunkline's [http] listen with --http.")
        })?;
        Ok(table(&view, terminal::paint()) + &summary(body))
    }

    /// Ends with Ctrl-C. A proxy that cannot be reached is shown as such and asked again: it may be restarting.
    fn watch(&self) -> Result<Exit, Failure> {
        let mut screen = Screen::default();
        loop {
            let shown = get(&self.http, PATH).and_then(|(_, body)| self.table(&body));
            let text = shown.unwrap_or_else(|failure| format!("{failure}\n"));
            if terminal::is_terminal() {
                screen.draw(&text);
            } else {
                terminal::print(&format!("{text}\n"));
            }
            std::thread::sleep(WATCH_INTERVAL);
        }
    }
}
