//! Progress messages, with the time since the start.

use std::time::Instant;

/// Prints progress messages. Clones share the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemoProgress {
    began: Instant,
    is_quiet: bool,
}

impl DemoProgress {
    /// `is_quiet`: standard output is reserved for the command.
    pub(super) fn new(is_quiet: bool) -> Self {
        DemoProgress { began: Instant::now(), is_quiet }
    }

    /// Prints one line.
    pub(super) fn say(&self, what: &str) {
        let line = format!("{:5.1} s  {what}\n", self.began.elapsed().as_secs_f64());
        if self.is_quiet { eprint!("{line}") } else { crate::terminal::print(&line) }
    }
}
