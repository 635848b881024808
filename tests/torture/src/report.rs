//! The table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::verdict::{Judged, TortureVerdict};

/// Longest observation in the table for a terminal, in characters.
const OBSERVATION_LENGTH_MAX: usize = 150;

/// What came of one scenario.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// The scenario's name.
    pub name: String,
    /// What it does.
    pub about: String,
    /// What can be told.
    pub judged: Judged,
    /// Why the pooler has kept server connections for single clients; empty where it was not asked.
    pub kept: BTreeSet<String>,
    /// How long both runs took.
    pub took: Duration,
}

/// What came of all scenarios.
#[derive(Debug, Clone)]
pub struct TortureTable {
    /// One for each scenario, in their order.
    pub results: Vec<CaseResult>,
    /// How long all took.
    pub took: Duration,
}

/// Differences that are known: `NAME` or `NAME VERDICT` on a line, `*` for any name; `#` begins a comment.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    entries: Vec<(String, Option<String>)>,
}

impl Allowed {
    /// Reads the list.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        let entries = lines.filter_map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.next()))
        });
        Self { entries: entries.collect() }
    }

    /// Whether the result is as good as none: the same, skipped, or in the list.
    #[must_use]
    pub fn accepts(&self, result: &CaseResult) -> bool {
        let verdict = result.judged.verdict;
        let is_listed = |(name, word): &(String, Option<String>)| {
            (name == "*" || *name == result.name) && word.as_deref().is_none_or(|word| word == verdict.word())
        };
        matches!(verdict, TortureVerdict::Same | TortureVerdict::Skipped)
            || self.entries.iter().any(is_listed)
    }
}

impl TortureTable {
    /// How many scenarios have this verdict.
    #[must_use]
    pub fn count(&self, verdict: TortureVerdict) -> usize {
        self.results.iter().filter(|result| result.judged.verdict == verdict).count()
    }

    /// Those that `allowed` does not accept.
    #[must_use]
    pub fn unaccepted(&self, allowed: &Allowed) -> Vec<&CaseResult> {
        self.results.iter().filter(|result| !allowed.accepts(result)).collect()
    }

    /// The totals on one line.
    #[must_use]
    pub fn totals(&self) -> String {
        let counts = TortureVerdict::ALL.map(|verdict| (self.count(verdict), verdict));
        let words =
            counts.iter().filter(|(count, _)| *count > 0).map(|(n, verdict)| format!("{n} {verdict}"));
        let words = words.collect::<Vec<_>>().join(", ");
        format!("{} cases in {:.1} s: {words}", self.results.len(), self.took.as_secs_f64())
    }

    /// For a terminal: a line for each case, and the observations where there is something to tell.
    #[must_use]
    pub fn text(&self) -> String {
        let width = self.results.iter().map(|result| result.name.len()).max().unwrap_or_default();
        let mut text = String::new();
        for CaseResult { name, about, judged, .. } in &self.results {
            let _infallible = writeln!(text, "{:<8} {name:<width$}  {about}", judged.verdict.word());
            for (label, value) in
                [("step", &judged.step), ("direct", &judged.direct), ("here", &judged.pooled)]
            {
                if !value.is_empty() {
                    let _infallible = writeln!(text, "           {label:<7}{}", shortened(value));
                }
            }
        }
        let _infallible = writeln!(text, "{}", self.totals());
        text
    }

    /// For a document. Where the pooler was asked for reasons, they are in the table, and in one of their own.
    #[must_use]
    pub fn markdown(&self, pooler: &str) -> String {
        let mut text = format!(
            "| case | what it does | {pooler} | kept by | step | direct | here |\n|---|---|---|---|---|---|---|\n"
        );
        for CaseResult { name, about, judged, kept, .. } in &self.results {
            let cells = [&judged.step, &judged.direct, &judged.pooled].map(|value| match value.as_str() {
                "" => String::new(),
                value => format!("`{}`", shortened(value).replace('|', "\\|").replace('`', "'")),
            });
            let kept = kept.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
            let cells = cells.join(" | ");
            let _infallible = writeln!(text, "| {name} | {about} | {} | {kept} | {cells} |", judged.verdict);
        }
        let _infallible = writeln!(text, "\n{}", self.totals());
        let reasons = self.reasons();
        if !reasons.is_empty() {
            text.push_str("\n| kept by | cases | such as |\n|---|---|---|\n");
        }
        for (reason, cases) in reasons {
            let first = cases.first().copied().unwrap_or_default();
            let _infallible = writeln!(text, "| {reason} | {} | `{first}` |", cases.len());
        }
        text
    }

