//! What is going on, with the time since the start.

use std::time::Instant;

/// Tells a person what is going on. Clones share the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemoProgress {
    began: Instant,
    is_quiet: bool,
}

impl DemoProgress {
    /// `is_quiet`: standard output belongs to someone else.
    pub(super) fn new(is_quiet: bool) -> Self {
        DemoProgress { began: Instant::now(), is_quiet }
    }

    /// One line.
    pub(super) fn say(&self, what: &str) {
        let line = format!("{:5.1} s  {what}\n", self.began.elapsed().as_secs_f64());
        if self.is_quiet { eprint!("{line}") } else { crate::terminal::print(&line) }
    }
}
