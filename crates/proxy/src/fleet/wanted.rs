//! The servers that are wanted, of all who may say so: the configuration, operators, and discovery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trunkline_control::contract::is_path;
use trunkline_control::fleet::{EditRefusal, NewPlace, ServerEdit, ServerKeys, WantedServer};
use trunkline_discovery::merge::MergeFault;
use trunkline_discovery::{Found, merge};
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
    /// By name.
    changed: BTreeMap<String, ServerKeys>,
    /// Names of those that an operator has taken out.
    removed: BTreeSet<String>,
    found: Arc<Found>,
}

impl WantedServers {
    pub(super) fn new(configured: Vec<ServerSpec>) -> Self {
        Self { configured, ..Self::default() }
    }

    /// The configuration was read again. Of what operators have set, it wins over what it says itself; servers that they
    /// have added or taken out stay so, unless it names them anew.
    pub(super) fn configure(&mut self, configured: Vec<ServerSpec>) {
        let is_configured = |name: &str| configured.iter().any(|spec| spec.name == name);
        let was_configured = |name: &str| self.configured.iter().any(|spec| spec.name == name);
        self.changed.retain(|name, _| !is_configured(name));
        self.removed.retain(|name| !is_configured(name) || was_configured(name));
        self.added.retain(|spec| !configured.iter().any(|other| is_same(spec, other)));
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

    /// All of them, each once.
    pub(super) fn list(&self) -> Vec<ServerSpec> {
        let merged = merge(&self.configured, &self.added, &self.found, &is_path);
        // More are configured than before: what was found has no room.
        let mut list = merged.unwrap_or_else(|_| self.configured.clone());
        list.retain(|spec| !self.removed.contains(&spec.name));
        for spec in &mut list {
            if let Some(keys) = self.changed.get(&spec.name) {
                put(keys, spec);
            }
        }
        list
    }

    /// Does what an operator wants.
    ///
    /// # Errors
    /// Why it cannot be done; nothing has changed then.
    pub(super) fn edit(&mut self, edit: ServerEdit) -> Result<(), EditRefusal> {
        let ServerEdit { name, wanted } = edit;
        match wanted {
            WantedServer::Added(place, keys) => self.add(name, place, &keys),
            WantedServer::Changed(keys) => self.change(name, keys),
            WantedServer::Removed => self.remove(name),
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
        if let Some(there) = list.iter().find(|spec| spec.host == place.host && spec.port == place.port) {
            return Err(EditRefusal::PlaceTaken { place, name: there.name.clone() });
        }
        if list.len() >= SERVERS_MAX {
            return Err(EditRefusal::TooMany(format!("there are {SERVERS_MAX} servers, and no more can be")));
        }
        let NewPlace { host, port } = place;
        let mut spec =
            ServerSpec { name, host, port, weight: 100, origin: Origin::Added, ..ServerSpec::default() };
        put(keys, &mut spec);
        let back = self.configured.iter().find(|other| is_same(&spec, other) && other.name == spec.name);
        self.removed.remove(&spec.name);
        match back {
            // As it is configured, but for what is said now.
            Some(_) => _ = self.changed.insert(spec.name, keys.clone()),
            None => {
                self.added.retain(|other| other.name != spec.name);
                self.added.push(spec);
            }
        }
        Ok(())
    }

    fn change(&mut self, name: String, keys: ServerKeys) -> Result<(), EditRefusal> {
        check_keys(&keys)?;
        self.must_be(&name)?;
        let ServerKeys { role, weight, zone } = keys;
        let known = self.changed.entry(name).or_default();
        known.role = role.or(known.role);
        known.weight = weight.or(known.weight);
        known.zone = zone.or_else(|| known.zone.take());
        Ok(())
    }

    fn remove(&mut self, name: String) -> Result<(), EditRefusal> {
        self.must_be(&name)?;
        self.changed.remove(&name);
        let before = self.added.len();
        self.added.retain(|spec| spec.name != name);
        let is_elsewhere = self.configured.iter().any(|spec| spec.name == name);
        if is_elsewhere || self.added.len() == before {
            self.removed.insert(name);
        }
        Ok(())
    }

    fn must_be(&self, name: &str) -> Result<(), EditRefusal> {
        let list = self.list();
        if list.iter().any(|spec| spec.name == name) {
            return Ok(());
        }
        let names = list.into_iter().map(|spec| spec.name).collect();
        Err(EditRefusal::NoSuch { name: name.to_owned(), names })
    }
}

fn is_same(left: &ServerSpec, right: &ServerSpec) -> bool {
    left.name == right.name || (left.host == right.host && left.port == right.port)
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
}
