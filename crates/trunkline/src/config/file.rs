//! The file layer: TOML, with the line of every value.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::keys::{self, Key, LISTENER_KEYS, OVERRIDE_KEYS, SECTIONS, SERVER_KEYS, SOURCE_KEYS};
use super::raw::RawConfig;
use super::suggest::nearest;
use super::{Problem, Problems, RawValue, Source};

/// A word that `[[server]]` and its variables replace; it is refused, with the word to write.
pub(super) const FORMER_SERVER: &str = "target";

/// The list of sources, in `[discovery]`.
pub(super) const SOURCE: &str = "discovery.source";

/// The list of overrides, in `[pool]`.
pub(super) const OVERRIDE: &str = "pool.override";

/// Puts what `text` says over `raw`, and adds what is wrong with it to `problems`.
///
/// `path` is only for messages. Never fails: what can be read is read.
pub fn apply(path: &str, text: &str, raw: &mut RawConfig, problems: &mut Problems) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = FileReader { path: Arc::from(path), line_starts: line_starts(text), problems };
    for error in errors {
        let source = reader.source(&error.span().unwrap_or(0..0));
        if !reader.problems.has_line(&source) {
            reader.problems.push(Problem::new(
                &source,
                "",
                format!("not valid TOML: {}", one_line(error.message())),
            ));
        }
    }
    reader.root(document.get_ref(), raw);
    problems.0.sort_by_key(|problem| match problem.source {
        Source::File { line, .. } => line,
        Source::Default | Source::Environment(_) | Source::Flag(_) => 0,
    });
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join(", ")
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

struct FileReader<'p> {
    path: Arc<str>,
    line_starts: Vec<usize>,
    problems: &'p mut Problems,
}

impl FileReader<'_> {
    fn source(&self, span: &Range<usize>) -> Source {
        let line = self.line_starts.partition_point(|start| *start <= span.start).max(1);
        Source::File { path: Arc::clone(&self.path), line }
    }

    /// Adds a problem, unless its line is already known to be wrong.
    fn report(&mut self, problem: Problem) {
        if !self.problems.has_line(&problem.source) {
            self.problems.push(problem);
        }
    }

    fn root(&mut self, table: &DeTable<'_>, raw: &mut RawConfig) {
        for (key, value) in table {
            let (name, source) = (key.get_ref().as_ref(), self.source(&key.span()));
            match (name, value.get_ref()) {
                ("server" | FORMER_SERVER, DeValue::Array(entries)) => {
                    for entry in entries {
                        let source = self.source(&entry.span());
                        if name == FORMER_SERVER {
                            self.report(former_server(&source, name));
                        }
                        // An entry under the former word is read too, so that what is wrong in it is reported.
                        let mut server = keys::new_server(source);
                        if self.entry("server", entry, SERVER_KEYS, &mut server) {
                            raw.servers.push(server);
                        }
                    }
                }
                ("listener", DeValue::Array(entries)) => {
                    for entry in entries {
                        let mut listener = keys::new_listener(self.source(&entry.span()));
                        if self.entry("listener", entry, LISTENER_KEYS, &mut listener) {
                            raw.listeners.push(listener);
                        }
                    }
                }
                (FORMER_SERVER, _) => self.report(former_server(&source, name)),
                ("server" | "listener", _) => self.report(
                    Problem::new(&source, name, "is a list of tables")
                        .hint(format!("Write [[{name}]], with two brackets, once for each of them.")),
                ),
                (_, DeValue::Table(table)) => self.section(name, &source, table, raw),
                _ => self.report(unknown_key("", name, &source)),
            }
        }
    }

    fn section(&mut self, name: &str, source: &Source, table: &DeTable<'_>, raw: &mut RawConfig) {
        let is_section = |full: &str| SECTIONS.iter().any(|section| section.name == full);
        if !is_section(name) {
            return self.report(unknown_section(name, source));
        }
        for (key, value) in table {
            let (key, source) = (key.get_ref().as_ref(), self.source(&key.span()));
            let full = format!("{name}.{key}");
            match (keys::find(&full), value.get_ref()) {
                (Some(known), _) => self.put(&full, known, value, &source, raw),
                (None, DeValue::Array(entries)) if full == SOURCE => self.sources(entries, raw),
                (None, DeValue::Array(entries)) if full == OVERRIDE => self.overrides(entries, raw),
                (None, _) if full == SOURCE || full == OVERRIDE => {
                    let hint = format!("Write [[{full}]], with two brackets, once for each of them.");
                    self.report(Problem::new(&source, full, "is a list of tables").hint(hint));
                }
                (None, DeValue::Table(inner)) if is_section(&full) || value.get_ref().is_table() => {
                    self.section(&full, &source, inner, raw);
                }
                (None, _) => self.report(unknown_key(name, key, &source)),
            }
        }
    }

    fn sources(&mut self, entries: &DeArray<'_>, raw: &mut RawConfig) {
        for entry in entries {
            let mut source = keys::new_source(self.source(&entry.span()));
            if self.entry(SOURCE, entry, SOURCE_KEYS, &mut source) {
                raw.discovery.sources.push(source);
            }
        }
    }

    fn overrides(&mut self, entries: &DeArray<'_>, raw: &mut RawConfig) {
        for entry in entries {
            let mut rule = keys::new_override(self.source(&entry.span()));
            if self.entry(OVERRIDE, entry, OVERRIDE_KEYS, &mut rule) {
                raw.pool.overrides.push(rule);
            }
        }
    }

    /// Reads one entry of a list, such as a `[[server]]`; false when it is no table at all.
    fn entry<T>(&mut self, name: &str, entry: &Spanned<DeValue<'_>>, keys: &[Key<T>], into: &mut T) -> bool {
        let DeValue::Table(table) = entry.get_ref() else {
            let source = self.source(&entry.span());
            self.report(
                Problem::new(&source, name, "is a list of tables")
                    .hint(format!("Write [[{name}]], with two brackets.")),
            );
            return false;
        };
        self.keys_of_entry(name, "", table, keys, into);
        true
    }

    /// Reads the keys of one entry; `within` is the table in it that they are in, with a point, or empty.
    fn keys_of_entry<T>(
        &mut self,
        name: &str,
        within: &str,
        table: &DeTable<'_>,
        keys: &[Key<T>],
        into: &mut T,
    ) {
        for (key, value) in table {
            let source = self.source(&key.span());
            let key = format!("{within}{}", key.get_ref());
            let full = format!("{name}.{key}");
            let inner = format!("{key}.");
            match (keys.iter().find(|known| known.name == key), value.get_ref()) {
                (Some(known), _) => self.put(&full, known, value, &source, into),
                (None, DeValue::Table(table)) if keys.iter().any(|known| known.name.starts_with(&inner)) => {
                    self.keys_of_entry(name, &inner, table, keys, into);
                }
                (None, _) => {
                    let mut problem = Problem::new(&source, full, "unknown key");
                    let names = keys.iter().map(|known| known.name);
                    problem = match nearest(&key, names.clone()) {
                        Some(near) => problem.hint(format!("Did you mean {near:?}?")),
                        None => problem
                            .hint(format!("Keys of [[{name}]]: {}.", names.collect::<Vec<_>>().join(", "))),
                    };
                    self.report(problem);
                }
            }
        }
    }

    fn put<T>(
        &mut self,
        full: &str,
        key: &Key<T>,
        value: &Spanned<DeValue<'_>>,
        source: &Source,
        into: &mut T,
    ) {
        let result = match plain(value.get_ref()) {
            Some(plain) => key.put(into, &plain, source),
            None => Err(format!("is {} here", value.get_ref().type_str())),
        };
        if let Err(message) = result {
            self.report(Problem::new(source, full, message).hint(key.hint()));
        }
    }
}

