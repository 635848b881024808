//! The lines of a file and of those it includes, as fields of words.
//!
//! Source: PostgreSQL 16, src/backend/libpq/hba.c, `tokenize_auth_file`, `next_field_expand`;
//! src/backend/utils/misc/conffiles.c.

use std::io;
use std::sync::Arc;

use crate::files::{AccessFiles, beside};
use crate::limits::{DEPTH_MAX, FILES_MAX, LINES_MAX, WORDS_MAX};
use crate::problem::{FileProblem, FileProblems, LinePlace, Wrong};
use crate::token::{AuthToken, Words, logical_lines};

/// The words between two blanks, with commas in between; never none.
pub(crate) type Field = Vec<AuthToken>;

/// A line that is no comment.
#[derive(Debug)]
pub(crate) struct FieldLine {
    pub(crate) place: LinePlace,
    pub(crate) fields: Vec<Field>,
}

/// A line, or why it cannot be read.
type ReadLine = Result<FieldLine, FileProblem>;

/// Makes something of each line of a file; else all that is wrong.
pub(crate) fn read<T>(
    files: &dyn AccessFiles,
    path: &str,
    mut make: impl FnMut(&FieldLine) -> Result<T, Wrong>,
) -> Result<Vec<T>, FileProblems> {
    let mut reader = LineReader { files, opened: 0, words: 0, lines: 0 };
    let lines = reader.file(path, 0).unwrap_or_else(|wrong| vec![Err(wrong.into())]);
    let (mut made, mut problems) = (Vec::new(), FileProblems::default());
    for line in lines {
        match line.and_then(|line| make(&line).map_err(|wrong| wrong.at(&line.place))) {
            Ok(one) => made.push(one),
            Err(problem) => problems.push(problem),
        }
    }
    problems.none_or(made)
}

struct LineReader<'r> {
    files: &'r dyn AccessFiles,
    opened: usize,
    words: usize,
    lines: usize,
}

/// What a missing file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MissingFile {
    IsWrong,
    IsEmpty,
}

