//! The plot: for each standby the proven band and the formulas' lines over time, and below them who was right.

use std::fmt::Write as _;

use super::account::{Account, Observed};
use super::formula::{FORMULAS, Formula};
use super::ledger::Mark;
use super::report::show_bytes;
use super::series::Bucket;

/// Width of the whole, in its own units.
const WIDTH: f64 = 960.0;
/// Where the time axis begins, and ends.
const LEFT: f64 = 250.0;
const RIGHT: f64 = 890.0;
/// Height of the lines' part of one standby.
const PLOT: f64 = 150.0;
/// Height of one strip.
const STRIP: f64 = 12.0;
/// From one standby to the next.
const PANEL: f64 = PLOT + STRIP * FORMULAS as f64 + 78.0;
/// Above the first standby.
const TOP: f64 = 102.0;
/// Lines over the plot, beside its base.
const GRID: u32 = 4;

/// Colours for light and dark, without a script.
const STYLE: &str = "<style>
text{font:12px system-ui,sans-serif;fill:#1b1f24}.soft{fill:#6a737d}.title{font-size:16px;font-weight:600}.name{font-size:14px;font-weight:600}.end{text-anchor:end}.mid{text-anchor:middle}
.paper{fill:#ffffff}.grid{stroke:#d9dee3}.limit{stroke:#1b1f24;stroke-dasharray:5 4}.band{fill:#9ecbff}.unfit{fill:#fbdde0}
polyline{fill:none;stroke-width:1.6}.age{stroke:#b35900}.both{stroke:#6f42c1}.bytes{stroke:#0a7a5c;stroke-dasharray:2 3}
.m0{fill:#e4e8ec}.m1{fill:#8fd19e}.m2{fill:#f0b429}.m3{fill:#d73a49}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.soft{fill:#9aa4ae}.paper{fill:#0d1117}.grid{stroke:#2d333b}.limit{stroke:#e6edf3}.band{fill:#1f4f8a}.unfit{fill:#3d1a1f}
.age{stroke:#ffa657}.both{stroke:#d2a8ff}.bytes{stroke:#56d4a8}.m0{fill:#262c33}.m1{fill:#2f6f3e}.m2{fill:#d29922}.m3{fill:#f85149}}
</style>";

/// The whole plot.
pub(super) fn svg(account: &Account) -> String {
    let standbys: Vec<&Observed> = account.servers.iter().filter(|observed| observed.was_standby).collect();
    let height = TOP + PANEL * standbys.len().max(1) as f64 + 20.0;
    let until = account.lasted().as_secs_f64().max(1.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Lag: proven, and by formulas\">\n{STYLE}\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    let from = humantime::format_rfc3339_seconds(account.began_at);
    text(&mut out, (20.0, 28.0), "title", "How far behind: proven, and as the usual formulas say");
    let span = format!("from {from}, for {}; limit {:?}", time(until), account.limits.max_lag);
    text(&mut out, (20.0, 46.0), "soft", &span);
    legend(&mut out);
    if standbys.is_empty() {
        text(&mut out, (20.0, TOP + 30.0), "soft", "no standby has been seen");
    }
    for (at, observed) in standbys.iter().enumerate() {
        Panel::new(account, observed, until, TOP + PANEL * at as f64).draw(&mut out);
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String) {
    let lines = [
        ("age", "now() - last xact replay"),
        ("both", "0 if receive = replay, else the same"),
        ("bytes", "Patroni ?lag=, right axis"),
    ];
    let mut x = 20.0;
    let _ = write!(out, "<rect class=\"band\" x=\"{x}\" y=\"56\" width=\"22\" height=\"10\"/>");
    text(out, (x + 28.0, 66.0), "", "proven");
    x += 86.0;
    for (class, words) in lines {
        let _ = write!(out, "<polyline class=\"{class}\" points=\"{x},61 {},61\"/>", x + 22.0);
        text(out, (x + 28.0, 66.0), "", words);
        x += 46.0 + words.len() as f64 * 6.1;
    }
    x = 20.0;
    for (class, words) in
        [("m1", "right"), ("m3", "fresh, but lagged"), ("m2", "lagging, but fresh"), ("m0", "undecided")]
    {
        let _ = write!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"74\" width=\"10\" height=\"10\"/>");
        text(out, (x + 14.0, 84.0), "", words);
        x += 24.0 + words.len() as f64 * 6.1;
    }
    out.push('\n');
}

/// The part of one standby.
struct Panel<'a> {
    account: &'a Account,
    observed: &'a Observed,
    buckets: &'a [Bucket],
    until: f64,
    top: f64,
    /// Seconds at the top of the plot.
    seconds_max: f64,
    /// Bytes there.
    bytes_max: f64,
}

impl<'a> Panel<'a> {
    fn new(account: &'a Account, observed: &'a Observed, until: f64, top: f64) -> Self {
        let buckets = observed.series.buckets();
        let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let seconds = |bucket: &Bucket| {
            let formulas = bucket.values[0].into_iter().chain(bucket.values[2]);
            formulas.chain(bucket.hi).chain([bucket.lo]).fold(0.0, f64::max)
        };
        let limit = account.limits.max_lag.as_secs_f64();
        let seconds_max = (largest(&mut buckets.iter().map(seconds)).max(limit) * 1.1).max(0.1);
        let bytes_max = largest(&mut buckets.iter().filter_map(|bucket| bucket.values[3])) * 1.1;
        Panel { account, observed, buckets, until, top, seconds_max, bytes_max }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (at / self.until).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64, max: f64) -> f64 {
        let share = if max > 0.0 { (value / max).clamp(0.0, 1.0) } else { 0.0 };
        self.top + 22.0 + PLOT * (1.0 - share)
    }

    fn draw(&self, out: &mut String) {
        text(out, (20.0, self.top + 12.0), "name", &self.observed.name);
        self.axes(out);
        self.unfit(out);
        self.band(out);
        self.line(out, "age", 0, self.seconds_max);
        self.line(out, "both", 2, self.seconds_max);
        self.line(out, "bytes", 3, self.bytes_max);
        let limit = self.y(self.account.limits.max_lag.as_secs_f64(), self.seconds_max);
        let _ = writeln!(
            out,
            "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{limit:.1}\" y2=\"{limit:.1}\"/>"
        );
        text(out, (LEFT - 48.0, limit + 4.0), "end soft", "max_lag");
        self.strips(out);
        self.times(out);
    }

    fn axes(&self, out: &mut String) {
        for line in 0..=GRID {
            let share = f64::from(line) / f64::from(GRID);
            let y = self.y(share, 1.0);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
            );
            text(out, (LEFT - 8.0, y + 4.0), "end soft", &format!("{:.1} s", self.seconds_max * share));
            if self.bytes_max > 0.0 && line > 0 {
                text(out, (RIGHT + 6.0, y + 4.0), "soft", &show_bytes((self.bytes_max * share) as u64));
            }
        }
        out.push('\n');
    }

    /// Where a bucket begins and ends.
    fn span(&self, at: usize) -> (f64, f64) {
        let begin = self.buckets.get(at).map_or(self.until, |bucket| bucket.at);
        let end = self.buckets.get(at + 1).map_or(self.until, |bucket| bucket.at);
        (self.x(begin), self.x(end))
    }

    fn unfit(&self, out: &mut String) {
        for at in (0..self.buckets.len()).filter(|&at| self.buckets[at].is_unfit) {
            let (begin, end) = self.span(at);
            let (y, width) = (self.top + 22.0, end - begin);
            let _ = write!(
                out,
                "<rect class=\"unfit\" x=\"{begin:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{PLOT}\"/>"
            );
        }
    }

    /// Between the bounds; up to the top where the upper one is unknown.
    fn band(&self, out: &mut String) {
        for (at, bucket) in self.buckets.iter().enumerate().filter(|(_, bucket)| !bucket.is_unfit) {
            let (begin, end) = self.span(at);
            let upper = self.y(bucket.hi.unwrap_or(self.seconds_max), self.seconds_max);
            let height = (self.y(bucket.lo, self.seconds_max) - upper).max(1.0);
            let width = (end - begin).max(0.5);
            let _ = write!(
                out,
                "<rect class=\"band\" x=\"{begin:.1}\" y=\"{upper:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
            );
        }
        out.push('\n');
    }

    /// A formula's line, interrupted where it said nothing.
    fn line(&self, out: &mut String, class: &str, formula: usize, max: f64) {
        for piece in self
            .buckets
            .chunk_by(|left, right| left.values[formula].is_some() == right.values[formula].is_some())
        {
            let mut points = String::new();
            for (bucket, value) in piece.iter().filter_map(|bucket| Some((bucket, bucket.values[formula]?))) {
                let _ = write!(points, "{:.1},{:.1} ", self.x(bucket.at), self.y(value, max));
            }
            if !points.is_empty() {
                let _ = writeln!(out, "<polyline class=\"{class}\" points=\"{}\"/>", points.trim_end());
            }
        }
    }

    /// Who was right, for each formula.
    fn strips(&self, out: &mut String) {
        for (row, formula) in Formula::ALL.into_iter().enumerate() {
            let y = self.top + 32.0 + PLOT + STRIP * row as f64;
            text(out, (LEFT - 8.0, y + 9.0), "end", formula.shown());
            for piece in strip(self.buckets, row) {
                let (begin, end) = (self.span(piece.0).0, self.span(piece.1).1);
                let (class, width) = (mark_class(piece.2), (end - begin).max(0.5));
                let height = STRIP - 2.0;
                let _ = write!(
                    out,
                    "<rect class=\"{class}\" x=\"{begin:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\"/>"
                );
            }
            out.push('\n');
        }
    }

    fn times(&self, out: &mut String) {
        let y = self.top + 32.0 + PLOT + STRIP * FORMULAS as f64 + 14.0;
        for step in 0..=GRID {
            let at = self.until * f64::from(step) / f64::from(GRID);
            text(out, (self.x(at), y), "mid soft", &time(at));
        }
        out.push('\n');
    }
}

/// Buckets of one mark in a row: the first, the last, the mark.
fn strip(buckets: &[Bucket], formula: usize) -> Vec<(usize, usize, Mark)> {
    let mut pieces: Vec<(usize, usize, Mark)> = Vec::new();
    for (at, bucket) in buckets.iter().enumerate() {
        let mark = bucket.marks[formula];
        match pieces.last_mut() {
            Some((_, last, known)) if *known == mark => *last = at,
            _ => pieces.push((at, at, mark)),
        }
    }
    pieces
}

fn mark_class(mark: Mark) -> &'static str {
    match mark {
        Mark::Undecided => "m0",
        Mark::Right => "m1",
        Mark::WronglyLagging => "m2",
        Mark::WronglyFresh => "m3",
    }
}

fn text(out: &mut String, (x, y): (f64, f64), class: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{words}</text>");
}

/// A time since the beginning.
fn time(seconds: f64) -> String {
    match seconds {
        0.0..120.0 => format!("{seconds:.0} s"),
        120.0..7200.0 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use trunkline_topology::testing::snapshot;

    use super::*;
    use crate::commands::observe::account::PatroniSource;
    use crate::commands::observe::formula::{FormulaAnswer, Limits};
    use crate::commands::observe::ledger::{FormulaSample, MomentVerdict, ObservedFitness, Proof, Settled};

    fn account() -> Account {
        let limits = Limits { max_lag: Duration::from_secs(2), lag_bytes: 1 << 20 };
        let mut account = Account::new(limits, PatroniSource::Computed);
        account.follow(&snapshot());
        let observed = &mut account.servers[1];
        (observed.was_standby, observed.name) = (true, "a<b".into());
        let now = Instant::now();
        for at in 0..100 {
            let before = MomentVerdict {
                at: now,
                asked_at: Some(now),
                fitness: ObservedFitness::ByLag,
                lo: Duration::ZERO,
                hi: (at != 50).then(|| Duration::from_millis(300)),
            };
            let age = if at == 20 { FormulaAnswer::Nothing } else { FormulaAnswer::Seconds(f64::from(at)) };
            let answers =
                [age, FormulaAnswer::InSync, FormulaAnswer::Seconds(0.0), FormulaAnswer::Bytes(4096)];
            let sample = FormulaSample { sent: now, received: now, before, answers };
            let wrong = if at > 2 { Mark::WronglyLagging } else { Mark::Right };
            let marks = [wrong, Mark::Right, Mark::Right, Mark::Undecided];
            let settled = Settled { sample, proof: Proof::Fresh, marks };
            observed.series.push(f64::from(at) / 100.0, &settled);
        }
        account
    }

    #[test]
    fn the_plot_is_well_formed_and_has_no_script() {
        let svg = svg(&account());
        assert!(!svg.contains("<script") && svg.contains("prefers-color-scheme:dark"), "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for element in ["svg", "text", "style"] {
            let opened = svg.matches(&format!("<{element}")).count();
            assert_eq!(opened, svg.matches(&format!("</{element}>")).count(), "{element}");
        }
        // One line for each of two pieces of the age, one for each other formula, and the legend's three.
        assert_eq!(svg.matches("<polyline").count(), 2 + 2 + 3, "{svg}");
        // The strip of the age is right, then wrong.
        assert_eq!(svg.matches("<rect class=\"m2\"").count(), 1 + 1, "{svg}");
    }

    #[test]
    fn without_a_standby_it_says_so() {
        let limits = Limits { max_lag: Duration::from_secs(2), lag_bytes: 1 };
        let account = Account::new(limits, PatroniSource::Computed);
        assert!(svg(&account).contains("no standby has been seen"));
    }
}
