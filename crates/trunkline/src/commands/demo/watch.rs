//! The live table of servers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use super::ports::Ports;
use crate::commands::fetch::get;
use crate::commands::status::{PATH, Screen, ServerRow, parse, table};
use crate::terminal;

/// Refresh interval.
const INTERVAL: Duration = Duration::from_millis(500);

/// How the servers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// A table redrawn in place.
    Table,
    /// A line whenever a server's state or role changes.
    Changes,
}

impl Style {
    /// A table if nothing else writes to the terminal.
    pub(super) fn choose(is_shared: bool) -> Self {
        if terminal::is_terminal() && !is_shared { Style::Table } else { Style::Changes }
    }
}

/// Shows the servers for ever. Reads them from the demo's HTTP server, as any client would.
pub(super) async fn watch(ports: &Ports, style: Style) -> Infallible {
    let address = format!("127.0.0.1:{}", ports.http());
    let (mut screen, mut changes) = (Screen::default(), Changes::new());
    loop {
        let address = address.clone();
        let answer = tokio::task::spawn_blocking(move || get(&address, PATH)).await;
        let view = answer.ok().and_then(Result::ok).and_then(|(_, body)| parse(&body));
        if let Some(view) = view {
            match style {
                Style::Table => screen.draw(&table(&view, terminal::paint())),
                Style::Changes => terminal::print(&changes.lines(&view.servers)),
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What was shown last.
struct Changes {
    began: Instant,
    last: HashMap<String, (String, String)>,
}

impl Changes {
    fn new() -> Self {
        Changes { began: Instant::now(), last: HashMap::new() }
    }

    fn lines(&mut self, servers: &[ServerRow]) -> String {
        let mut out = String::new();
        for server in servers {
            let now = (server.state.clone(), server.role.clone());
            let before = self.last.insert(server.name.clone(), now.clone());
            if before.as_ref() == Some(&now) {
                continue;
            }
            let from = before.map(|(state, _)| format!("{state} -> ")).unwrap_or_default();
            let ServerRow { name, role, state, reason, .. } = server;
            let at = self.began.elapsed().as_secs_f64();
            out.push_str(&format!("{at:5.1} s  {name} ({role}): {from}{state}, {reason}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let mut changes = Changes::new();
        let mut servers =
            vec![ServerRow { name: "replica1".to_owned(), state: "UP".to_owned(), ..ServerRow::default() }];
        assert!(changes.lines(&servers).contains("UP"));
        servers[0].lag = Some(0.5);
        assert_eq!(changes.lines(&servers), "");
        servers[0].state = "LAGGING".to_owned();
        assert!(changes.lines(&servers).contains("UP -> LAGGING"));
    }
}
