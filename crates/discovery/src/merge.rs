//! Configured, added and discovered servers become one list.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use trunkline_health::SERVERS_MAX;
use trunkline_topology::{AdminState, ExpectedRole, Origin, ProbeSpec, ServerSpec};

use crate::check::{SocketHosts, host_of};
use crate::found::{Found, SourceStatus};
use crate::member::Member;

/// Why no list can be made; the one in force stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeFault {
    /// More than [`SERVERS_MAX`].
    #[error(
        "{wanted} servers are configured, added and discovered together; at most {SERVERS_MAX} are possible"
    )]
    TooMany {
        /// How many there would be.
        wanted: usize,
    },
}

/// The servers that are wanted: those configured, those added by an operator, then those of each source, in configuration
/// order of the sources and in order of names within one.
///
/// One place is one server: what is configured wins over what is added, that over what is discovered, and an earlier
/// source over a later one. Who wins keeps name and keys, and takes the zone of the other if it has none. One name is one
/// server, too: who comes later, or has a name for which `is_reserved`, is called `name@source`.
///
/// # Errors
/// When there would be too many.
pub fn merge(
    configured: &[ServerSpec],
    added: &[ServerSpec],
    found: &Found,
    is_reserved: &dyn Fn(&str) -> bool,
) -> Result<Vec<ServerSpec>, MergeFault> {
    let mut list = WantedList::default();
    for spec in configured.iter().chain(added) {
        list.put(&spec.host, spec.port, || spec.clone(), spec.zone.as_ref());
    }
    for source in &found.sources {
        for member in source.members() {
            let named = || discovered(member, source);
            list.put(&member.host, member.port, named, member.zone.as_ref());
        }
    }
    if list.servers.len() > SERVERS_MAX {
        return Err(MergeFault::TooMany { wanted: list.servers.len() });
    }
    Ok(list.with_unique_names(is_reserved))
}

/// The servers up to now, and which of them is where.
#[derive(Default)]
struct WantedList {
    servers: Vec<ServerSpec>,
    places: HashMap<(String, u16), usize>,
}

impl WantedList {
    fn put(&mut self, host: &str, port: u16, spec: impl FnOnce() -> ServerSpec, zone: Option<&Arc<str>>) {
        let before = *self.places.entry((place(host), port)).or_insert(self.servers.len());
        match self.servers.get_mut(before) {
            Some(server) => server.zone = server.zone.take().or_else(|| zone.cloned()),
            None => self.servers.push(spec()),
        }
    }

    /// Names of configured and added servers have been checked where they were written, and stay.
    fn with_unique_names(mut self, is_reserved: &dyn Fn(&str) -> bool) -> Vec<ServerSpec> {
        let mut names: HashSet<String> = HashSet::new();
        for server in &mut self.servers {
            if let Origin::Discovered(source) = &server.origin
                && (names.contains(&server.name) || is_reserved(&server.name))
            {
                // No member's name has an "@", and in one source each is there once: nobody else can have it.
                server.name = format!("{}@{source}", server.name);
            }
            names.insert(server.name.clone());
        }
        self.servers
    }
}

/// A host as all of its spellings are compared, as the configuration does it.
fn place(host: &str) -> String {
    let host = host_of(host, SocketHosts::Allowed).unwrap_or_else(|| host.to_owned());
    match host.as_str() {
        "localhost" | "::1" => "127.0.0.1".to_owned(),
        _ => host,
    }
}

fn discovered(member: &Member, source: &SourceStatus) -> ServerSpec {
    ServerSpec {
        name: member.name.clone(),
        host: member.host.clone(),
        port: member.port,
        expected_role: ExpectedRole::Any,
        weight: member.weight.unwrap_or(source.weight),
        admin: AdminState::Ready,
        zone: member.zone.clone(),
        origin: Origin::Discovered(Arc::clone(&source.name)),
        probe: ProbeSpec::default(),
    }
}
