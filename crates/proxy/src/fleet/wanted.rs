//! The servers that are wanted, of all who may say so: the configuration, operators, and discovery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trunkline_control::contract::is_path;
use trunkline_control::fleet::{EditRefusal, NewPlace, ServerEdit, ServerKeys, WantedServer};
use trunkline_discovery::merge::{HostPlace, MergeFault, place};
use trunkline_discovery::{Found, Member, merge};
use trunkline_topology::{Origin, SERVERS_MAX, ServerSpec};

/// Longest name of a server. PostgreSQL's names are as long.
const NAME_BYTES_MAX: usize = 63;
/// Longest name of a zone.
const ZONE_BYTES_MAX: usize = 63;
/// Greatest weight, as in the configuration.
const WEIGHT_MAX: u16 = 1000;

/// What each of them says.
#[derive(Clone, Debug, Default)]
pub(super) struct WantedServers {
    configured: Vec<ServerSpec>,
    added: Vec<ServerSpec>,
    /// By place: a source may name a server otherwise tomorrow.
    changed: BTreeMap<HostPlace, ServerKeys>,
    /// Places of those that an operator has taken out. No added server is at one of them.
    removed: BTreeSet<HostPlace>,
    found: Arc<Found>,
}

impl WantedServers {
    pub(super) fn new(configured: Vec<ServerSpec>) -> Self {
        Self { configured, ..Self::default() }
    }

    /// The configuration was read again. Of what operators have set, it wins over what it says itself; servers that they
    /// have added or taken out stay so, unless it names them anew.
    pub(super) fn configure(&mut self, configured: Vec<ServerSpec>) {
        let places = |specs: &[ServerSpec]| specs.iter().map(place_of).collect::<BTreeSet<_>>();
        let (are_configured, were_configured) = (places(&configured), places(&self.configured));
        self.changed.retain(|place, _| !are_configured.contains(place));
        self.removed.retain(|place| !are_configured.contains(place) || were_configured.contains(place));
        // The name of one that is taken out is free.
        let removed = &self.removed;
        let in_force = || configured.iter().filter(|other| !removed.contains(&place_of(other)));
        self.added.retain(|spec| !in_force().any(|other| is_same(spec, other)));
        self.configured = configured;
    }

    /// Discovery has found something else.
    ///
    /// # Errors
    /// There would be too many servers; nothing has changed then.
    pub(super) fn find(&mut self, found: Arc<Found>) -> Result<(), MergeFault> {
        merge(&self.configured, &self.added, &found, &is_path)?;
        self.found = found;
        Ok(())
    }

    /// All of them, each once. Where there are too many, those found last are not among them: see
    /// [`Self::left_out`].
    pub(super) fn list(&self) -> Vec<ServerSpec> {
        let merged = merge(&self.configured, &self.added, &self.found, &is_path);
        let mut list = merged.unwrap_or_else(|_| self.as_far_as_there_is_room());
        list.retain(|spec| !self.is_removed(spec));
        for spec in &mut list {
            if let Some(keys) = self.changed.get(&place_of(spec)) {
                put(keys, spec);
            }
        }
        list
    }

    /// For how many servers there is no room: more are configured than when the others were found.
    pub(super) fn left_out(&self) -> usize {
        match merge(&self.configured, &self.added, &self.found, &is_path) {
            Ok(_) => 0,
            Err(MergeFault::TooMany { wanted }) => wanted.saturating_sub(SERVERS_MAX),
        }
    }

    /// What was found.
    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// Whether an operator has taken it out.
    pub(super) fn is_removed(&self, spec: &ServerSpec) -> bool {
        self.removed.contains(&place_of(spec))
    }

    /// Those that are configured and added, then those found, in their order.
    fn as_far_as_there_is_room(&self) -> Vec<ServerSpec> {
        let mut places = BTreeSet::new();
        let mut has_room = |place: HostPlace| {
            let is_in = places.len() < SERVERS_MAX || places.contains(&place);
            if is_in {
                places.insert(place);
            }
            is_in
        };
        let mut by_hand = |specs: &[ServerSpec]| -> Vec<ServerSpec> {
            specs.iter().filter(|spec| has_room(place_of(spec))).cloned().collect()
        };
        let (configured, added) = (by_hand(&self.configured), by_hand(&self.added));
        let mut found = Found::clone(&self.found);
        for answer in found.sources.iter_mut().filter_map(|source| source.answer.as_mut()) {
            let is_in = |member: &&Member| has_room(place(&member.host, member.port));
            answer.members = answer.members.iter().filter(is_in).cloned().collect();
        }
        // There cannot be too many of them now.
        merge(&configured, &added, &found, &is_path).unwrap_or(configured)
    }

