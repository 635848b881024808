//! Processor time of other processes.

use std::time::Duration;

/// Time that all threads of `pids` have run. A process that is gone counts nothing.
///
/// From `/proc/PID/task/*/schedstat`, which counts nanoseconds where utime and stime count ticks of 10 ms.
/// Source: Linux, Documentation/scheduler/sched-stats.rst.
#[must_use]
pub fn cpu_time(pids: &[u32]) -> Duration {
    let nanoseconds = pids.iter().map(|pid| process_nanoseconds(*pid)).sum();
    Duration::from_nanos(nanoseconds)
}

fn process_nanoseconds(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_ascii_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}
