//! Ports that stay ours, also while the server that listens on them is down.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::unistd::Uid;

use crate::ClusterError;

/// First port handed out: above the well-known servers.
const FIRST: u16 = 10_000;
/// Last port handed out. Below Linux's default range for outgoing connections (32768 to 60999): inside it, a
/// client's own end could sit on the port of a server that is just restarting.
const LAST: u16 = 31_999;

/// A free TCP port on 127.0.0.1, kept for its holder against every other holder of leases on this machine.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    /// Locked as long as the lease lives; the lock goes with the process.
    _lock: File,
}

impl PortLease {
    /// A port that nobody listens on.
    ///
    /// # Errors
    /// [`ClusterError::NoPort`] when all are taken, [`ClusterError::Io`] when the lock files cannot be kept.
    pub fn take() -> Result<Self, ClusterError> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let span = LAST - FIRST + 1;
        // Processes start at different places, so that they rarely meet.
        let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(span))
            .expect("a remainder of a u16 divisor fits in u16");
        for _ in 0..span {
            let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed) % span) % span;
            if let Some(lease) = Self::try_port(FIRST + offset)? {
                return Ok(lease);
            }
        }
        Err(ClusterError::NoPort { first: FIRST, last: LAST })
    }

    /// The given port, which must be free.
    ///
    /// # Errors
    /// [`ClusterError::NoPort`] when somebody has it.
    pub fn fixed(port: u16) -> Result<Self, ClusterError> {
        Self::try_port(port)?.ok_or(ClusterError::NoPort { first: port, last: port })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn try_port(port: u16) -> Result<Option<Self>, ClusterError> {
        let directory = lock_directory();
        std::fs::create_dir_all(&directory)
            .map_err(ClusterError::io(format!("create {}", directory.display())))?;
        let path = directory.join(port.to_string());
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(ClusterError::io(format!("open {}", path.display())))?;
        if lock.try_lock().is_err() || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            return Ok(None);
        }
        Ok(Some(Self { port, _lock: lock }))
    }
}

/// One directory per OS user, since another user's files could not be opened.
fn lock_directory() -> PathBuf {
    PathBuf::from(format!("/tmp/trunkline-ports-{}", Uid::effective()))
}

#[cfg(test)]
mod tests {
    use super::PortLease;

    #[test]
    fn a_leased_port_is_not_given_twice() {
        let first = PortLease::take().expect("there are free ports");
        assert!(PortLease::fixed(first.port()).is_err());
        let port = first.port();
        drop(first);
        assert_eq!(PortLease::fixed(port).expect("the lease ended").port(), port);
    }

    #[test]
    fn a_port_somebody_listens_on_is_not_given() {
        let lease = PortLease::take().expect("there are free ports");
        let port = lease.port();
        let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        drop(lease);
        assert!(PortLease::fixed(port).is_err());
    }
}
