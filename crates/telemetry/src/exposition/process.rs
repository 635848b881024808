//! The process itself, under the names that every Prometheus client has for it.
//!
//! Source: Prometheus, Writing client libraries, "Process metrics". What the kernel does not tell is absent.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};

use super::text::{Exposition, Type};

/// Clock ticks in a second, in files below /proc. Source: Linux, include/asm-generic/param.h, `USER_HZ`.
const TICKS_PER_SECOND: u64 = 100;

/// Descriptors are counted by name up to here; older kernels do not say how many there are.
const DESCRIPTORS_COUNTED_MAX: usize = 1 << 20;

pub(super) fn write(out: &mut Exposition) {
    let help = "CPU time used, in user and kernel mode.";
    gauge(out, "process_cpu_seconds_total", Type::Counter, help, cpu_time().map(|time| time.as_secs_f64()));
    let help = "Memory in RAM.";
    gauge(out, "process_resident_memory_bytes", Type::Gauge, help, resident_bytes());
    gauge(out, "process_open_fds", Type::Gauge, "Open file descriptors.", open_descriptors());
    let help = "Most file descriptors that the process may open.";
    gauge(
        out,
        "process_max_fds",
        Type::Gauge,
        help,
        getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
    );
    let help = "When the process started, since 1970.";
    let started = started().map(|at| at.as_secs_f64());
    gauge(out, "process_start_time_seconds", Type::Gauge, help, started);
    gauge(out, "process_threads", Type::Gauge, "Threads.", status("Threads:"));
}

fn gauge<V: std::fmt::Display>(
    out: &mut Exposition,
    name: &'static str,
    kind: Type,
    help: &str,
    value: Option<V>,
) {
    out.family(name, kind, help);
    if let Some(value) = value {
        out.sample(&[], value);
    }
}

fn cpu_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    Some(duration(usage.user_time())? + duration(usage.system_time())?)
}

fn duration(time: TimeVal) -> Option<Duration> {
    let micros = u64::try_from(time.tv_usec()).ok()?;
    Some(Duration::from_secs(u64::try_from(time.tv_sec()).ok()?) + Duration::from_micros(micros))
}

fn resident_bytes() -> Option<u64> {
    status("VmRSS:").map(|kibibytes| kibibytes * 1024)
}

/// The number of a line of /proc/self/status.
fn status(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let rest = status.lines().find_map(|found| found.strip_prefix(line))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Source: Linux 6.2, fs/proc/fd.c, `proc_fd_getattr`: the size of the directory is the number of descriptors.
fn open_descriptors() -> Option<u64> {
    match std::fs::metadata("/proc/self/fd").ok()?.len() {
        // The one that reads the directory is not counted.
        0 => Some(std::fs::read_dir("/proc/self/fd").ok()?.take(DESCRIPTORS_COUNTED_MAX).count() as u64 - 1),
        open => Some(open),
    }
}

/// The time of the start, since 1970; the same at every look.
fn started() -> Option<Duration> {
    static STARTED: OnceLock<Option<Duration>> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)?;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let running = since_boot.checked_sub(start_after_boot(&stat)?)?;
        SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(running)
    })
}

/// Source: proc_pid_stat(5): the 22nd field; the second is a name in parentheses that may hold anything.
fn start_after_boot(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: u64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    Some(Duration::from_millis(ticks.checked_mul(1000 / TICKS_PER_SECOND)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let mut out = Exposition::default();
        write(&mut out);
        let text = out.finish();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().expect("a number")
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_threads") >= 1.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let running = now - value("process_start_time_seconds");
        assert!((-1.0..3600.0).contains(&running), "{running} s");
        assert!(value("process_cpu_seconds_total") < 3600.0);
    }

    #[test]
    fn one_more_descriptor_is_counted_as_one() {
        // Other tests open and close files meanwhile: it is enough that the number follows once.
        let follows = || {
            let before = open_descriptors()?;
            let file = std::fs::File::open("/dev/null").ok()?;
            let after = open_descriptors()?;
            drop(file);
            Some(after == before + 1)
        };
        assert!((0..1000).any(|_| follows() == Some(true)));
    }

    #[test]
    fn the_start_is_found_behind_a_name_that_holds_anything() {
        let fields = (3..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = format!("7 (a) b (c)) {fields}");
        assert_eq!(start_after_boot(&stat), Some(Duration::from_millis(220)));
        assert_eq!(start_after_boot("7 (cut) S 1"), None);
    }
}
