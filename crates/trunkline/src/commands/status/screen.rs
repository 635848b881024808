//! A block of lines redrawn in place.

use std::fmt::Write as _;

/// The block at the end of the terminal's output.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    lines: usize,
}

impl Screen {
    /// Draws `text` over what was drawn last. Long lines are cut at the edge, so that the count stays right.
    pub(crate) fn draw(&mut self, text: &str) {
        let mut out = String::new();
        if self.lines > 0 {
            let _ = write!(out, "\x1b[{}A", self.lines);
        }
        let _ = write!(out, "\r\x1b[J\x1b[?7l{text}\x1b[?7h");
        self.lines = text.lines().count();
        crate::terminal::print(&out);
    }
}
