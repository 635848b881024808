//! Standard output and the terminal.

use std::io::{IsTerminal as _, Write as _, stdout};

/// Prints text. A closed pipe (`| head`) is the reader's wish and no error.
pub(crate) fn print(text: &str) {
    let mut out = stdout().lock();
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    stdout().is_terminal()
}

/// Whether colour is welcome: a terminal, and neither `NO_COLOR` nor a dumb one. Source: <https://no-color.org>.
pub(crate) fn has_colour() -> bool {
    is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
