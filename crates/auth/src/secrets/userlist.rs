//! PgBouncer's userlist.txt: `"user" "password"`, one a line.
//!
//! As in PgBouncer, `""` within quotes stands for one quote, a line that begins with `;` is a comment, and what
//! follows the second field is ignored. Unlike PgBouncer, which skips lines it cannot read, every problem is
//! reported: a user missing from the list is hard to find otherwise.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::secret::{Cleartext, Stored};
use super::{SECRET_BYTES_MAX, USER_NAME_BYTES_MAX};

/// Longest users file read, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Problems reported of one file; the rest are only counted.
const PROBLEMS_MAX: usize = 20;

/// The users of a file.
pub(super) type Users = HashMap<Box<str>, Stored>;

/// Why a users file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersFileError {
    /// It could not be read.
    #[error("could not read users file \"{}\": {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It has lines that cannot be understood.
    #[error("users file \"{}\" has errors:{}", path.display(), list(problems, *more))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The first of the problems, in the order of their lines.
        problems: Vec<UsersFileProblem>,
        /// How many further ones there are.
        more: usize,
    },
}

/// One line that cannot be understood. It quotes nothing of the line, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsersFileProblem {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub kind: ProblemKind,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// A field does not begin with a double quote.
    QuoteExpected {
        /// `user name` or `password`.
        field: &'static str,
    },
    /// A field is not closed on its line.
    QuoteOpen {
        /// `user name` or `password`.
        field: &'static str,
    },
    /// The user name is empty.
    EmptyName,
    /// A field is too long.
    TooLong {
        /// `user name` or `password`.
        field: &'static str,
        /// The most it may have, in bytes.
        max: usize,
    },
    /// The user is on an earlier line already.
    Duplicate {
        /// That line.
        first: usize,
    },
    /// The line is not UTF-8.
    NotUtf8,
}

impl fmt::Display for UsersFileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.kind)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProblemKind::QuoteExpected { field } => write!(f, "the {field} must be in double quotes"),
            ProblemKind::QuoteOpen { field } => write!(f, "the {field} has no closing double quote"),
            ProblemKind::EmptyName => f.write_str("the user name is empty"),
            ProblemKind::TooLong { field, max } => write!(f, "the {field} is longer than {max} bytes"),
            ProblemKind::Duplicate { first } => write!(f, "the user is already on line {first}"),
            ProblemKind::NotUtf8 => f.write_str("not UTF-8"),
        }
    }
}

