//! What is wrong with a file, and where.

use std::fmt;
use std::sync::Arc;

use crate::limits::PROBLEMS_MAX;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinePlace {
    /// The file's path, as it was named.
    pub file: Arc<str>,
    /// The line, from 1; the first one, where it goes on behind a backslash.
    pub line: usize,
}

impl fmt::Display for LinePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// Where; `None` for the first file itself.
    pub place: Option<LinePlace>,
    /// What. Lower case, no full stop.
    pub message: String,
    /// What to do. Whole sentences.
    pub hint: Option<String>,
}

impl From<FileProblem> for Wrong {
    fn from(problem: FileProblem) -> Self {
        let FileProblem { place, message, hint } = problem;
        Wrong { place, message, hint }
    }
}

impl From<Wrong> for FileProblem {
    fn from(wrong: Wrong) -> Self {
        let Wrong { place, message, hint } = wrong;
        FileProblem { place, message, hint }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// What is wrong with a line, before it is known which one it is.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// Where, if that is another file, which the line includes.
    place: Option<LinePlace>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Wrong { place: None, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As the only problem, of no line.
    pub(crate) fn alone(self) -> FileProblems {
        FileProblems { problems: vec![self.into()], more: 0 }
    }

    pub(crate) fn at(self, place: &LinePlace) -> FileProblem {
        let place = self.place.unwrap_or_else(|| place.clone());
        FileProblem { place: Some(place), message: self.message, hint: self.hint }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct FileProblems {
    /// The first of the problems, in the order of the files.
    pub problems: Vec<FileProblem>,
    /// How many further ones there are.
    pub more: usize,
}

impl FileProblems {
    pub(crate) fn push(&mut self, problem: FileProblem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// What was made of the files, if nothing is wrong with them.
    pub(crate) fn none_or<T>(self, made: T) -> Result<T, Self> {
        if self.is_empty() { Ok(made) } else { Err(self) }
    }
}

impl fmt::Display for FileProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}
