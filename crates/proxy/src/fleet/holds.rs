//! Servers that stay though nobody wants them any more, until others can take their place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_discovery::merge::{HostPlace, place};
use trunkline_discovery::{Found, SourceStatus};
use trunkline_topology::{Origin, ServerSpec, Snapshot, State};

use super::wanted::{WantedServers, place_of};

/// How long servers that a new configuration no longer names wait for its sources.
const SOURCES_PATIENCE: Duration = Duration::from_secs(60);

/// Who stays, and why. An operator's word that a server leaves is never held up.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// The names of the sources of the configuration, when it was read again, and when that was. What was found may not
    /// tell of them yet.
    reloaded: Option<(Vec<Arc<str>>, Instant)>,
    /// Those that the configuration no longer names, nor a source that has answered: until all sources have answered
    /// and one of the wanted servers is UP, and no longer than [`SOURCES_PATIENCE`].
    by_reload: HashSet<HostPlace>,
    /// Those that serve while none of the servers is UP that their source names instead: until one is.
    by_answer: HashSet<HostPlace>,
}

/// What the wanted servers are compared with.
pub(super) struct InForce<'a> {
    /// The servers that are there, but for those that leave already.
    pub(super) servers: &'a [ServerSpec],
    pub(super) snapshot: &'a Snapshot,
}

impl Holds {
    /// A configuration was read again, which has these sources.
    pub(super) fn reload(&mut self, sources: Vec<Arc<str>>, now: Instant) {
        self.reloaded = Some((sources, now));
    }

    /// Whether anybody stays.
    pub(super) fn is_holding(&self) -> bool {
        !self.by_reload.is_empty() || !self.by_answer.is_empty()
    }

    /// The wanted servers, and those that stay.
    pub(super) fn list(
        &mut self,
        wanted: &WantedServers,
        now: Instant,
        there: &InForce<'_>,
    ) -> Vec<ServerSpec> {
        let mut list = wanted.list();
        let places: HashSet<HostPlace> = list.iter().map(place_of).collect();
        let leave = |spec: &&ServerSpec| !places.contains(&place_of(spec)) && !wanted.is_removed(spec);
        let leavers: Vec<&ServerSpec> = there.servers.iter().filter(leave).collect();
        let serving = serving(there.snapshot);
        let is_one_up = places.iter().any(|at| serving.get(at) == Some(&State::Up));
        let by_reload = self.held_by_reload(&leavers, wanted.found(), is_one_up, now);
        let does_one_serve = places.iter().chain(&by_reload).any(|at| serving.contains_key(at));
        let starts = |at: &HostPlace| !does_one_serve && serving.contains_key(at);
        let stays = |spec: &ServerSpec| {
            let at = place_of(spec);
            !is_one_up
                && is_left_by_answer(spec, wanted.found())
                && (self.by_answer.contains(&at) || starts(&at))
        };
        let by_answer: HashSet<HostPlace> =
            leavers.iter().filter(|spec| stays(spec)).map(|spec| place_of(spec)).collect();
        if !by_reload.is_empty() && self.by_reload.is_empty() {
            tracing::warn!(
                servers = by_reload.len(),
                patience_s = SOURCES_PATIENCE.as_secs(),
                "servers that are no longer configured stay until every source has answered"
            );
        }
        if !by_answer.is_empty() && self.by_answer.is_empty() {
            tracing::warn!(
                servers = by_answer.len(),
                "a source names none of the servers that serve: they stay until one that it names is UP"
            );
        }
        for spec in leavers {
            let at = place_of(spec);
            if by_reload.contains(&at) || by_answer.contains(&at) {
                let name = name_apart(spec, &list);
                list.push(ServerSpec { name, ..spec.clone() });
            }
        }
        (self.by_reload, self.by_answer) = (by_reload, by_answer);
        list
    }

