//! Whether the other end has read what was sent to it.

use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How often it is looked at.
const POLL: Duration = Duration::from_micros(100);

/// Waits until the process at the other end of a connection over 127.0.0.1 has read all that was sent to it, or is gone: what is
/// sent next comes with another read.
///
/// # Panics
/// When it has not read within `limit`.
#[track_caller]
pub fn await_read(socket: &TcpStream, limit: Duration) {
    let [own, other] = [socket.local_addr(), socket.peer_addr()].map(|address| address.map(|one| one.port()));
    let (Ok(own), Ok(other)) = (own, other) else { return };
    let began = Instant::now();
    while unread(other, own) > 0 {
        assert!(began.elapsed() < limit, "waited {limit:?} in vain until it is read");
        // The kernel has no event for it.
        std::thread::sleep(POLL);
    }
}

/// Bytes that have come from port `from` of this machine to its port `to` and were not read there.
/// Source: proc(5), /proc/net/tcp.
fn unread(to: u16, from: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has this file");
    let ends = [to, from].map(|port| format!("0100007F:{port:04X}"));
    let waiting = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_it = ends.iter().all(|end| fields.next() == Some(end.as_str()));
        // Behind the state, bytes that wait to be sent and to be read.
        let (_, to_be_read) = fields.nth(1).filter(|_| is_it)?.split_once(':')?;
        u64::from_str_radix(to_be_read, 16).ok()
    });
    waiting.unwrap_or(0)
}
