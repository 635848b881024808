//! Where everything of the demo listens.

use trunkline_cluster::PortLease;

use super::progress::DemoProgress;
use super::stage::failure;
use crate::Failure;

/// The well-known ports of the setup that Trunkline replaces.
const READS: u16 = 5434;
const WRITES: u16 = 5435;
const HTTP: u16 = 8008;
const PRIMARY: u16 = 5431;

/// Replicas: 5433, then those behind the listeners.
fn replica(index: usize) -> u16 {
    let index = u16::try_from(index).unwrap_or(u16::MAX);
    if index == 0 { 5433 } else { WRITES.saturating_add(index) }
}

/// The ports, reserved against other demos and tests on this machine.
#[derive(Debug)]
pub(super) struct Ports {
    reads: PortLease,
    writes: PortLease,
    http: PortLease,
    servers: Option<Vec<u16>>,
}

impl Ports {
    /// The well-known ports if they are free; any ports for `--exec`, so that many can run at once.
    pub(super) fn choose(is_any: bool, replicas: usize, progress: &DemoProgress) -> Result<Self, Failure> {
        let lease = |what: &str, wanted: u16| {
            if is_any {
                return PortLease::take();
            }
            PortLease::fixed(wanted).or_else(|_| {
                let free = PortLease::take()?;
                progress.say(&format!("port {wanted} is taken: {what} on {} instead", free.port()));
                Ok(free)
            })
        };
        let lease = |what: &str, wanted| lease(what, wanted).map_err(|error| failure(&error));
        let (reads, writes) = (lease("reads", READS)?, lease("writes", WRITES)?);
        let http = lease("http", HTTP)?;
        let mut servers = vec![lease("primary", PRIMARY)?];
        for index in 0..replicas {
            servers.push(lease(&format!("replica{}", index + 1), replica(index))?);
        }
        // The cluster reserves these itself.
        let servers = (!is_any).then(|| servers.iter().map(PortLease::port).collect());
        Ok(Ports { reads, writes, http, servers })
    }

    pub(super) fn reads(&self) -> u16 {
        self.reads.port()
    }

    pub(super) fn writes(&self) -> u16 {
        self.writes.port()
    }

    pub(super) fn http(&self) -> u16 {
        self.http.port()
    }

    /// Ports of the primary and the replicas; `None` = any.
    pub(super) fn servers(&self) -> Option<Vec<u16>> {
        self.servers.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_well_known_ports_are_the_same() {
        let mut ports = vec![READS, WRITES, HTTP, PRIMARY];
        ports.extend((0..16).map(replica));
        let count = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count);
    }
}