    fn held_by_reload(
        &mut self,
        leavers: &[&ServerSpec],
        found: &Found,
        is_one_up: bool,
        now: Instant,
    ) -> HashSet<HostPlace> {
        let is_over = |at: Instant| now.saturating_duration_since(at) >= SOURCES_PATIENCE;
        self.reloaded.take_if(|(_, at)| is_over(*at));
        let Some((sources, _)) = &self.reloaded else { return HashSet::new() };
        let have_all_answered = sources.iter().all(|name| has_answered(found, name));
        let stays = |spec: &&&ServerSpec| match (have_all_answered, is_one_up) {
            (false, _) => !is_left_by_answer(spec, found),
            (true, false) => self.by_reload.contains(&place_of(spec)),
            (true, true) => false,
        };
        leavers.iter().filter(stays).map(|spec| place_of(spec)).collect()
    }
}

/// Where servers are UP or LAGGING that do not leave, and which of both.
fn serving(snapshot: &Snapshot) -> HashMap<HostPlace, State> {
    let is_serving = |state| matches!(state, State::Up | State::Lagging);
    let servers = snapshot.servers.iter().filter(|server| !server.is_leaving && is_serving(server.state));
    servers.map(|server| (place(&server.host, server.port), server.state)).collect()
}

fn has_answered(found: &Found, name: &str) -> bool {
    let is_it = |source: &&SourceStatus| *source.name == *name;
    found.sources.iter().find(is_it).is_some_and(|source| source.answer.is_some())
}

/// Whether it is its source that no longer names it, and not the configuration that has changed.
fn is_left_by_answer(spec: &ServerSpec, found: &Found) -> bool {
    match &spec.origin {
        Origin::Discovered(source) => has_answered(found, source),
        Origin::Configured | Origin::Added => false,
    }
}

