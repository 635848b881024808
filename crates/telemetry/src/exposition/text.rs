//! Prometheus' text format 0.0.4.

use std::fmt::{Display, Write};

/// What the values of a family mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// A text under construction, one family after another.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    /// Begins a family: all its samples follow before the next one begins.
    pub(super) fn family(&mut self, name: &'static str, kind: Type, help: &str) -> &mut Self {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        self.family = name;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        self
    }

    /// One sample of the family begun last.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.suffixed("", labels, value)
    }

    /// One sample of the family begun last, named with a histogram's `_bucket`, `_sum` or `_count`.
    pub(super) fn suffixed(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) -> &mut Self {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (i, (name, value)) in labels.iter().enumerate() {
            self.text.push(if i == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(&mut self.text, value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.line(format_args!(" {value}"));
        self
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("a String takes everything");
        self.text.push('\n');
    }
}

/// A label value may hold any character; these three must be written with a backslash.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut out = Exposition::default();
        out.family("trunkline_x", Type::Gauge, "X.").sample(&[("server", "a\"b\\c\nd"), ("k", "v")], 1.5);
        assert_eq!(
            out.finish(),
            "# HELP trunkline_x X.\n# TYPE trunkline_x gauge\ntrunkline_x{server=\"a\\\"b\\\\c\\nd\",k=\"v\"} 1.5\n"
        );
    }

    #[test]
    fn a_sample_without_labels_has_no_braces() {
        let mut out = Exposition::default();
        out.family("trunkline_x", Type::Counter, "X.").sample(&[], 3);
        assert!(out.finish().ends_with("\ntrunkline_x 3\n"));
    }
}
