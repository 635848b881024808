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

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    stdout().is_terminal()
}

/// Colour for a terminal, unless `NO_COLOR` is set or the terminal is dumb. Source: <https://no-color.org>.
pub(crate) fn paint() -> Paint {
    let is_unwelcome = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if is_terminal() && !is_unwelcome && !is_dumb { Paint::Colour } else { Paint::Plain }
}