impl LineReader<'_> {
    /// The lines of a file.
    fn file(&mut self, path: &str, depth: usize) -> Result<Vec<ReadLine>, Wrong> {
        let bytes = self.open(path, depth)?;
        let unreadable = |error: io::Error| unreadable(path, &error);
        Ok(self.lines(path, &bytes.map_err(unreadable)?, depth))
    }

    fn open(&mut self, path: &str, depth: usize) -> Result<io::Result<Vec<u8>>, Wrong> {
        if depth > DEPTH_MAX {
            let message = format!("could not open {path}: maximum nesting depth exceeded");
            return Err(Wrong::new(message).hint("A file that includes itself has no end."));
        }
        self.opened += 1;
        if self.opened > FILES_MAX {
            let message = format!("could not open {path}: more than {FILES_MAX} files are included");
            return Err(Wrong::new(message).hint("Put them together."));
        }
        Ok(self.files.read(path))
    }

    fn lines(&mut self, path: &str, bytes: &[u8], depth: usize) -> Vec<ReadLine> {
        let file: Arc<str> = Arc::from(path);
        let place = |line| LinePlace { file: Arc::clone(&file), line };
        let (text, broken) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(error) => (std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(), true),
        };
        let mut found = Vec::new();
        for (line, whole) in logical_lines(text) {
            let place = place(line);
            let read = self.fields(path, &whole, depth).and_then(|fields| match &fields[..] {
                [] => Ok(Vec::new()),
                [first, second] if Directive::of(&first[0]).is_some() => {
                    self.include(path, Directive::of(&first[0]), &second[0].text, depth + 1)
                }
                _ => {
                    self.count_line()?;
                    Ok(vec![Ok(FieldLine { place: place.clone(), fields })])
                }
            });
            match read {
                Ok(lines) => found.extend(lines),
                Err(wrong) => found.push(Err(wrong.at(&place))),
            }
            if self.lines > LINES_MAX || self.words > WORDS_MAX {
                break;
            }
        }
        if broken {
            let wrong = Wrong::new("the line is not UTF-8").hint("Write the file in UTF-8.");
            found.push(Err(wrong.at(&place(text.split('\n').count()))));
        }
        found
    }

    fn count_line(&mut self) -> Result<(), Wrong> {
        self.lines += 1;
        if self.lines > LINES_MAX {
            let wrong = Wrong::new(format!("there are more than {LINES_MAX} lines"));
            return Err(wrong.hint("Names and networks may be in one rule together."));
        }
        Ok(())
    }

    /// The fields of a line; none of a comment.
    fn fields(&mut self, path: &str, line: &str, depth: usize) -> Result<Vec<Field>, Wrong> {
        if line.contains('\0') {
            return Err(Wrong::new("the line has a NUL in it"));
        }
        let (mut words, mut fields) = (Words::of(line), Vec::new());
        let mut field = Field::new();
        while let Some(word) = words.next()? {
            match word.token.text.strip_prefix('@') {
                Some(file) if !word.token.is_quoted && !file.is_empty() => {
                    field.extend(self.words_of_file(&beside(path, file), depth + 1)?);
                }
                _ => {
                    self.count_words(1)?;
                    field.push(word.token);
                }
            }
            if !word.has_more && !field.is_empty() {
                fields.push(std::mem::take(&mut field));
            }
        }
        if !field.is_empty() {
            fields.push(field);
        }
        Ok(fields)
    }

    /// All words of a file, for `@file`.
    fn words_of_file(&mut self, path: &str, depth: usize) -> Result<Vec<AuthToken>, Wrong> {
        let lines: Vec<FieldLine> = self.file(path, depth)?.into_iter().collect::<Result<_, _>>()?;
        let words: Vec<AuthToken> = lines.into_iter().flat_map(|line| line.fields).flatten().collect();
        self.count_words(words.len())?;
        Ok(words)
    }

    fn count_words(&mut self, more: usize) -> Result<(), Wrong> {
        self.words += more;
        if self.words > WORDS_MAX {
            return Err(Wrong::new(format!(
                "there are more than {WORDS_MAX} words, those of included files among them"
            )));
        }
        Ok(())
    }

    fn include(
        &mut self,
        from: &str,
        directive: Option<Directive>,
        name: &str,
        depth: usize,
    ) -> Result<Vec<ReadLine>, Wrong> {
        let path = beside(from, name);
        match directive {
            None => Ok(Vec::new()),
            Some(Directive::Include) => self.included(&path, depth, MissingFile::IsWrong),
            Some(Directive::IncludeIfExists) => self.included(&path, depth, MissingFile::IsEmpty),
            Some(Directive::IncludeDir) => {
                if name.is_empty() {
                    return Err(Wrong::new("empty configuration directory name: \"\""));
                }
                let mut names = self.files.list(&path).map_err(|error| unreadable(&path, &error))?;
                names.retain(|name| !name.starts_with('.') && name.len() > 5 && name.ends_with(".conf"));
                names.sort_unstable();
                let mut lines = Vec::new();
                for name in names {
                    lines.extend(self.included(&format!("{path}/{name}"), depth, MissingFile::IsWrong)?);
                }
                Ok(lines)
            }
        }
    }

    fn included(&mut self, path: &str, depth: usize, missing: MissingFile) -> Result<Vec<ReadLine>, Wrong> {
        match self.open(path, depth)? {
            Ok(bytes) => Ok(self.lines(path, &bytes, depth)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && missing == MissingFile::IsEmpty => {
                Ok(Vec::new())
            }
            Err(error) => Err(unreadable(path, &error)),
        }
    }
}

fn unreadable(path: &str, error: &io::Error) -> Wrong {
    Wrong::new(format!("could not read {path}: {error}"))
        .hint("See that it is there, and that the user whom the proxy runs as may read it.")
}

/// A line that stands for other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Include,
    IncludeIfExists,
    IncludeDir,
}

impl Directive {
    /// The first word of such a line; quotes make no difference, as in PostgreSQL.
    fn of(word: &AuthToken) -> Option<Self> {
        match word.text.as_str() {
            "include" => Some(Directive::Include),
            "include_if_exists" => Some(Directive::IncludeIfExists),
            "include_dir" => Some(Directive::IncludeDir),
            _ => None,
        }
    }
}
