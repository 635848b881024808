//! A thread with all of it: an executor, and the timers of its tasks.

use std::future::Future;
use std::io;

use crate::{executor, timer};

/// Runs `main` on this thread to its end, and what it spawns for as long.
///
/// # Errors
/// What the kernel says when it is asked for an epoll and a timer descriptor, or refuses to wait.
///
/// # Panics
/// Within another `block_on`.
pub fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    executor::block_on(async {
        timer::start()?;
        let _stop = StopTimers;
        Ok(main.await)
    })?
}

/// Takes the timers from their thread when dropped: before the tasks that are left are.
struct StopTimers;

impl Drop for StopTimers {
    fn drop(&mut self) {
        timer::stop();
    }
}