/// A value of the file as one of ours; `None` for tables, dates and lists of anything but text, which no key has.
fn plain(value: &DeValue<'_>) -> Option<RawValue> {
    match value {
        DeValue::String(text) => Some(RawValue::Text(text.to_string())),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(RawValue::Integer)
        }
        DeValue::Float(number) => number.as_str().parse().ok().map(RawValue::Float),
        DeValue::Boolean(value) => Some(RawValue::Boolean(*value)),
        DeValue::Array(items) => {
            let text = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
            items.iter().map(text).collect::<Option<_>>().map(RawValue::List)
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// The refusal of a key that says `target` where it means a server.
pub(super) fn former_server(source: &Source, key: &str) -> Problem {
    let problem = Problem::new(source, key, "unknown key");
    match source {
        Source::Environment(name) => {
            problem.hint(format!("Write {}.", name.replacen("__TARGET", "__SERVER", 1)))
        }
        Source::Default | Source::File { .. } | Source::Flag(_) => problem.hint("Write [[server]]."),
    }
}

/// An unknown key of a section (empty = the top of the file), with the best guess at what was meant.
pub(super) fn unknown_key(section: &str, key: &str, source: &Source) -> Problem {
    let full = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
    let problem = Problem::new(source, full, "unknown key");
    let own = SECTIONS.iter().find(|known| known.name == section);
    if let Some(near) = own.and_then(|own| nearest(key, own.keys.iter().map(|known| known.name))) {
        return problem.hint(format!("Did you mean {near:?}?"));
    }
    match SECTIONS.iter().find(|known| known.keys.iter().any(|other| other.name == key)) {
        Some(home) => problem.hint(format!("{key:?} belongs in [{}].", home.name)),
        None => match own {
            Some(own) => {
                let names: Vec<_> = own.keys.iter().map(|known| known.name).collect();
                problem.hint(format!("Keys of [{section}]: {}.", names.join(", ")))
            }
            None => problem.hint("`trunkline config default` prints every key."),
        },
    }
}

fn unknown_section(name: &str, source: &Source) -> Problem {
    let problem = Problem::new(source, format!("[{name}]"), "unknown section");
    let names = || SECTIONS.iter().map(|section| section.name);
    match nearest(name, names().chain(["server", "listener"])) {
        Some(near @ ("server" | "listener")) => problem.hint(format!("Did you mean [[{near}]]?")),
        Some(near) => problem.hint(format!("Did you mean [{near}]?")),
        None => problem.hint(format!(
            "Sections: {}, and [[server]], [[listener]], [[discovery.source]], [[pool.override]].",
            names().collect::<Vec<_>>().join(", ")
        )),
    }
}
