//! Where everything of the demo listens.

use std::sync::Arc;

use trunkline_cluster::PortLease;

use super::progress::DemoProgress;
use super::stage::failure;
use crate::Failure;

/// The ports of the documents: reads, the primary, one for both, and HTTP.
const READS: u16 = 5434;
const WRITES: u16 = 5431;
const SPLIT: u16 = 5436;
const HTTP: u16 = 8008;
/// The primary's own port; those of the replicas follow.
const SERVERS: u16 = 5441;

/// The ports, reserved against other demos and tests on this machine.
#[derive(Debug)]
pub(super) struct Ports {
    reads: PortLease,
    writes: PortLease,
    split: Option<PortLease>,
    http: PortLease,
    servers: Vec<(String, Arc<PortLease>)>,
}

/// Which ports there are besides those of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortSet {
    All,
    /// Without the one for reads and writes: each client has the server that it has logged in to.
    NoSplit,
}

impl Ports {
    /// The ports of the documents where they are free; any ports for `--exec`, so that many can run at once.
    pub(super) fn choose(
        is_any: bool,
        set: PortSet,
        replicas: u16,
        progress: &DemoProgress,
    ) -> Result<Self, Failure> {
        let mut moved = Vec::new();
        let mut lease = |what: &str, wanted: u16| {
            if is_any {
                return PortLease::take().map_err(|error| failure(&error));
            }
            PortLease::fixed(wanted).or_else(|_| {
                let free = PortLease::take().map_err(|error| failure(&error))?;
                moved.push(format!("{what} on {} instead of {wanted}", free.port()));
                Ok(free)
            })
        };
        let (reads, writes) = (lease("reads", READS)?, lease("writes", WRITES)?);
        let split = match set {
            PortSet::All => Some(lease("split", SPLIT)?),
            PortSet::NoSplit => None,
        };
        let http = lease("http", HTTP)?;
        let mut servers = Vec::new();
        for index in 0..=replicas {
            let name = if index == 0 { "primary".to_owned() } else { format!("replica{index}") };
            let taken = lease(&name, SERVERS + index)?;
            servers.push((name, Arc::new(taken)));
        }
        if !moved.is_empty() {
            progress.say(&format!("ports are taken: {}", moved.join(", ")));
        }
        Ok(Ports { reads, writes, split, http, servers })
    }

    pub(super) fn reads(&self) -> u16 {
        self.reads.port()
    }

    pub(super) fn writes(&self) -> u16 {
        self.writes.port()
    }

    /// The port for reads and writes.
    pub(super) fn split(&self) -> Option<u16> {
        self.split.as_ref().map(PortLease::port)
    }

    pub(super) fn http(&self) -> u16 {
        self.http.port()
    }

    /// The servers' names and ports, the primary first.
    pub(super) fn servers(&self) -> impl Iterator<Item = (&str, &Arc<PortLease>)> {
        self.servers.iter().map(|(name, lease)| (name.as_str(), lease))
    }
}

#[cfg(test)]
mod tests {
    use super::super::REPLICAS_MAX;
    use super::*;

    #[test]
    fn no_two_ports_of_the_documents_are_the_same() {
        let servers = SERVERS..=SERVERS + REPLICAS_MAX;
        assert!([READS, WRITES, SPLIT, HTTP].iter().all(|port| !servers.contains(port)));
    }

    #[test]
    fn two_demos_at_once_have_ports_of_their_own() {
        let progress = DemoProgress::new(true);
        let all = |ports: &Ports| {
            let servers: Vec<u16> = ports.servers().map(|(_, lease)| lease.port()).collect();
            [vec![ports.reads(), ports.writes(), ports.split().expect("it has one"), ports.http()], servers]
                .concat()
        };
        let first =
            Ports::choose(false, PortSet::All, 2, &progress).unwrap_or_else(|failure| panic!("{failure}"));
        let second =
            Ports::choose(false, PortSet::All, 2, &progress).unwrap_or_else(|failure| panic!("{failure}"));
        let mut both = [all(&first), all(&second)].concat();
        both.sort_unstable();
        both.dedup();
        assert_eq!(both.len(), 14);
    }
}
