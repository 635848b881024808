//! `trunkline explain`: where a request would go by a listener with `route = "statement"`, and why.

use std::fmt::Write as _;
use std::time::Duration;

use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::admin_socket::{AdminAnswer, AdminFlag};
use crate::{Exit, Failure, terminal};

const AFTER: &str = "\
Examples:
  trunkline explain \"SELECT count(*) FROM orders\"
  trunkline explain --listener split --database shop \"SELECT next_number()\"
  trunkline explain \"SELECT * FROM report\" --json | jq -r .reason
  trunkline explain \"SELECT 1\" --admin /tmp/a.sock
      the socket of `trunkline serve --admin /tmp/a.sock`

The running proxy judges the text as it would for a session that is in no transaction, has no settings of its own and has written
nothing; nothing is run. REASON is the word of trunkline_requests_routed_total, WHY the word in the text, or the object of the catalog, that decided.

Exit status: 0 shown, 1 no answer, 2 wrong command line.";

/// How long the answer may take: the catalog of a database that no session uses is read first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Flags of `trunkline explain`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct ExplainCommand {
    /// The request, as a client sends it
    #[arg(value_name = "SQL")]
    sql: String,
    /// The listener [default: the only one with route = "statement"]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The database [default: the only one that sessions use]
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Print the JSON as received
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: AdminFlag,
}

impl ExplainCommand {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let AdminAnswer { socket, status, body } =
            self.socket.ask_within(PATIENCE, Method::GET, &self.path())?;
        let said: Value = serde_json::from_str(&body).unwrap_or_default();
        if let Some(why) = said["error"].as_str() {
            return Err(Failure::new(format!("it cannot be said where that goes: {why}"))
                .hint("--listener and --database name what is meant."));
        }
        if status != 200 || !said["reason"].is_string() {
            return Err(Failure::new(format!("{} does not answer as Trunkline does", socket.display())));
        }
        if self.json {
            terminal::print(&format!("{}\n", body.trim_end()));
        } else {
            terminal::print(&shown(&said));
        }
        Ok(Exit::Success)
    }

    fn path(&self) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut path = format!("/explain?sql={}", encoded(&self.sql));
        for (key, value) in [("listener", &self.listener), ("database", &self.database)] {
            if let Some(value) = value {
                let _infallible = write!(path, "&{key}={}", encoded(value));
            }
        }
        path
    }
}

fn shown(said: &Value) -> String {
    let text = |key: &str| terminal::printable(said[key].as_str().unwrap_or_default());
    let names = said["servers"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<_> = names.iter().filter_map(Value::as_str).map(terminal::printable).collect();
    let to = if names.is_empty() { "no server, there is no primary".to_owned() } else { names.join(" or ") };
    format!(
        "to      {to}\nreason  {}\nwhy     {}\nby      listener {}, the catalog of database {}\n",
        text("reason"),
        text("because"),
        text("listener"),
        text("database"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_goes_and_why_are_lines_that_cannot_write_on_the_terminal() {
        let said = serde_json::json!({"listener": "split", "database": "app\u{1b}db", "servers": ["replica1", "replica2"],
            "reason": "proven", "because": "it only reads"});
        assert_eq!(
            shown(&said),
            "to      replica1 or replica2\nreason  proven\nwhy     it only reads\nby      listener split, the catalog of database app?db\n"
        );
        let nowhere = serde_json::json!({"servers": [], "reason": "unknown"});
        assert!(shown(&nowhere).starts_with("to      no server, there is no primary\n"));
    }
}