    /// Does what an operator wants.
    ///
    /// # Errors
    /// Why it cannot be done; nothing has changed then.
    pub(super) fn edit(&mut self, edit: ServerEdit) -> Result<(), EditRefusal> {
        let ServerEdit { name, wanted } = edit;
        match wanted {
            WantedServer::Added(place, keys) => self.add(name, place, &keys),
            WantedServer::Changed(keys) => self.change(&name, keys),
            WantedServer::Removed => self.remove(&name),
        }
    }

    fn add(&mut self, name: String, place: NewPlace, keys: &ServerKeys) -> Result<(), EditRefusal> {
        check_name(&name)?;
        check_place(&place)?;
        check_keys(keys)?;
        let list = self.list();
        if list.iter().any(|spec| spec.name == name) {
            return Err(EditRefusal::NameTaken(name));
        }
        let at = (self::place(&place.host, place.port), place);
        if let Some(there) = list.iter().find(|spec| place_of(spec) == at.0) {
            return Err(EditRefusal::PlaceTaken { place: at.1, name: there.name.clone() });
        }
        if list.len() >= SERVERS_MAX {
            return Err(EditRefusal::TooMany(format!("there are {SERVERS_MAX} servers, and no more can be")));
        }
        let before = self.clone();
        self.put_in(&name, at.clone(), keys);
        let list = self.list();
        let there = list.iter().find(|spec| place_of(spec) == at.0);
        if there.is_some_and(|spec| spec.name == name) {
            return Ok(());
        }
        let there = there.map(|spec| spec.name.clone());
        *self = before;
        let NewPlace { host, port } = at.1;
        Err(match there {
            Some(there) => EditRefusal::Invalid(format!(
                "{host}:{port} is configured as server \"{there}\", which was taken out: add it under that name"
            )),
            None => EditRefusal::TooMany(format!("no room for \"{name}\": there are {SERVERS_MAX} servers")),
        })
    }

    fn put_in(&mut self, name: &str, (at, written): (HostPlace, NewPlace), keys: &ServerKeys) {
        self.removed.remove(&at);
        self.changed.remove(&at);
        if self.configured.iter().any(|other| other.name == name && place_of(other) == at) {
            // As it is configured, but for what is said now.
            self.changed.insert(at, keys.clone());
            return;
        }
        let NewPlace { host, port } = written;
        let (name, origin) = (name.to_owned(), Origin::Added);
        let mut spec = ServerSpec { name, host, port, weight: 100, origin, ..ServerSpec::default() };
        put(keys, &mut spec);
        self.added.retain(|other| !is_same(&spec, other));
        self.added.push(spec);
    }

    fn change(&mut self, name: &str, keys: ServerKeys) -> Result<(), EditRefusal> {
        check_keys(&keys)?;
        let at = self.place_named(name)?;
        let ServerKeys { role, weight, zone } = keys;
        let known = self.changed.entry(at).or_default();
        known.role = role.or(known.role);
        known.weight = weight.or(known.weight);
        known.zone = zone.or_else(|| known.zone.take());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), EditRefusal> {
        let list = self.list();
        match list.iter().find(|spec| spec.name == name) {
            Some(spec) => self.take_out(spec),
            None => return Err(no_such(name, list)),
        }
        Ok(())
    }

    /// An operator takes it out, wanted or not.
    pub(super) fn take_out(&mut self, spec: &ServerSpec) {
        let at = place_of(spec);
        self.changed.remove(&at);
        self.added.retain(|spec| place_of(spec) != at);
        // Also of one that was added: a source may name the same server.
        self.removed.insert(at);
    }

    fn place_named(&self, name: &str) -> Result<HostPlace, EditRefusal> {
        let list = self.list();
        let place = list.iter().find(|spec| spec.name == name).map(place_of);
        place.ok_or_else(|| no_such(name, list))
    }
}

fn no_such(name: &str, list: Vec<ServerSpec>) -> EditRefusal {
    let names = list.into_iter().map(|spec| spec.name).collect();
    EditRefusal::NoSuch { name: name.to_owned(), names }
}

/// By which a server is the same.
pub(super) fn place_of(spec: &ServerSpec) -> HostPlace {
    place(&spec.host, spec.port)
}

fn is_same(left: &ServerSpec, right: &ServerSpec) -> bool {
    left.name == right.name || place_of(left) == place_of(right)
}

