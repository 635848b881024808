//! Standard output and the terminal.

use std::io::{IsTerminal as _, Write as _, stdout};

/// Whether what is printed is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Colour,
    Plain,
}

/// Prints text. A closed pipe (`| head`) is the reader's wish and no error.
pub(crate) fn print(text: &str) {
    let mut out = stdout().lock();
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A name that a client chose, without what would write on an operator's terminal.
pub(crate) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    stdout().is_terminal()
}

/// Colour for a terminal, if it is wanted there.
pub(crate) fn paint() -> Paint {
    if is_terminal() && welcomes_colour() { Paint::Colour } else { Paint::Plain }
}

/// Whether `NO_COLOR` is unset and the terminal, if it is one, not dumb. Source: <https://no-color.org>.
pub(crate) fn welcomes_colour() -> bool {
    let is_unwelcome = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !is_unwelcome && !is_dumb
}