fn list(problems: &[UsersFileProblem], more: usize) -> String {
    let mut text: String = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

/// Reads a users file and says how many users it has.
///
/// # Errors
/// When it cannot be read or has errors: all of them, with their lines.
pub fn check(path: &Path) -> Result<usize, UsersFileError> {
    read(path).map(|users| users.len())
}

/// Reads a users file.
pub(super) fn read(path: &Path) -> Result<Users, UsersFileError> {
    let unreadable = |error| UsersFileError::Unreadable { path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    warn_of_readers(path, &file);
    let mut text = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes"))));
    }
    parse(&text).map_err(|mut problems| {
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        UsersFileError::Invalid { path: path.to_owned(), problems, more }
    })
}

/// A file of secrets that everybody may read is a mistake, but the operator's to make.
fn warn_of_readers(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o007 != 0 {
        tracing::warn!(path = %path.display(), "users file is accessible to all users of this machine");
    }
}

fn parse(text: &[u8]) -> Result<Users, Vec<UsersFileProblem>> {
    let mut users = Users::new();
    let mut lines: HashMap<Box<str>, usize> = HashMap::new();
    let mut problems = Vec::new();
    for (index, bytes) in text.split(|b| *b == b'\n').enumerate() {
        let line = index + 1;
        match parse_line(bytes) {
            Ok(None) => {}
            Ok(Some((name, stored))) => match lines.entry(name.clone()) {
                Entry::Occupied(first) => {
                    problems.push(UsersFileProblem {
                        line,
                        kind: ProblemKind::Duplicate { first: *first.get() },
                    });
                }
                Entry::Vacant(vacant) => {
                    vacant.insert(line);
                    users.insert(name, stored);
                }
            },
            Err(kind) => problems.push(UsersFileProblem { line, kind }),
        }
    }
    if problems.is_empty() { Ok(users) } else { Err(problems) }
}

fn parse_line(bytes: &[u8]) -> Result<Option<(Box<str>, Stored)>, ProblemKind> {
    let line = std::str::from_utf8(bytes).map_err(|_| ProblemKind::NotUtf8)?.trim_ascii_start();
    if line.is_empty() || line.starts_with(';') {
        return Ok(None);
    }
    let (name, rest) = quoted(line, "user name", USER_NAME_BYTES_MAX)?;
    if name.is_empty() {
        return Err(ProblemKind::EmptyName);
    }
    let (password, _ignored) = quoted(rest.trim_ascii_start(), "password", SECRET_BYTES_MAX)?;
    Ok(Some((name.as_str().into(), Stored::parse(&password, Cleartext::Accepted))))
}

/// The field that `text` begins with, and what follows it.
fn quoted<'t>(
    text: &'t str,
    field: &'static str,
    max: usize,
) -> Result<(Zeroizing<String>, &'t str), ProblemKind> {
    let mut rest = text.strip_prefix('"').ok_or(ProblemKind::QuoteExpected { field })?;
    let mut value = Zeroizing::new(String::with_capacity(max.min(rest.len())));
    loop {
        let (part, after) = rest.split_once('"').ok_or(ProblemKind::QuoteOpen { field })?;
        value.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                value.push('"');
                rest = more;
            }
            None if value.len() > max => return Err(ProblemKind::TooLong { field, max }),
            None => return Ok((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleartext<'u>(users: &'u Users, name: &str) -> &'u str {
        match users.get(name) {
            Some(Stored::Cleartext(password)) => password,
            _ => panic!("no password for {name}"),
        }
    }

    fn problems(text: &[u8]) -> Vec<UsersFileProblem> {
        parse(text).err().unwrap_or_default()
    }

    #[test]
    fn reads_what_pgbouncer_reads() {
        let text = b"; users\r\n\n  \"app\" \"se\"\"cret\" ignored \"too\"\r\n\t\"q\"\"x\"\"\"\t\"p w\"\n\
            \"none\" \"\"\n\"hash\" \"md5a3556571e93b0d20722ba62be61e8c2d\"\n\"last\"\"\"\"l\"\"x\"";
        // The last line is one field, "last""l"x", so its password is missing.
        assert_eq!(problems(text).len(), 1);
        let end = text.iter().rposition(|b| *b == b'\n').expect("lines");
        let users = parse(&text[..end]).unwrap_or_else(|p| panic!("{p:?}"));
        assert_eq!(users.len(), 4);
        assert_eq!(cleartext(&users, "app"), "se\"cret");
        assert_eq!(cleartext(&users, "q\"x\""), "p w");
        assert!(matches!(users["none"], Stored::Unusable(_)));
        assert!(matches!(users["hash"], Stored::Md5(_)));
    }

    #[test]
    fn an_empty_file_has_no_users() {
        assert!(parse(b"").is_ok_and(|users| users.is_empty()));
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let text = b"app \"x\"\n\"a\" \"x\"\n\"b\" x\n\"c\" \"x\n\"d\n\"\" \"x\"\n\xff\n\"a\" \"y\"\n\"e\"\n";
        let expected = [
            (1, ProblemKind::QuoteExpected { field: "user name" }),
            (3, ProblemKind::QuoteExpected { field: "password" }),
            (4, ProblemKind::QuoteOpen { field: "password" }),
            (5, ProblemKind::QuoteOpen { field: "user name" }),
            (6, ProblemKind::EmptyName),
            (7, ProblemKind::NotUtf8),
            (8, ProblemKind::Duplicate { first: 2 }),
            (9, ProblemKind::QuoteExpected { field: "password" }),
        ];
        assert_eq!(problems(text), expected.map(|(line, kind)| UsersFileProblem { line, kind }));
    }

    #[test]
    fn fields_at_their_limit_are_read_and_one_byte_more_is_not() {
        for (name, password, is_read) in [(255, 2048, true), (256, 1, false), (1, 2049, false)] {
            let line = format!("\"{}\" \"{}\"", "n".repeat(name), "p".repeat(password));
            assert_eq!(problems(line.as_bytes()).is_empty(), is_read, "{name} {password}");
        }
    }

    #[test]
    fn no_truncation_panics() {
        let text = "; c\n\"a\u{e9}\"\"b\" \"c\"\"\u{1F600}\"\n\"x\" \"y\"\n".as_bytes();
        for end in 0..=text.len() {
            let _ = parse(&text[..end]);
            let _ = parse(&text[end..]);
        }
    }

    #[test]
    fn errors_quote_nothing_of_the_file() {
        let path = std::env::temp_dir().join(format!("trunkline-users-{}", std::process::id()));
        std::fs::write(&path, "\"app\" \"hunter2\nhunter3\n".repeat(15)).expect("a temporary file");
        let error = read(&path).expect_err("broken").to_string();
        std::fs::remove_file(&path).expect("just written");
        assert!(error.contains("line 1: the password has no closing double quote"), "{error}");
        assert!(error.contains("and 10 more") && !error.contains("hunter"), "{error}");
        assert!(matches!(read(&path), Err(UsersFileError::Unreadable { .. })));
    }
}
