//! `trunkline sessions`: lists the sessions, their servers, and why some cannot move.

use hyper::Method;
use serde_json::Value;

use super::admin_socket::{AdminAnswer, AdminFlag};
use super::status::{columns, mobility};
use crate::{Exit, Failure, terminal};

const AFTER: &str = "\
Examples:
  trunkline sessions             those longest here first
  trunkline sessions --pinned    only those that cannot leave their server
  trunkline sessions --limit 20 --json | jq '.sessions[].client'
  trunkline sessions --admin /tmp/a.sock
      the socket of `trunkline serve --admin /tmp/a.sock`

PID is the process id that the client knows: that of the server it logged in on, also after the session has gone to
another. STATE \"idle (pooled)\": between its transactions, its pool has the server connection. CLIENT is the address a PROXY protocol header told, where one is believed. PINNED says why the session cannot go to
another server when its own dies, lags or is drained; \"-\" means that it can. At most 1000 are listed, all are counted.
CLIENT TLS and SERVER TLS, with version and cipher, are there if any session uses TLS.

Exit status: 0 shown, 1 no answer from there, 2 wrong command line.";

const HEAD: [&str; 9] = ["ID", "PID", "CLIENT", "STATE", "AGE", "SERVER", "USER", "DATABASE", "PINNED"];

/// The columns of numbers.
const NUMBERS: [usize; 3] = [0, 1, 4];

/// What is not there.
const NONE: &str = "-";

/// Behind those, where any session uses TLS.
const TLS_HEAD: [&str; 2] = ["CLIENT TLS", "SERVER TLS"];

/// Flags of `trunkline sessions`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct SessionsCommand {
    /// List only sessions that cannot move to another server
    #[arg(long)]
    pinned: bool,
    /// Maximum number of sessions to list
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: u32,
    /// Print the JSON as received
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: AdminFlag,
}

impl SessionsCommand {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let only = if self.pinned { "&pinned=only" } else { "" };
        let path = format!("/sessions?limit={}{only}", self.limit);
        let AdminAnswer { socket, status, body } = self.socket.ask(Method::GET, &path)?;
        let listing: Option<Value> = serde_json::from_str(&body).ok();
        let Some(listing) = listing.filter(|_| status == 200) else {
            return Err(Failure::new(format!("{} does not answer as Trunkline does", socket.display())));
        };
        if self.json {
            terminal::print(&format!("{}\n", body.trim_end()));
        } else {
            terminal::print(&table(&listing));
        }
        Ok(Exit::Success)
    }
}

fn table(listing: &Value) -> String {
    let none = Vec::new();
    let sessions = listing["sessions"].as_array().unwrap_or(&none);
    let has_tls = sessions.iter().any(|session| tls(session).iter().any(|of| of != NONE));
    let table = if has_tls {
        let rows: Vec<_> = sessions.iter().map(|session| joined(row(session), tls(session))).collect();
        columns(joined(HEAD, TLS_HEAD), &rows, &NUMBERS, rows.iter().map(|_| None))
    } else {
        let rows: Vec<_> = sessions.iter().map(row).collect();
        columns(HEAD, &rows, &NUMBERS, rows.iter().map(|_| None))
    };
    let counts = listing.as_object().map(mobility).unwrap_or_default();
    format!("{table}\nsessions  {counts}\n")
}

/// TLS of both legs.
fn tls(session: &Value) -> [String; 2] {
    ["client", "server"].map(|leg| session["tls"][leg].as_str().unwrap_or(NONE).to_owned())
}

fn joined<T>(left: [T; 9], right: [T; 2]) -> [T; 11] {
    let mut both = left.into_iter().chain(right);
    std::array::from_fn(|_| both.next().expect("nine and two are eleven"))
}

fn row(session: &Value) -> [String; 9] {
    let text = |key: &str| session[key].as_str().map_or_else(|| NONE.to_owned(), terminal::printable);
    let number = |key: &str| session[key].as_i64().map_or_else(|| "-".to_owned(), |n| n.to_string());
    let age = session["age_seconds"].as_u64().map_or_else(|| "-".to_owned(), age);
    [
        number("id"),
        number("pid"),
        text("client"),
        text("state"),
        age,
        text("server"),
        text("user"),
        text("database"),
        text("pinned"),
    ]
}

/// An age in its largest unit: `42s`, `7m`, `5h`, `3d`.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_a_line_and_cannot_write_on_the_terminal() {
        let listing = serde_json::json!({"all": 2, "movable": 1, "pinned": {"listen": 1}, "sessions": [
            {"id": 7, "pid": 4711, "client": "192.0.2.1:40001", "user": "a\u{1b}[2Jb", "database": "appdb", "server": "replica1",
             "state": "idle", "pinned": "LISTEN", "age_seconds": 180},
            {"id": 8, "pid": null, "client": "192.0.2.2:1", "user": "u", "database": "d", "server": null, "state": "without server",
             "pinned": null, "age_seconds": 5},
        ]});
        let text = table(&listing);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("a?[2Jb") && lines[1].ends_with("LISTEN"), "{text}");
        assert!(lines[1].starts_with(" 7  4711  ") && lines[2].starts_with(" 8     -  "), "{text}");
        assert!(lines[2].contains("5s  -") && lines[2].ends_with('-'), "{text}");
        assert_eq!(lines[4], "sessions  2, 1 movable, 1 pinned (1 listen)");
    }

    #[test]
    fn tls_has_its_columns_where_any_session_uses_it() {
        let plain = serde_json::json!({"id": 7, "tls": {"client": null, "server": null}});
        let tls =
            serde_json::json!({"id": 8, "tls": {"client": "TLSv1.3 TLS_AES_256_GCM_SHA384", "server": null}});
        let of = |sessions: &[&Value]| table(&serde_json::json!({ "sessions": sessions }));
        assert!(!of(&[&plain]).contains("TLS"));
        let text = of(&[&plain, &tls]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("PINNED  CLIENT TLS                      SERVER TLS"), "{text}");
        assert!(lines[2].ends_with("TLSv1.3 TLS_AES_256_GCM_SHA384  -"), "{text}");
    }
}
