//! A block of lines redrawn in place.

use std::fmt::Write as _;

/// The block at the end of the terminal's output.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    lines: usize,
}

impl Screen {
    /// Draws `text` over what was drawn last, line by line so that nothing flickers. Long lines are cut at the
    /// edge, so that the count stays right.
    pub(crate) fn draw(&mut self, text: &str) {
        let mut out = String::from("\x1b[?7l\r");
        if self.lines > 0 {
            let _ = write!(out, "\x1b[{}A", self.lines);
        }
        for line in text.lines() {
            let _ = writeln!(out, "{line}\x1b[K");
        }
        out.push_str("\x1b[J\x1b[?7h");
        self.lines = text.lines().count();
        crate::terminal::print(&out);
    }
}
