//! The table of servers.

use super::servers::{ServerRow, View};
use crate::terminal::Paint;

const HEAD: [&str; 7] = ["SERVER", "ROLE", "STATE", "LAG", "IN SYNC", "SESSIONS", "WHY"];

/// The same where servers have zones, or come from elsewhere than the configuration.
const HEAD_WITH_ORIGIN: [&str; 9] =
    ["SERVER", "ROLE", "STATE", "LAG", "IN SYNC", "SESSIONS", "ZONE", "FROM", "WHY"];

/// The table with a header, below the warnings.
pub(crate) fn table(view: &View, paint: Paint) -> String {
    let servers = &view.servers;
    let colours = servers.iter().map(|server| (paint == Paint::Colour).then(|| colour(&server.state)));
    let notes: String = view.notes.iter().map(|note| format!("! {note}\n")).collect();
    let rows: Vec<[String; 7]> = servers.iter().map(row).collect();
    let has_origin = servers.iter().any(|server| {
        server.zone.is_some() || server.origin.as_deref().is_some_and(|origin| origin != "configured")
    });
    if !has_origin {
        return notes + &columns(HEAD, &rows, &[3, 5], colours);
    }
    let with_origin = |(cells, server): (&[String; 7], &ServerRow)| {
        let [name, role, state, lag, in_sync, sessions, why] = cells.clone();
        let shown = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        [name, role, state, lag, in_sync, sessions, shown(&server.zone), shown(&server.origin), why]
    };
    let rows: Vec<[String; 9]> = rows.iter().zip(servers).map(with_origin).collect();
    notes + &columns(HEAD_WITH_ORIGIN, &rows, &[3, 5], colours)
}

/// Aligned columns under their names. Those in `numbers` are right-aligned; the third cell decides a row's colour.
pub(crate) fn columns<const N: usize>(
    head: [&str; N],
    rows: &[[String; N]],
    numbers: &[usize],
    colours: impl IntoIterator<Item = Option<&'static str>>,
) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut out = line(&head.map(str::to_owned), &widths, numbers, None);
    for (row, colour) in rows.iter().zip(colours) {
        out.push_str(&line(row, &widths, numbers, colour));
    }
    out
}

fn row(server: &ServerRow) -> [String; 7] {
    let unknown = || "-".to_owned();
    [
        server.name.clone(),
        server.role.clone(),
        server.state.clone(),
        server.lag.map_or_else(unknown, |lag| format!("{lag:.2} s")),
        server.is_in_sync.map_or_else(unknown, |is| if is { "yes" } else { "no" }.to_owned()),
        server.sessions.map_or_else(unknown, |sessions| sessions.to_string()),
        server.reason.clone(),
    ]
}

fn line(cells: &[String], widths: &[usize], numbers: &[usize], colour: Option<&str>) -> String {
    let mut out = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padded =
            if numbers.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
        match colour.filter(|_| column == 2) {
            Some(colour) => out.push_str(&format!("{colour}{padded}\x1b[0m")),
            None => out.push_str(&padded),
        }
        out.push_str("  ");
    }
    format!("{}\n", out.trim_end())
}

/// Green: serves. Yellow: does not serve for now. Red: something is wrong.
fn colour(state: &str) -> &'static str {
    match state {
        "UP" => "\x1b[32m",
        "DOWN" | "FENCED" => "\x1b[31m",
        _ => "\x1b[33m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, state: &str, lag: Option<f64>) -> ServerRow {
        ServerRow { name: name.to_owned(), state: state.to_owned(), lag, ..ServerRow::default() }
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let servers = vec![server("replica1", "UP", Some(0.0)), server("p", "LAGGING", Some(12.34))];
        let text = table(&View { servers, notes: Vec::new() }, Paint::Plain);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("STATE"), lines[1].find("UP"));
        assert!(lines[2].contains("LAGGING  12.34 s"), "{text}");
    }

    #[test]
    fn zone_and_origin_are_shown_where_there_is_one() {
        let mut servers = vec![server("a", "UP", None), server("b", "UP", None)];
        servers[0].origin = Some("configured".to_owned());
        let plain = table(&View { servers: servers.clone(), notes: Vec::new() }, Paint::Plain);
        assert!(!plain.contains("FROM"), "{plain}");
        servers[1].origin = Some("pods".to_owned());
        let text = table(&View { servers, notes: Vec::new() }, Paint::Plain);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("FROM"), lines[2].find("pods"), "{text}");
    }

    #[test]
    fn lag_is_shown_in_whatever_state_the_judge_tells_it() {
        for state in ["UP", "UNKNOWN", "MAINT"] {
            let view = View { servers: vec![server("replica1", state, Some(0.25))], notes: Vec::new() };
            assert!(table(&view, Paint::Plain).contains("0.25 s"), "{state}");
        }
    }

    #[test]
    fn zones_are_shown_where_there_are_any() {
        let mut servers = vec![server("replica1", "UP", Some(0.0)), server("replica2", "DOWN", None)];
        let shown = |servers: &[ServerRow]| {
            table(&View { servers: servers.to_vec(), notes: Vec::new() }, Paint::Plain)
        };
        assert!(!shown(&servers).contains("ZONE"));
        servers[0].zone = Some("eu-1a".to_owned());
        let text = shown(&servers);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("ZONE"), lines[1].find("eu-1a"), "{text}");
        let zone = lines[0].find("ZONE").expect("a column");
        assert_eq!(lines[2].get(zone..zone + 2), Some("- "), "{text}");
    }

    #[test]
    fn unknown_lag_is_not_shown_as_zero() {
        let view = View { servers: vec![server("replica1", "UNKNOWN", None)], notes: Vec::new() };
        assert!(!table(&view, Paint::Plain).contains('0'));
    }
}
