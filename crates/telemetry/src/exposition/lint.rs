//! A check of Prometheus' text format, as strict as `promtool check metrics` about what we write.

use std::collections::{HashMap, HashSet};

/// Panics at the first thing a Prometheus server, or its lint, would object to.
///
/// # Panics
/// That is its answer.
pub fn check(text: &str) {
    assert!(text.ends_with('\n'), "the last line is not ended");
    let mut types: HashMap<&str, &str> = HashMap::new();
    let mut helped = HashSet::new();
    let mut series = HashSet::new();
    let mut current = "";
    let mut previous_le: Option<(String, f64, f64)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("help text");
            assert!(helped.insert(name), "{name} is begun twice");
            assert!(help.ends_with('.'), "{name}: help is a sentence");
            current = name;
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, current, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "counters, and only they, end in _total: {name}"
            );
            assert!(name.starts_with("trunkline_") || name.starts_with("process_"), "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()),
                "{name}"
            );
            assert!(!name.contains("_ms") && !name.contains("_micro"), "base units only: {name}");
            types.insert(name, kind);
            continue;
        }
        let (id, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
        assert!(!value.is_nan(), "{line}");
        assert!(series.insert(id), "twice: {id}");
        let (name, labels) = split_labels(id);
        let is_histogram = types.get(current) == Some(&"histogram");
        let family = if is_histogram {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|s| name.strip_suffix(s))
                .expect("a histogram's suffix")
        } else {
            name
        };
        assert_eq!(family, current, "a sample outside its family: {line}");
        if name.ends_with("_bucket") && is_histogram {
            check_bucket(&labels, value, &mut previous_le);
        } else if name.ends_with("_count") && is_histogram {
            let (_, le, count) = previous_le.take().expect("buckets come before the count");
            assert!(le.is_infinite() && (count - value).abs() < 0.5, "+Inf bucket and count differ: {line}");
        }
    }
    assert!(types.keys().all(|name| helped.contains(name)));
}

fn check_bucket(labels: &[(String, String)], value: f64, previous: &mut Option<(String, f64, f64)>) {
    let others: String = labels.iter().filter(|(n, _)| n != "le").map(|(n, v)| format!("{n}={v};")).collect();
    let le = &labels.iter().find(|(n, _)| n == "le").expect("a bucket has le").1;
    let le: f64 = if le == "+Inf" { f64::INFINITY } else { le.parse().expect("le is a number") };
    if let Some((previous_others, previous_le, previous_value)) = previous.as_ref()
        && *previous_others == others
    {
        assert!(le > *previous_le && value >= *previous_value, "buckets grow: {others}");
    }
    *previous = Some((others, le, value));
}

/// Name and labels of a series, unescaped; panics on bad syntax.
fn split_labels(id: &str) -> (&str, Vec<(String, String)>) {
    let Some((name, rest)) = id.split_once('{') else { return (id, Vec::new()) };
    let mut rest = rest.strip_suffix('}').expect("a closing brace");
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect("label=\"");
        assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{id}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().expect("a closing quote") {
                (_, '\\') => value.push(match chars.next().expect("an escaped character").1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    other => panic!("\\{other} in {id}"),
                }),
                (at, '"') => break at,
                (_, c) => value.push(c),
            }
        };
        labels.push((label.to_owned(), value));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name, labels)
}
