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
    places: HashMap<HostPlace, usize>,
}

impl WantedList {
    fn put(&mut self, host: &str, port: u16, spec: impl FnOnce() -> ServerSpec, zone: Option<&Arc<str>>) {
        let before = *self.places.entry(place(host, port)).or_insert(self.servers.len());
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

/// A host and a port, as all spellings of the host are compared: by it one server is told from another.
pub type HostPlace = (String, u16);

/// The place of a server, as the configuration compares it.
#[must_use]
pub fn place(host: &str, port: u16) -> HostPlace {
    let host = host_of(host, SocketHosts::Allowed).unwrap_or_else(|| host.to_owned());
    match host.as_str() {
        "localhost" | "::1" => ("127.0.0.1".to_owned(), port),
        _ => (host, port),
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::found::{AnswerFrom, GoodAnswer};

    fn member(name: &str, host: &str, zone: Option<&str>) -> Member {
        let zone = zone.map(Arc::from);
        Member { name: name.to_owned(), host: host.to_owned(), port: 5432, zone, ..Member::default() }
    }

    fn spec(name: &str, host: &str, origin: Origin) -> ServerSpec {
        let (name, host) = (name.to_owned(), host.to_owned());
        ServerSpec { name, host, port: 5432, weight: 7, origin, ..ServerSpec::default() }
    }

    fn found(sources: &[(&str, &[Member])]) -> Found {
        let status = |(name, members): &(&str, &[Member])| {
            let answer = GoodAnswer {
                members: members.to_vec().into(),
                at: SystemTime::UNIX_EPOCH,
                from: AnswerFrom::Source,
            };
            SourceStatus {
                name: (*name).into(),
                kind: "patroni",
                weight: 100,
                answer: Some(answer),
                role_changes: 0,
                last_error: None,
                errors: 0,
                errors_since: 0,
                keep_problem: None,
            }
        };
        Found { sources: sources.iter().map(status).collect() }
    }

    fn merged(configured: &[ServerSpec], added: &[ServerSpec], found: &Found) -> Vec<ServerSpec> {
        merge(configured, added, found, &|name| name == "status").unwrap()
    }

    fn shown(servers: &[ServerSpec]) -> Vec<String> {
        servers
            .iter()
            .map(|server| {
                let ServerSpec { name, host, weight, zone, origin, .. } = server;
                format!("{name} {host} {weight} {} {origin}", zone.as_deref().unwrap_or("-"))
            })
            .collect()
    }

    #[test]
    fn a_configured_server_wins_over_a_discovered_one_at_its_place_and_takes_its_zone() {
        let configured = [
            spec("first", "DB1", Origin::Configured),
            ServerSpec { zone: Some("z".into()), ..spec("second", "db2", Origin::Configured) },
        ];
        let found = found(&[(
            "p",
            &[
                member("pg1", "db1", Some("a")),
                member("pg2", "db2", Some("b")),
                member("pg3", "db3", Some("c")),
            ],
        )]);
        assert_eq!(
            shown(&merged(&configured, &[], &found)),
            ["first DB1 7 a configured", "second db2 7 z configured", "pg3 db3 100 c p"]
        );
    }

    #[test]
    fn added_servers_come_second_and_an_earlier_source_wins_over_a_later_one() {
        let added = [spec("hand", "db2", Origin::Added)];
        let found = found(&[
            ("p", &[member("pg2", "db2", None), member("pg3", "db3", None)]),
            ("q", &[member("other3", "db3", Some("c")), member("pg4", "db4", None)]),
        ]);
        assert_eq!(
            shown(&merged(&[], &added, &found)),
            ["hand db2 7 - added", "pg3 db3 100 c p", "pg4 db4 100 - q"]
        );
    }

    #[test]
    fn a_name_that_is_taken_gets_its_sources() {
        let configured = [spec("pg1", "db1", Origin::Configured)];
        let found = found(&[
            ("p", &[member("pg1", "db9", None), member("status", "db8", None)]),
            ("q", &[member("pg1", "db7", None)]),
        ]);
        assert_eq!(
            shown(&merged(&configured, &[], &found)),
            ["pg1 db1 7 - configured", "pg1@p db9 100 - p", "status@p db8 100 - p", "pg1@q db7 100 - q"]
        );
    }

    #[test]
    fn a_member_has_its_own_weight_or_that_of_its_source() {
        let excluded = Member { weight: Some(0), ..member("pg1", "db1", None) };
        let found = found(&[("p", &[excluded, member("pg2", "db2", None)])]);
        let weights: Vec<_> = merged(&[], &[], &found).iter().map(|server| server.weight).collect();
        assert_eq!(weights, [0, 100]);
    }

    #[test]
    fn more_servers_than_possible_are_refused() {
        let many = |source: &str, count| -> Vec<Member> {
            (0..count).map(|n| member(&format!("{source}{n}"), &format!("{source}{n}"), None)).collect()
        };
        let (p, q) = (many("p", 1000), many("q", SERVERS_MAX - 1000));
        assert_eq!(merged(&[], &[], &found(&[("p", &p), ("q", &q)])).len(), SERVERS_MAX);
        let one = [spec("one", "one", Origin::Configured)];
        let fault = merge(&one, &[], &found(&[("p", &p), ("q", &q)]), &|_| false);
        assert_eq!(fault, Err(MergeFault::TooMany { wanted: SERVERS_MAX + 1 }));
    }

    proptest! {
        #[test]
        fn names_and_places_are_unique_and_nothing_is_lost(
            configured in prop::collection::btree_map("[a-d]", "[s-z]", 0..4),
            sources in prop::collection::vec(prop::collection::btree_map("[a-d]", "[s-z]", 0..4), 0..4),
        ) {
            let hosts: HashSet<&String> = configured.values().chain(sources.iter().flat_map(|source| source.values())).collect();
            let mut places = HashSet::new();
            let configured: Vec<_> = configured
                .iter()
                .filter(|(_, host)| places.insert((*host).clone()))
                .map(|(name, host)| spec(name, host, Origin::Configured))
                .collect();
            let members: Vec<Vec<_>> = sources
                .iter()
                .map(|source| source.iter().map(|(name, host)| member(name, host, None)).collect())
                .collect();
            let names = ["p", "q", "r", "s"];
            let sources: Vec<_> = names.into_iter().zip(members.iter().map(Vec::as_slice)).collect();
            let servers = merged(&configured, &[], &found(&sources));
            let unique_names: HashSet<_> = servers.iter().map(|server| &server.name).collect();
            let unique_hosts: HashSet<_> = servers.iter().map(|server| &server.host).collect();
            prop_assert_eq!(unique_names.len(), servers.len());
            prop_assert_eq!(&unique_hosts, &hosts);
            prop_assert_eq!(unique_hosts.len(), servers.len());
            prop_assert_eq!(&servers[..configured.len()], &configured[..]);
        }
    }
}