fn put(keys: &ServerKeys, spec: &mut ServerSpec) {
    if let Some(role) = keys.role {
        spec.expected_role = role.into();
    }
    if let Some(weight) = keys.weight {
        spec.weight = weight;
    }
    if let Some(zone) = &keys.zone {
        spec.zone = (!zone.is_empty()).then(|| zone.as_str().into());
    }
}

fn check_name(name: &str) -> Result<(), EditRefusal> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_plain) {
        return Err(EditRefusal::Invalid(format!(
            "{name:?} is no valid name: at most {NAME_BYTES_MAX} letters, digits, \".\", \"-\", \"_\" or \":\""
        )));
    }
    if is_path(name) {
        return Err(EditRefusal::Invalid(format!(
            "{name:?} is a path of the HTTP checks: choose another name"
        )));
    }
    Ok(())
}

fn check_place(place: &NewPlace) -> Result<(), EditRefusal> {
    let NewPlace { host, port } = place;
    let is_plain = !host.is_empty() && host.len() <= 253 && host.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain || *port == 0 {
        return Err(EditRefusal::Invalid(format!("{host:?} and {port} are no host and port of a server")));
    }
    Ok(())
}

fn check_keys(keys: &ServerKeys) -> Result<(), EditRefusal> {
    if let Some(weight) = keys.weight.filter(|weight| *weight > WEIGHT_MAX) {
        return Err(EditRefusal::Invalid(format!("weight {weight} is not from 0 to {WEIGHT_MAX}")));
    }
    let is_plain =
        |zone: &String| zone.len() <= ZONE_BYTES_MAX && zone.bytes().all(|byte| byte.is_ascii_graphic());
    match keys.zone.as_ref().filter(|zone| !is_plain(zone)) {
        Some(zone) => Err(EditRefusal::Invalid(format!("{zone:?} is no valid zone"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, last: u8) -> ServerSpec {
        let host = format!("10.0.0.{last}");
        ServerSpec { name: name.to_owned(), host, port: 5432, weight: 100, ..ServerSpec::default() }
    }

    fn two() -> WantedServers {
        WantedServers::new(vec![spec("primary", 1), spec("replica1", 2)])
    }

    fn names(wanted: &WantedServers) -> Vec<String> {
        wanted.list().into_iter().map(|spec| spec.name).collect()
    }

    fn add(name: &str, last: u8) -> ServerEdit {
        let place = NewPlace { host: format!("10.0.0.{last}"), port: 5432 };
        ServerEdit { name: name.to_owned(), wanted: WantedServer::Added(place, ServerKeys::default()) }
    }

    fn remove(name: &str) -> ServerEdit {
        ServerEdit { name: name.to_owned(), wanted: WantedServer::Removed }
    }

    fn weigh(name: &str, weight: u16) -> ServerEdit {
        let keys = ServerKeys { weight: Some(weight), ..ServerKeys::default() };
        ServerEdit { name: name.to_owned(), wanted: WantedServer::Changed(keys) }
    }

    #[test]
    fn an_operator_adds_and_takes_out_servers() {
        let mut wanted = two();
        wanted.edit(add("replica2", 3)).expect("a new one");
        wanted.edit(remove("replica1")).expect("it is there");
        assert_eq!(names(&wanted), ["primary", "replica2"]);
        assert_eq!(wanted.list()[1].origin, Origin::Added);
        wanted.edit(add("replica1", 2)).expect("it comes back");
        assert_eq!(names(&wanted), ["primary", "replica1", "replica2"]);
        assert_eq!(wanted.list()[1].origin, Origin::Configured);
        wanted.edit(remove("replica2")).expect("it is there");
        assert_eq!(names(&wanted), ["primary", "replica1"]);
    }

    #[test]
    fn what_cannot_be_changes_nothing() {
        let mut wanted = two();
        let before = wanted.list();
        let refused = [
            add("replica1", 9),
            add("twin", 2),
            add("metrics", 9),
            add("no name", 9),
            add("", 9),
            remove("replica9"),
            weigh("replica9", 1),
            weigh("replica1", 1001),
        ];
        for edit in refused {
            assert!(wanted.edit(edit.clone()).is_err(), "{edit:?}");
        }
        assert_eq!(wanted.list(), before);
    }

    #[test]
    fn a_reload_wins_over_what_was_set_and_leaves_what_was_added() {
        let mut wanted = two();
        wanted.edit(weigh("replica1", 10)).expect("it is there");
        wanted.edit(add("replica2", 3)).expect("a new one");
        assert_eq!(wanted.list()[1].weight, 10);
        wanted.edit(remove("primary")).expect("it is there");
        wanted.configure(vec![spec("primary", 1), spec("replica1", 2)]);
        assert_eq!(wanted.list()[0].weight, 100);
        assert_eq!(names(&wanted), ["replica1", "replica2"], "the primary is still taken out");
        wanted.configure(vec![spec("replica2", 3)]);
        assert_eq!(names(&wanted), ["replica2"]);
        assert_eq!(wanted.list()[0].origin, Origin::Configured, "it is saved");
    }

    /// A source that names these: name and last number of the address.
    fn found(members: impl IntoIterator<Item = (String, u16)>) -> Arc<Found> {
        use trunkline_discovery::SourceStatus;
        use trunkline_discovery::found::{AnswerFrom, GoodAnswer};
        let member = |(name, last)| Member {
            name,
            host: format!("10.0.{}.{}", last / 256, last % 256),
            port: 5432,
            ..Member::default()
        };
        let members = members.into_iter().map(member).collect();
        let at = std::time::SystemTime::UNIX_EPOCH;
        let answer = Some(GoodAnswer { members, at, from: AnswerFrom::Source });
        let (name, last_error, keep_problem) = ("dns".into(), None, None);
        Arc::new(Found {
            sources: vec![SourceStatus {
                name,
                kind: "dns",
                weight: 100,
                answer,
                role_changes: 0,
                last_error,
                errors: 0,
                errors_since: 0,
                keep_problem,
            }],
        })
    }

    fn named(name: &str, last: u16) -> Arc<Found> {
        found([(name.to_owned(), last)])
    }

    #[test]
    fn what_an_operator_wants_holds_though_a_source_renames_the_server() {
        let mut wanted = two();
        wanted.find(named("pg3", 3)).expect("room");
        wanted.edit(weigh("pg3", 10)).expect("it is there");
        wanted.find(named("10.0.0.3:5432", 3)).expect("room");
        assert_eq!((wanted.list()[2].name.as_str(), wanted.list()[2].weight), ("10.0.0.3:5432", 10));
        wanted.edit(remove("10.0.0.3:5432")).expect("it is there");
        wanted.find(named("primary", 3)).expect("room");
        assert_eq!(names(&wanted), ["primary", "replica1"]);
    }

    #[test]
    fn an_added_server_that_is_taken_out_does_not_come_back_as_it_was_found() {
        let mut wanted = two();
        wanted.edit(add("hand", 3)).expect("a new one");
        wanted.find(named("pg3", 3)).expect("room");
        assert_eq!(names(&wanted), ["primary", "replica1", "hand"]);
        wanted.edit(remove("hand")).expect("it is there");
        assert_eq!(names(&wanted), ["primary", "replica1"]);
    }

    #[test]
    fn a_server_is_added_where_it_is_said_or_not_at_all() {
        let local = ServerSpec { host: "localhost".to_owned(), ..spec("primary", 1) };
        let mut wanted = WantedServers::new(vec![local, spec("replica1", 2)]);
        let place = NewPlace { host: "127.0.0.1".to_owned(), port: 5432 };
        let twin = WantedServer::Added(place, ServerKeys::default());
        let refused = wanted.edit(ServerEdit { name: "twin".to_owned(), wanted: twin });
        assert!(matches!(refused, Err(EditRefusal::PlaceTaken { .. })), "{refused:?}");
        wanted.edit(weigh("replica1", 10)).expect("it is there");
        wanted.edit(remove("replica1")).expect("it is there");
        let refused = wanted.edit(add("other", 2));
        assert!(matches!(refused, Err(EditRefusal::Invalid(_))), "{refused:?}");
        assert_eq!(names(&wanted), ["primary"]);
        wanted.edit(add("replica1", 9)).expect("its name is free");
        assert_eq!((names(&wanted).len(), wanted.list()[1].host.as_str()), (2, "10.0.0.9"));
        wanted.configure(wanted.configured.clone());
        assert_eq!(wanted.list()[1].host, "10.0.0.9", "no reload takes it out that says nothing new");
    }

    #[test]
    fn where_more_are_configured_found_servers_stay_as_far_as_there_is_room() {
        let mut wanted = WantedServers::default();
        wanted.edit(add("hand", 1)).expect("a new one");
        let many = (0..SERVERS_MAX - 1).filter_map(|n| u16::try_from(n + 256).ok());
        wanted.find(found(many.map(|n| (format!("pg{n:04}"), n)))).expect("room");
        wanted.configure(vec![spec("primary", 2)]);
        let names = names(&wanted);
        assert_eq!((names.len(), wanted.left_out()), (SERVERS_MAX, 1));
        assert_eq!(names[..3], ["primary", "hand", "pg0256"]);
    }
}
