//! Processes as /proc shows them, and signals to them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often /proc is looked at while waiting.
const POLL: Duration = Duration::from_millis(5);

/// Sends `signal` to the process `pid`; a process that is already gone is no error.
pub fn send_signal(pid: i32, signal: Signal) {
    // Pid 0 and negative ones mean whole groups: never ours to signal.
    if pid > 1 {
        let _gone = kill(Pid::from_raw(pid), signal);
    }
}

/// Whether the process exists and is no zombie.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// All processes below `pid`, children before their own children.
#[must_use]
pub fn descendants(pid: i32) -> Vec<i32> {
    let all = all_processes();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|stat| stat.parent == parent).map(|stat| stat.pid));
        next += 1;
    }
    found.split_off(1)
}

/// Memory of the process that is in RAM, in bytes. `None` when it is gone.
/// Source: proc(5), `VmRSS` of /proc/pid/status.
#[must_use]
pub fn resident_bytes(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Whether the process was started for the data directory `directory`, as a postmaster is by `-D`.
///
/// Its command line tells anyone. Its working directory would be surer, but in a container not even root may
/// look at that of another user's process (CAP_SYS_PTRACE).
pub(crate) fn is_started_for(pid: i32, directory: &Path) -> bool {
    let Ok(command) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let Ok(wanted) = directory.canonicalize() else { return false };
    let mut words = command.split(|&byte| byte == 0).map(|word| Path::new(OsStr::from_bytes(word)));
    words.any(|word| word == directory || word == wanted)
}

/// Waits until none of `pids` is alive. False when `timeout` passed first.
pub(crate) fn wait_gone(pids: &[i32], timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    while pids.iter().any(|&pid| is_alive(pid)) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

struct Stat {
    pid: i32,
    parent: i32,
    state: char,
}

fn all_processes() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(stat).collect()
}

fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(pid, &text)
}

/// The name in parentheses may hold spaces and parentheses itself, so the fields start after the last one.
fn parse_stat(pid: i32, text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Stat { pid, parent, state })
}

#[cfg(test)]
mod tests {
    use super::{descendants, is_alive, parse_stat, resident_bytes};

    #[test]
    fn stat_line_with_parentheses_in_the_name_is_read() {
        let stat = parse_stat(7, "7 (a) b (c)) S 3 7 7 0").expect("the line is whole");
        assert_eq!((stat.state, stat.parent), ('S', 3));
        assert!(parse_stat(7, "7 (cut").is_none());
    }

    #[test]
    fn own_process_is_alive_and_its_child_is_a_descendant() {
        let me = i32::try_from(std::process::id()).expect("process ids fit in i32");
        assert!(is_alive(me));
        assert!(resident_bytes(me).is_some_and(|bytes| bytes > 100_000));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep exists");
        let child_pid = i32::try_from(child.id()).expect("process ids fit in i32");
        assert!(descendants(me).contains(&child_pid));
        child.kill().expect("it runs");
        child.wait().expect("it is our child");
        assert!(!is_alive(child_pid));
    }
}
