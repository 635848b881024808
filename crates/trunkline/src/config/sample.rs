//! The sample file of `trunkline config default`.

use std::fmt::Write as _;

use super::keys::{Key, LISTENER_KEYS, OVERRIDE_KEYS, SECTIONS, SERVER_KEYS, SOURCE_KEYS};

/// Columns a comment may take.
const WIDTH: usize = 100;

const HEADER: &str = "\
# Trunkline's configuration: every key with its default. Delete what you do not change.
# Check it with `trunkline check --config FILE`; reload it with `trunkline reload` or SIGHUP.
# Each key may be overridden by the environment, TRUNKLINE__SECTION__KEY, and by flags.
# Durations carry their unit (\"500ms\", \"2s\", \"5m\"), sizes may (\"4KiB\", \"16MiB\").
";

const EXAMPLE: &str = "\
[[server]]
name = \"primary\"
address = \"127.0.0.1:5441\"
role = \"primary\"

[[server]]
name = \"replica1\"
address = \"127.0.0.1:5442\"
role = \"replica\"

[[listener]]
name = \"reads\"
address = \"127.0.0.1:5434\"

[[listener]]
name = \"writes\"
address = \"127.0.0.1:5431\"
target_session_attrs = \"read-write\"
";

/// The sample: it parses to the defaults, with servers and listeners for an example.
#[must_use]
pub fn sample() -> String {
    let mut out = format!(
        "{HEADER}\n# The servers, each as a [[server]]: put yours in place of these. Keys of a server:\n"
    );
    list(&mut out, SERVER_KEYS);
    out.push_str("#\n# Where clients connect, each a [[listener]]. Without any: reads on 127.0.0.1:5434. Keys of a listener:\n");
    list(&mut out, LISTENER_KEYS);
    out.push_str(
        "#\n# Who else knows of servers, each a [[discovery.source]], after [discovery]. Keys of a source:\n",
    );
    list(&mut out, SOURCE_KEYS);
    out.push_str(
        "#\n# What holds for some users or databases, each a [[pool.override]], after [pool]. The first that fits counts. Keys of an override:\n",
    );
    list(&mut out, OVERRIDE_KEYS);
    let _ = write!(out, "\n{EXAMPLE}");
    for section in SECTIONS {
        out.push('\n');
        comment(&mut out, "# ", section.doc);
        let _ = writeln!(out, "[{}]", section.name);
        for key in section.keys {
            comment(&mut out, "# ", &plain(key));
            let _ = match key.default {
                Some(default) => writeln!(out, "{} = {default}", key.name),
                None => writeln!(out, "# {} = {}", key.name, key.example),
            };
        }
    }
    out
}

fn list<T>(out: &mut String, keys: &[Key<T>]) {
    for key in keys {
        let default = key.default.map(|default| format!(" Default: {default}.")).unwrap_or_default();
        comment(out, "#   ", &format!("{}: {}{default}", key.name, plain(key)));
    }
}

/// The doc line without Markdown, with the words a key may have.
fn plain<T>(key: &Key<T>) -> String {
    let doc = key.doc.replace('`', "");
    match &key.slot {
        super::keys::KeyKind::Word { words, .. } => format!("{doc} One of: {}.", words().join(", ")),
        _ => doc,
    }
}

fn comment(out: &mut String, prefix: &str, text: &str) {
    let mut column = WIDTH + 1;
    for word in text.split_whitespace() {
        if column + 1 + word.len() > WIDTH {
            if !out.ends_with('\n') {
                out.push('\n');
            }
            out.push_str(prefix.trim_end());
            let indent = prefix.len() - prefix.trim_end().len();
            out.push_str(&" ".repeat(indent));
            column = prefix.len();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
}
