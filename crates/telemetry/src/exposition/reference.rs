//! `docs/metrics.md`, from what `/metrics` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use trunkline_pool::{PoolCounts, PoolTotals};
use trunkline_topology::{Lag, Role, Snapshot};

use super::{LATENCY_BOUNDS, render_health, render_prometheus, testing};
use crate::metrics::{
    CertificateRow, Label as _, Metrics, PoolRow, PoolsNow, RouteReason, SourceRow, TlsLeg,
};
use crate::sessions::{Occupancy, Sessions, Usage};

const HEADER: &str = "\
# Metrics

<!-- Made from what the exposition writes, crates/telemetry/src/exposition:
     TRUNKLINE_UPDATE_DOCS=1 cargo test -p trunkline-telemetry --lib reference -->

`GET /metrics` answers in Prometheus' text format. A counter starts at zero with the process and only grows; what is not known is absent,
never zero. Counts are of this process alone: sum them over several. A name that ends in `_seconds` or `_bytes` has that unit.
";

/// Labels whose values are names or versions, which no closed set has.
const OPEN_LABELS: [&str; 6] = ["server", "version", "file", "source", "database", "user"];

/// One family of the exposition.
#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    help: String,
    labels: Vec<(String, BTreeSet<String>)>,
    samples: usize,
}

#[test]
fn the_reference_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = page();
    if std::env::var_os("TRUNKLINE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("docs/ can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/metrics.md is old: TRUNKLINE_UPDATE_DOCS=1 cargo test -p trunkline-telemetry --lib reference"
    );
}

fn page() -> String {
    let snapshot = everything_known();
    let health = families(&render_health(&snapshot));
    let mut traffic = families(&everything(&snapshot));
    traffic.retain(|family| health.iter().all(|known| known.name != family.name));
    let mut out = HEADER.to_owned();
    table(&mut out, "Health", "Shown by `trunkline serve` and by `trunkline health`.", &health);
    table(&mut out, "Sessions and statements", "Shown by `trunkline serve`.", &traffic);
    values(&mut out, health.iter().chain(&traffic));
    out
}

/// A snapshot in which every server's every fact is known, so that every family has a sample.
fn everything_known() -> Snapshot {
    let mut snapshot = testing::snapshot();
    for server in &mut snapshot.servers {
        server.lag = Some(Lag { lo: Duration::ZERO, est: Duration::ZERO, hi: Some(Duration::ZERO) });
        server.timeline = Some(trunkline_codec::ids::TimelineId(1));
    }
    snapshot.servers[2].role = Role::Unknown;
    snapshot
}

/// All families, those of limits that may be absent included.
fn everything(snapshot: &Snapshot) -> String {
    let some = Usage { used: 0, max: Some(1) };
    let occupancy = Occupancy { sessions: some, startups: some, one_user: some, one_address: some };
    let sessions = Sessions::default().with_occupancy(occupancy);
    let metrics = Metrics::new(1);
    metrics.thread(0).routed.one(RouteReason::Proven);
    let row = |leg: &TlsLeg| CertificateRow {
        leg: *leg,
        file: "tls.crt".to_owned(),
        expires_at: Some(0),
        problem: None,
    };
    metrics.certificates().publish(TlsLeg::ALL.iter().map(row).collect());
    metrics.sources().publish(vec![SourceRow { name: "pods".to_owned(), ..SourceRow::default() }]);
    let counts = PoolCounts::default();
    let pool = PoolRow { server: Some("pg1".into()), database: "app".into(), user: "web".into(), counts };
    metrics
        .pools()
        .read_by(move || Some(PoolsNow { rows: vec![pool.clone()], totals: PoolTotals::default() }));
    metrics.learned().counted_by(|| Some(0));
    render_prometheus(&metrics, snapshot, Some(&sessions))
}

/// The families in `text`, each with the labels of its samples.
fn families(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a family has a help text");
            families.push(Family { name: name.to_owned(), help: help.to_owned(), ..Family::default() });
            continue;
        }
        let family = families.last_mut().expect("HELP comes first");
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            family.kind = kind.rsplit(' ').next().expect("a family has a type").to_owned();
            continue;
        }
        family.samples += 1;
        if let Some((_, labels)) = line.split_once('{') {
            add_labels(&mut family.labels, labels);
        }
    }
    families
}

/// Notes the labels of one sample, `name="value",name="value"} 1`; the values of the samples here hold no quote.
fn add_labels(known: &mut Vec<(String, BTreeSet<String>)>, sample: &str) {
    let mut quoted = sample.split('"');
    while let (Some(name), Some(value)) = (quoted.next(), quoted.next()) {
        let name = name.trim_matches([',', '=']);
        if name == "le" {
            continue;
        }
        if !known.iter().any(|(label, _)| label == name) {
            known.push((name.to_owned(), BTreeSet::new()));
        }
        let entry = known.iter_mut().find(|(label, _)| label == name);
        entry.expect("it was added").1.insert(value.to_owned());
    }
}

fn table(out: &mut String, title: &str, doc: &str, families: &[Family]) {
    let _ = write!(
        out,
        "\n## {title}\n\n{doc}\n\n| name | type | labels | unit | meaning |\n|---|---|---|---|---|\n"
    );
    for Family { name, kind, help, labels, .. } in families {
        let labels: Vec<_> = labels.iter().map(|(label, _)| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        let _ = writeln!(out, "| `{name}` | {kind} | {labels} | {} | {help} |", unit(name, help));
    }
}

fn unit(name: &str, help: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    match () {
        () if name.ends_with("_seconds") => "seconds",
        () if name.ends_with("_bytes") => "bytes",
        () if help.starts_with("1 ") => "1 or 0",
        () => "",
    }
}

/// The closed sets of label values, each once, with the families that have it.
fn values<'f>(out: &mut String, families: impl Iterator<Item = &'f Family>) {
    let mut sets: BTreeMap<(&str, &BTreeSet<String>), Vec<&str>> = BTreeMap::new();
    for family in families {
        for (label, values) in family.labels.iter().filter(|(label, _)| !OPEN_LABELS.contains(&&**label)) {
            sets.entry((label, values)).or_default().push(&family.name);
        }
    }
    out.push_str("\n## Values of the labels\n\n`server` is a configured name; `database` and `user` are those of sessions that have logged in, or `other`");
    let bounds: Vec<_> = LATENCY_BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string()).collect();
    let _ = write!(out, "; `le` of a histogram is one of {}.\n\n", bounds.join(", "));
    out.push_str("| label | values | of |\n|---|---|---|\n");
    for ((label, values), names) in sets {
        let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(out, "| `{label}` | {} | {} |", values.join(", "), names.join(", "));
    }
}

#[test]
fn every_family_has_a_sample_to_read_labels_from() {
    for family in families(&everything(&everything_known())) {
        assert!(family.samples > 0, "{} has no sample", family.name);
    }
}

#[test]
fn rules_and_board_name_metrics_that_there_are() {
    let known: BTreeSet<String> =
        families(&everything(&everything_known())).into_iter().map(|family| family.name).collect();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus");
    for file in ["alerts.yml", "alerts.test.yml", "grafana.json", "README.md"] {
        let text = std::fs::read_to_string(deploy.join(file)).expect("it is in the repository");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: BTreeSet<&str> = words
            .filter(|word| word.starts_with("trunkline_") || word.starts_with("process_"))
            .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
            .collect();
        assert!(named.len() > 3, "{file} names only {named:?}");
        let unknown: Vec<_> = named.iter().filter(|name| !known.contains(**name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}
