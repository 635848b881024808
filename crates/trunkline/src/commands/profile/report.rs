//! What `trunkline profile` prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::Sample;
use super::connect::ProfiledEndpoint;

/// The whole report.
pub(super) fn report(sql: &str, endpoint: &ProfiledEndpoint, samples: &[Sample]) -> String {
    let is_trunkline = samples.iter().any(|sample| sample.phases.is_some());
    let through = if is_trunkline { "through Trunkline" } else { "not a Trunkline: no proxy phases" };
    let mut out = format!("query     {}\nendpoint  {} ({through})\n\n", sql.trim(), endpoint.shown);
    match samples {
        [sample] => one(&mut out, sample),
        many => table(&mut out, many),
    }
    out
}

fn one(out: &mut String, sample: &Sample) {
    let _ = writeln!(out, "answered by {}", sample.server);
    for row in rows() {
        if let Some(duration) = (row.of)(sample) {
            let _ = writeln!(out, "  {:<14}{:>10} ms   {}", row.name, ms(duration), row.meaning);
        }
    }
    let bytes = sample.phases.as_ref().map(|phases| format!(", {} bytes", phases.bytes)).unwrap_or_default();
    let _ = writeln!(out, "  {} {}{bytes}", sample.rows, if sample.rows == 1 { "row" } else { "rows" });
}

fn table(out: &mut String, samples: &[Sample]) {
    let _ =
        writeln!(out, "{} runs, ms{:>15}{:>10}{:>10}{:>10}", samples.len(), "min", "median", "p95", "max");
    for row in rows() {
        let mut durations: Vec<Duration> = samples.iter().filter_map(|sample| (row.of)(sample)).collect();
        if durations.is_empty() {
            continue;
        }
        durations.sort_unstable();
        let at = |share| ms(percentile(&durations, share));
        let _ = writeln!(
            out,
            "  {:<14}{:>10}{:>10}{:>10}{:>10}   {}",
            row.name,
            at(0.0),
            at(0.5),
            at(0.95),
            at(1.0),
            row.meaning
        );
    }
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for sample in samples {
        *shares.entry(&sample.server).or_default() += 1;
    }
    out.push_str("\nanswered by\n");
    for (server, count) in shares {
        let _ = writeln!(
            out,
            "  {server:<20}{count:>6}{:>5} %",
            (count * 100 + samples.len() / 2) / samples.len()
        );
    }
}

/// One line of either form.
struct ReportRow {
    name: &'static str,
    meaning: &'static str,
    of: fn(&Sample) -> Option<Duration>,
}

fn rows() -> [ReportRow; 6] {
    let row = |name, meaning, of| ReportRow { name, meaning, of };
    [
        row("connect", "TCP, startup, authentication", |sample| sample.connect),
        row("query", "as the client sees it", |sample| Some(sample.query)),
        row("  wait", "until a server was ready", |sample| Some(sample.phases.as_ref()?.wait)),
        row("  server first", "to the answer's first byte", |sample| {
            Some(sample.phases.as_ref()?.server_first)
        }),
        row("  server total", "to the answer's end", |sample| Some(sample.phases.as_ref()?.server_total)),
        row("  client", "blocked writing to the client", |sample| Some(sample.phases.as_ref()?.client)),
    ]
}

/// The plan, indented.
pub(super) fn plan(lines: &[String]) -> String {
    lines.iter().fold("\nplan, from one more run\n".to_owned(), |out, line| format!("{out}  {line}\n"))
}

/// The value at `share` of sorted values, by nearest rank.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank within a slice of at most RUNS_MAX values"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.saturating_sub(1).min(sorted.len() - 1)]
}

fn ms(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<_> = (1..=20).map(Duration::from_millis).collect();
        let at = |share| percentile(&sorted, share).as_millis();
        assert_eq!((at(0.0), at(0.5), at(0.95), at(1.0)), (1, 10, 19, 20));
        assert_eq!(percentile(&sorted[..1], 0.95).as_millis(), 1);
    }
}