/// Its name; with its place where another server has that name now.
fn name_apart(spec: &ServerSpec, list: &[ServerSpec]) -> String {
    if list.iter().any(|other| other.name == spec.name) {
        return format!("{}@{}:{}", spec.name, spec.host, spec.port);
    }
    spec.name.clone()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use trunkline_discovery::Member;
    use trunkline_discovery::found::{AnswerFrom, GoodAnswer};
    use trunkline_telemetry::exposition::testing::snapshot;

    use super::*;

    const HOST: &str = "127.0.0.1";

    fn spec(port: u16) -> ServerSpec {
        ServerSpec { name: format!("pg{port}"), host: HOST.to_owned(), port, ..ServerSpec::default() }
    }

    /// A source that names the servers at these ports, or has not answered.
    fn found(name: &str, ports: Option<&[u16]>) -> Arc<Found> {
        let member = |port: &u16| Member {
            name: format!("pg{port}"),
            host: HOST.to_owned(),
            port: *port,
            ..Member::default()
        };
        let (at, from) = (SystemTime::UNIX_EPOCH, AnswerFrom::Source);
        let answer = |ports: &[u16]| GoodAnswer { members: ports.iter().map(member).collect(), at, from };
        Arc::new(Found {
            sources: vec![SourceStatus {
                name: name.into(),
                kind: "dns",
                weight: 100,
                answer: ports.map(answer),
                role_changes: 0,
                last_error: None,
                errors: 0,
                errors_since: 0,
                keep_problem: None,
            }],
        })
    }

    /// The servers, as they are put in force one change after the other.
    struct Cluster {
        holds: Holds,
        wanted: WantedServers,
        servers: Vec<ServerSpec>,
        snapshot: Snapshot,
        began: Instant,
    }

    impl Cluster {
        /// Of these configured servers, of which the first two are UP, and the third is LAGGING.
        fn new(ports: [u16; 3]) -> Self {
            let servers: Vec<_> = ports.into_iter().map(spec).collect();
            let mut snapshot = snapshot();
            for (port, server) in ports.into_iter().zip(&mut snapshot.servers) {
                server.port = port;
            }
            let (wanted, holds) = (WantedServers::new(servers.clone()), Holds::default());
            Self { holds, wanted, servers, snapshot, began: Instant::now() }
        }

        fn find(&mut self, found: Arc<Found>) {
            self.wanted.find(found).expect("room");
        }

        /// The ports of the servers that are in force so many seconds after the start.
        fn ports(&mut self, seconds: u64) -> Vec<u16> {
            let now = self.began + Duration::from_secs(seconds);
            let there = InForce { servers: &self.servers, snapshot: &self.snapshot };
            self.servers = self.holds.list(&self.wanted, now, &there);
            self.servers.iter().map(|spec| spec.port).collect()
        }

        /// The third server is another one from now on.
        fn third_is(&mut self, port: u16, state: State) {
            (self.snapshot.servers[2].port, self.snapshot.servers[2].state) = (port, state);
        }
    }

    #[test]
    fn servers_that_are_configured_no_longer_stay_until_the_source_has_answered() {
        let mut cluster = Cluster::new([1, 2, 3]);
        cluster.wanted.configure(Vec::new());
        cluster.holds.reload(vec!["dns".into()], cluster.began);
        assert_eq!(cluster.ports(0), [1, 2, 3], "the source is not there yet");
        cluster.find(found("dns", None));
        assert_eq!(cluster.ports(1), [1, 2, 3], "it has not answered yet");
        cluster.find(found("dns", Some(&[2, 3])));
        assert_eq!(cluster.ports(2), [2, 3]);
        assert!(!cluster.holds.is_holding());
    }

    #[test]
    fn a_renamed_source_takes_nobody_out_and_is_not_awaited_for_ever() {
        let mut cluster = Cluster::new([1, 2, 3]);
        cluster.wanted.configure(Vec::new());
        cluster.find(found("old", Some(&[1, 2, 3])));
        assert_eq!(cluster.ports(0), [1, 2, 3]);
        cluster.holds.reload(vec!["new".into()], cluster.began);
        cluster.find(found("new", None));
        assert_eq!(cluster.ports(1), [1, 2, 3]);
        cluster.wanted.take_out(&spec(1));
        assert_eq!(cluster.ports(59), [2, 3], "an operator takes out who stays, too");
        assert_eq!(cluster.ports(60), [] as [u16; 0]);
    }

    #[test]
    fn without_a_source_a_reload_is_in_force_at_once() {
        let mut cluster = Cluster::new([1, 2, 3]);
        cluster.wanted.configure(vec![spec(4)]);
        cluster.holds.reload(Vec::new(), cluster.began);
        assert_eq!(cluster.ports(0), [4]);
    }

    #[test]
    fn an_answer_that_names_none_of_those_that_serve_waits_for_one_that_does() {
        let mut cluster = Cluster::new([1, 2, 3]);
        cluster.wanted.configure(Vec::new());
        cluster.find(found("dns", Some(&[1, 2])));
        cluster.third_is(3, State::Down);
        assert_eq!(cluster.ports(0), [1, 2]);
        cluster.find(found("dns", Some(&[4])));
        assert_eq!(cluster.ports(100), [4, 1, 2]);
        cluster.third_is(4, State::Down);
        cluster.snapshot.servers[0].state = State::Down;
        assert_eq!(cluster.ports(200), [4, 1, 2], "who stays is not told apart by a moment");
        cluster.third_is(4, State::Up);
        assert_eq!(cluster.ports(300), [4]);
        assert!(!cluster.holds.is_holding());
    }

    #[test]
    fn an_answer_that_leaves_one_that_serves_is_in_force_at_once() {
        let mut cluster = Cluster::new([1, 2, 3]);
        cluster.wanted.configure(Vec::new());
        cluster.find(found("dns", Some(&[1, 2, 3])));
        assert_eq!(cluster.ports(0), [1, 2, 3]);
        cluster.find(found("dns", Some(&[2, 4])));
        assert_eq!(cluster.ports(1), [2, 4]);
    }
}
