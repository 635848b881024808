//! PgBouncer's dialect of ini files: `;` and `#` begin comments at the start of a line only, `%include` reads another file,
//! values are not quoted. Source: PgBouncer 1.24, lib/usual/cfparser.c.

use std::path::{Path, PathBuf};

/// Deepest chain of `%include`. Source: PgBouncer 1.24, lib/usual/cfparser.c, `MAX_INCLUDE`.
const INCLUDES_MAX: usize = 10;

/// Most entries that are read.
const ENTRIES_MAX: usize = 100_000;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Ini {
    entries: Vec<IniEntry>,
    /// What of it could not be read.
    pub(super) problems: Vec<String>,
}

/// One `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IniEntry {
    section: String,
    /// The key, in lower case unless it is a database's name.
    pub(super) key: String,
    /// The value as it is written.
    pub(super) value: String,
    /// The file's name, if it is not the first one's.
    file: Option<PathBuf>,
    line: usize,
}

impl IniEntry {
    /// `key = value (line N)`, without what may be secret.
    pub(super) fn shown(&self) -> String {
        let value = match self.value.to_ascii_lowercase().contains("password") {
            true => "...",
            false => self.value.as_str(),
        };
        format!("{} = {value} ({})", self.key, self.place())
    }

    /// `line N`, with the file's name where it is an included one.
    pub(super) fn place(&self) -> String {
        match &self.file {
            Some(file) => format!("{}, line {}", file.display(), self.line),
            None => format!("line {}", self.line),
        }
    }
}

type ReadFile<'r> = &'r mut dyn FnMut(&Path) -> Result<String, String>;

impl Ini {
    /// Reads `text`, and by `read` the files that it includes.
    pub(super) fn read(path: &Path, text: &str, read: ReadFile<'_>) -> Self {
        let mut ini = Ini::default();
        let mut section = String::new();
        ini.take(path, None, text, (&mut section, 0), read);
        ini
    }

    /// The entries of a section, in order.
    pub(super) fn section(&self, name: &str) -> impl Iterator<Item = &IniEntry> {
        self.entries.iter().filter(move |entry| entry.section == name)
    }

    /// The last value of a key.
    pub(super) fn value(&self, section: &str, key: &str) -> Option<&IniEntry> {
        self.section(section).filter(|entry| entry.key == key).last()
    }

    fn take(
        &mut self,
        path: &Path,
        included: Option<&Path>,
        text: &str,
        (section, depth): (&mut String, usize),
        read: ReadFile<'_>,
    ) {
        for (line, written) in (1..).zip(text.lines()) {
            let written = written.trim();
            if written.is_empty() || written.starts_with([';', '#']) {
                continue;
            }
            if let Some(file) = written.strip_prefix("%include") {
                self.include(path, file.trim(), (section, depth), read);
            } else if let Some(name) = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                *section = name.trim().to_owned();
            } else if let Some((key, value)) = written.split_once('=') {
                self.put(section, (key, value), included, line);
            } else {
                self.problems.push(format!("{}, line {line}: it is no key = value", path.display()));
            }
        }
    }

    fn put(&mut self, section: &str, (key, value): (&str, &str), file: Option<&Path>, line: usize) {
        if self.entries.len() >= ENTRIES_MAX {
            return;
        }
        let key = key.trim().trim_matches('"');
        let key = if section == "pgbouncer" { key.to_ascii_lowercase() } else { key.to_owned() };
        let file = file.map(Path::to_path_buf);
        self.entries.push(IniEntry {
            section: section.to_owned(),
            key,
            value: value.trim().to_owned(),
            file,
            line,
        });
    }

    fn include(
        &mut self,
        from: &Path,
        file: &str,
        (section, depth): (&mut String, usize),
        read: ReadFile<'_>,
    ) {
        let file = from.parent().unwrap_or(Path::new("")).join(file);
        if depth >= INCLUDES_MAX {
            self.problems.push(format!("{}: included more than {INCLUDES_MAX} files deep", file.display()));
            return;
        }
        match read(&file) {
            Ok(text) => self.take(&file, Some(&file), &text, (section, depth + 1), read),
            Err(error) => self.problems.push(format!("%include {}: {error}", file.display())),
        }
    }
}

/// The pairs of a connection string of `[databases]`: values with blanks stand in single quotes, which are doubled inside.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut left = text.trim_start();
    while let Some((key, rest)) = left.split_once('=') {
        let rest = rest.trim_start();
        let (value, after) = match rest.strip_prefix('\'') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        pairs.push((key.trim().to_ascii_lowercase(), value));
        left = after.trim_start();
    }
    pairs
}

/// The value up to its closing quote, and what follows it.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '\'' {
            value.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == '\'') {
            value.push('\'');
            chars.next();
        } else {
            return (value, &text[at + 1..]);
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_are_read_in_their_place_and_not_for_ever() {
        let mut read = |path: &Path| match path.to_str() {
            Some("/etc/p/more.ini") => Ok("b = host=2\n%include more.ini".to_owned()),
            _ => Err("there is none".to_owned()),
        };
        let text = "[databases]\na = host=1\n%include more.ini\n%include none.ini\nnonsense\n[pgbouncer]\nPool_Mode=session\n";
        let ini = Ini::read(Path::new("/etc/p/p.ini"), text, &mut read);
        assert_eq!(ini.section("databases").count(), 1 + INCLUDES_MAX);
        let second = ini.section("databases").nth(1).expect("it is there");
        assert_eq!(second.shown(), "b = host=2 (/etc/p/more.ini, line 1)");
        assert_eq!(ini.problems.len(), 3, "{:?}", ini.problems);
        assert_eq!(ini.value("pgbouncer", "pool_mode").map(|entry| entry.value.as_str()), Some("session"));
    }

    #[test]
    fn connection_strings_are_taken_apart() {
        let of = |text: &str| {
            pairs(text).into_iter().map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>()
        };
        assert_eq!(
            of("host=a  port = 1 password='it''s x' Dbname=b"),
            ["host:a", "port:1", "password:it's x", "dbname:b"]
        );
        assert_eq!(of("host='open"), ["host:open"]);
        assert_eq!(of(""), [] as [&str; 0]);
    }

    #[test]
    fn no_password_is_shown() {
        let ini = Ini::read(Path::new("f"), "[databases]\na = host=1 Password=geheim\n", &mut |_| {
            Err(String::new())
        });
        assert_eq!(ini.section("databases").next().map(IniEntry::shown).as_deref(), Some("a = ... (line 2)"));
    }
}