    /// The reasons for which server connections were kept, with the names of the cases.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for result in &self.results {
            for reason in &result.kept {
                reasons.entry(reason).or_default().push(&result.name);
            }
        }
        reasons
    }

    /// For a program.
    #[must_use]
    pub fn json(&self, pooler: &str) -> String {
        let results = self.results.iter().map(|result| {
            json!({
                "name": result.name,
                "about": result.about,
                "verdict": result.judged.verdict.word(),
                "step": result.judged.step,
                "direct": result.judged.direct,
                "here": result.judged.pooled,
                "kept": result.kept,
                "milliseconds": u64::try_from(result.took.as_millis()).unwrap_or(u64::MAX),
            })
        });
        let results: Vec<_> = results.collect();
        let counts: serde_json::Map<_, _> = TortureVerdict::ALL
            .iter()
            .map(|verdict| (verdict.word().to_owned(), json!(self.count(*verdict))))
            .collect();
        format!("{:#}\n", json!({ "pooler": pooler, "totals": counts, "cases": results }))
    }
}

fn shortened(text: &str) -> String {
    let text = text.replace(['\n', '\r', '\t'], " ");
    if text.chars().count() <= OBSERVATION_LENGTH_MAX {
        return text;
    }
    let head: String = text.chars().take(OBSERVATION_LENGTH_MAX).collect();
    format!("{head}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TortureTable {
        let result = |name: &str, judged| CaseResult {
            name: name.to_owned(),
            about: "sets".to_owned(),
            judged,
            kept: ["LISTEN".to_owned(), name.to_owned()].into(),
            took: Duration::from_millis(1),
        };
        let leak = Judged {
            verdict: TortureVerdict::Leak,
            step: "B: SHOW x".to_owned(),
            direct: "D(a|b)".to_owned(),
            pooled: "D(c)".to_owned(),
        };
        let results = vec![result("good", Judged::plain(TortureVerdict::Same)), result("bad", leak)];
        TortureTable { results, took: Duration::from_secs(2) }
    }

    #[test]
    fn each_form_has_case_verdict_and_both_observations() {
        let table = table();
        assert_eq!(table.totals(), "2 cases in 2.0 s: 1 same, 1 leak");
        let text = table.text();
        assert!(text.contains("leak     bad   sets\n           step   B: SHOW x\n"), "{text}");
        let markdown = table.markdown("pgbouncer");
        assert!(
            markdown.contains("| bad | sets | leak | LISTEN; bad | `B: SHOW x` | `D(a\\|b)` | `D(c)` |"),
            "{markdown}"
        );
        assert!(
            markdown.contains("such as |\n|---|---|---|\n| LISTEN | 2 | `good` |\n| bad |"),
            "{markdown}"
        );
        let json: serde_json::Value = serde_json::from_str(&table.json("x")).expect("it is JSON");
        assert_eq!(json["totals"]["leak"], 1);
        assert_eq!(json["cases"][1]["here"], "D(c)");
    }

    #[test]
    fn a_list_accepts_what_it_names_and_nothing_else() {
        let table = table();
        let names = |list: &str| -> Vec<String> {
            let unaccepted = table.unaccepted(&Allowed::parse(list));
            unaccepted.iter().map(|result| result.name.clone()).collect()
        };
        assert_eq!(names(""), ["bad"]);
        assert!(names("# known\nbad  # why").is_empty());
        assert!(names("bad leak").is_empty());
        assert!(names("* leak").is_empty());
        assert_eq!(names("bad lost\nba leak\n* waits"), ["bad"]);
    }
}
