//! EndpointSlices as the API writes them, and as they change.
//!
//! Source: Kubernetes' API reference, discovery.k8s.io/v1, EndpointSlice; "Kubernetes API Concepts", "Efficient detection of
//! changes".

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use super::SERVICES_MAX;
use super::bounded::{at_most, first_of};
use crate::limits::MEMBERS_MAX;
use crate::member::{Member, RoleHint};

/// Most slices. One has room for 100 endpoints, unless the cluster is configured otherwise.
const SLICES_MAX: usize = 1000;

/// Most endpoints in all slices: each member once in each Service, for both families of addresses.
const ENDPOINTS_MAX: usize = MEMBERS_MAX * SERVICES_MAX * 2;

/// Most ports of a slice. Source: the API reference, EndpointSlice, `ports`.
const PORTS_MAX: usize = 100;

/// Most bytes of all slices: far more than that many endpoints of a cluster in order have.
const SLICES_BYTES_MAX: usize = 32 << 20;

/// The status of an API that has forgotten the version that a watch begins at.
const GONE: u16 = 410;

/// The answer to a list.
#[derive(Deserialize)]
pub(super) struct SliceList {
    metadata: ListMeta,
    /// `null` of none.
    #[serde(default, deserialize_with = "slices_of")]
    items: Option<Vec<EndpointSlice>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    /// Where the rest begins, if this is not all.
    #[serde(rename = "continue")]
    rest: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    metadata: SliceMeta,
    address_type: Option<AddressFamily>,
    #[serde(default, deserialize_with = "endpoints_of")]
    endpoints: Option<Vec<SliceEndpoint>>,
    #[serde(default, deserialize_with = "ports_of")]
    ports: Option<Vec<SlicePort>>,
}

/// As many slices as have [`ENDPOINTS_MAX`] endpoints together; one without any counts, too.
fn slices_of<'de, D: Deserializer<'de>>(list: D) -> Result<Option<Vec<EndpointSlice>>, D::Error> {
    at_most(list, ENDPOINTS_MAX, "endpoints", |slice: &EndpointSlice| slice.endpoints().len().max(1))
}

fn endpoints_of<'de, D: Deserializer<'de>>(list: D) -> Result<Option<Vec<SliceEndpoint>>, D::Error> {
    at_most(list, ENDPOINTS_MAX, "endpoints", |_| 1)
}

fn ports_of<'de, D: Deserializer<'de>>(list: D) -> Result<Option<Vec<SlicePort>>, D::Error> {
    at_most(list, PORTS_MAX, "ports of a slice", |_| 1)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceMeta {
    /// Unique in its namespace; a bookmark has none.
    #[serde(default)]
    name: String,
    resource_version: String,
}

/// Those that are preferred where a pod has several first.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum AddressFamily {
    #[default]
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
    #[serde(rename = "FQDN")]
    Name,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceEndpoint {
    /// The first counts: the others mean the same endpoint.
    #[serde(default, rename = "addresses", deserialize_with = "first_of")]
    address: Option<String>,
    conditions: Option<SliceConditions>,
    target_ref: Option<TargetRef>,
    zone: Option<String>,
}

/// What is not there is unknown. `ready` does not count here: health alone judges.
#[derive(Deserialize)]
struct SliceConditions {
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct TargetRef {
    name: Option<String>,
}

#[derive(Deserialize)]
struct SlicePort {
    /// `""` of one without a name.
    name: Option<String>,
    port: Option<u16>,
}

/// One line of a watch.
#[derive(Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
enum SliceEvent {
    Added(EndpointSlice),
    Modified(EndpointSlice),
    Deleted(EndpointSlice),
    Bookmark(BookmarkObject),
    Error(ApiStatus),
}

#[derive(Deserialize)]
struct BookmarkObject {
    metadata: SliceMeta,
}

#[derive(Deserialize)]
struct ApiStatus {
    code: Option<u16>,
    message: Option<String>,
}

/// Why a watch cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WatchFault {
    /// It began too long ago: a list is due.
    Gone,
    /// The API says so.
    Refused(String),
    /// It cannot be read.
    Garbled(String),
}

/// All slices of the Services at one version.
pub(super) struct Slices {
    by_name: BTreeMap<String, EndpointSlice>,
    version: String,
}

impl Slices {
    /// From the answer to a list.
    ///
    /// # Errors
    /// When it cannot be read, or is too long; why, in words.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let list: SliceList = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if list.metadata.rest.is_some_and(|rest| !rest.is_empty()) {
            return Err("the list is not whole".to_owned());
        }
        let items = list.items.unwrap_or_default();
        let by_name = items.into_iter().map(|slice| (slice.metadata.name.clone(), slice)).collect();
        Self { by_name, version: list.metadata.resource_version }.within_bounds()
    }

    /// Where a watch goes on.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Follows one line of a watch.
    ///
    /// # Errors
    /// When the watch is over.
    pub(super) fn follow(&mut self, line: &[u8]) -> Result<(), WatchFault> {
        let event = serde_json::from_slice(line).map_err(|error| WatchFault::Garbled(error.to_string()))?;
        match event {
            SliceEvent::Added(slice) | SliceEvent::Modified(slice) => {
                self.version.clone_from(&slice.metadata.resource_version);
                self.by_name.insert(slice.metadata.name.clone(), slice);
                self.check_bounds().map_err(WatchFault::Garbled)
            }
            SliceEvent::Deleted(slice) => {
                self.version = slice.metadata.resource_version;
                self.by_name.remove(&slice.metadata.name);
                Ok(())
            }
            SliceEvent::Bookmark(object) => {
                self.version = object.metadata.resource_version;
                Ok(())
            }
            SliceEvent::Error(ApiStatus { code: Some(GONE), .. }) => Err(WatchFault::Gone),
            SliceEvent::Error(ApiStatus { code, message }) => {
                let message = message.unwrap_or_else(|| "it does not say why".to_owned());
                Err(WatchFault::Refused(code.map_or(message.clone(), |code| format!("{code} {message}"))))
            }
        }
    }

    fn within_bounds(self) -> Result<Self, String> {
        self.check_bounds()?;
        Ok(self)
    }

    fn check_bounds(&self) -> Result<(), String> {
        if self.by_name.len() > SLICES_MAX {
            return Err(format!("there are more than {SLICES_MAX} slices"));
        }
        let endpoints: usize = self.by_name.values().map(|slice| slice.endpoints().len()).sum();
        if endpoints > ENDPOINTS_MAX {
            return Err(format!("there are more than {ENDPOINTS_MAX} endpoints"));
        }
        match self.by_name.values().map(EndpointSlice::bytes).sum::<usize>() > SLICES_BYTES_MAX {
            true => Err(format!("the slices have more than {SLICES_BYTES_MAX} bytes")),
            false => Ok(()),
        }
    }

    /// The endpoints that do not terminate, each once, whatever Services it is in.
    ///
    /// # Errors
    /// When it is not clear which port is meant; what to do, in words.
    pub(super) fn members(&self, port_name: Option<&str>) -> Result<Vec<Member>, String> {
        let mut slices: Vec<&EndpointSlice> = self.by_name.values().collect();
        // Stable: within a family by name.
        slices.sort_by_key(|slice| slice.address_type.unwrap_or_default());
        let is_terminating = |endpoint: &&SliceEndpoint| endpoint.is_terminating();
        let all = slices.iter().flat_map(|slice| slice.endpoints());
        let leaving: HashSet<&str> = all.filter(is_terminating).filter_map(SliceEndpoint::name).collect();
        let mut names = HashSet::new();
        let mut places = HashSet::new();
        let mut members = Vec::new();
        for slice in slices.iter().filter(|slice| !slice.endpoints().is_empty()) {
            let port = slice.port(port_name)?;
            for endpoint in slice.endpoints() {
                let (Some(name), Some(host)) = (endpoint.name(), endpoint.address.as_ref()) else {
                    continue;
                };
                if leaving.contains(name) || names.contains(name) || places.contains(&(host, port)) {
                    continue;
                }
                names.insert(name);
                places.insert((host, port));
                members.push(Member {
                    name: name.to_owned(),
                    host: host.clone(),
                    port,
                    role: RoleHint::Unknown,
                    weight: None,
                    zone: endpoint.zone.as_deref().map(Arc::from),
                    tags: Vec::new(),
                });
            }
        }
        Ok(members)
    }
}

impl EndpointSlice {
    fn endpoints(&self) -> &[SliceEndpoint] {
        self.endpoints.as_deref().unwrap_or_default()
    }

    /// What it takes of memory.
    fn bytes(&self) -> usize {
        let ports = self.ports.as_deref().unwrap_or_default();
        let ports: usize = ports.iter().map(|port| size_of::<SlicePort>() + port.name().len()).sum();
        let endpoints: usize = self.endpoints().iter().map(SliceEndpoint::bytes).sum();
        let SliceMeta { name, resource_version } = &self.metadata;
        size_of::<Self>() + name.len() + resource_version.len() + ports + endpoints
    }

    fn port(&self, port_name: Option<&str>) -> Result<u16, String> {
        let ports = self.ports.as_deref().unwrap_or_default();
        let names =
            || ports.iter().take(10).map(|port| format!("{:?}", port.name())).collect::<Vec<_>>().join(", ");
        let slice = &self.metadata.name;
        let port = match (port_name, ports) {
            (Some(wanted), _) => ports.iter().find(|port| port.name() == wanted).ok_or_else(|| {
                format!("slice {slice:?} has no port {wanted:?}; its ports are {}", names())
            })?,
            (None, [only]) => only,
            (None, []) => return Err(format!("slice {slice:?} has no port")),
            (None, _) => {
                return Err(format!(
                    "slice {slice:?} has several ports, {}: set port_name to one of them",
                    names()
                ));
            }
        };
        port.port.ok_or_else(|| format!("slice {slice:?} has a port without a number"))
    }
}

impl SliceEndpoint {
    /// The pod's; of an endpoint that is none its address.
    fn name(&self) -> Option<&str> {
        let target = self.target_ref.as_ref().and_then(|target| target.name.as_deref());
        target.filter(|name| !name.is_empty()).or(self.address.as_deref())
    }

    fn bytes(&self) -> usize {
        let target = self.target_ref.as_ref().and_then(|target| target.name.as_ref());
        let texts = [self.address.as_ref(), target, self.zone.as_ref()];
        size_of::<Self>() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }

    fn is_terminating(&self) -> bool {
        self.conditions.as_ref().and_then(|conditions| conditions.terminating).unwrap_or(false)
    }
}

impl SlicePort {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A slice with these pods, of which `true` terminate.
    fn slice(name: usize, pods: &[(u8, bool)]) -> String {
        let endpoints: Vec<String> = pods
            .iter()
            .map(|(pod, leaves)| {
                format!(
                    r#"{{"addresses":["10.0.0.{pod}"],"conditions":{{"terminating":{leaves}}},"targetRef":{{"name":"pod-{pod}"}}}}"#
                )
            })
            .collect();
        let endpoints = endpoints.join(",");
        format!(
            r#"{{"metadata":{{"name":"s{name}","resourceVersion":"7"}},"addressType":"IPv4","ports":[{{"name":"","port":5432}}],"endpoints":[{endpoints}]}}"#
        )
    }

    fn list(slices: &BTreeMap<usize, Vec<(u8, bool)>>) -> Slices {
        let items: Vec<_> = slices.iter().map(|(name, pods)| slice(*name, pods)).collect();
        let text = format!(r#"{{"metadata":{{"resourceVersion":"7"}},"items":[{}]}}"#, items.join(","));
        Slices::read(text.as_bytes()).unwrap()
    }

    fn pods() -> impl Strategy<Value = Vec<(u8, bool)>> {
        prop::collection::vec((1_u8..6, prop::bool::weighted(0.2)), 0..5)
    }

    proptest! {
        #[test]
        fn a_watch_leads_to_what_a_list_would_say(
            first in prop::collection::btree_map(0_usize..4, pods(), 0..4),
            events in prop::collection::vec((0_usize..4, prop::option::of(pods())), 0..12),
        ) {
            let mut slices = list(&first);
            let mut model = first;
            for (name, event) in events {
                let (kind, text) = match &event {
                    Some(pods) => ("MODIFIED", slice(name, pods)),
                    None => ("DELETED", slice(name, &[])),
                };
                slices.follow(format!(r#"{{"type":"{kind}","object":{text}}}"#).as_bytes()).unwrap();
                match event {
                    Some(pods) => model.insert(name, pods),
                    None => model.remove(&name),
                };
            }
            let members = slices.members(None).unwrap();
            prop_assert_eq!(&members, &list(&model).members(None).unwrap());
            let names: HashSet<_> = members.iter().map(|member| member.name.clone()).collect();
            prop_assert_eq!(names.len(), members.len());
            let all = model.values().flatten();
            let leaving: HashSet<u8> = all.clone().filter(|(_, leaves)| *leaves).map(|(pod, _)| *pod).collect();
            let staying: HashSet<_> =
                all.filter(|(pod, _)| !leaving.contains(pod)).map(|(pod, _)| format!("pod-{pod}")).collect();
            prop_assert_eq!(names, staying);
        }

        #[test]
        fn whatever_bytes_come_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}:,\"a-z0-9]{0,80}") {
            let mut slices = list(&BTreeMap::new());
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                if let Err(fault) = slices.follow(bytes) {
                    prop_assert!(matches!(fault, WatchFault::Garbled(_)));
                }
                prop_assert!(Slices::read(bytes).is_err());
            }
        }
    }

    #[test]
    fn slices_and_endpoints_have_a_greatest_number() {
        let empty: BTreeMap<_, _> = (0..SLICES_MAX).map(|name| (name, Vec::new())).collect();
        let mut slices = list(&empty);
        let more = |text: &str| format!(r#"{{"type":"ADDED","object":{text}}}"#);
        let fault = slices.follow(more(&slice(SLICES_MAX, &[])).as_bytes()).unwrap_err();
        assert_eq!(fault, WatchFault::Garbled(format!("there are more than {SLICES_MAX} slices")));
        let mut slices = list(&BTreeMap::new());
        let most = slice(0, &vec![(1, false); ENDPOINTS_MAX]);
        assert_eq!(slices.follow(more(&most).as_bytes()), Ok(()));
        let fault = slices.follow(more(&slice(1, &[(1, false)])).as_bytes()).unwrap_err();
        assert_eq!(fault, WatchFault::Garbled(format!("there are more than {ENDPOINTS_MAX} endpoints")));
    }

    #[test]
    fn slices_have_a_greatest_number_of_bytes_and_only_first_addresses_count_there() {
        let slice = |name: usize, endpoint: &str| {
            format!(
                r#"{{"type":"ADDED","object":{{"metadata":{{"name":"s{name}","resourceVersion":"7"}},"endpoints":[{endpoint}]}}}}"#
            )
        };
        let mut slices = list(&BTreeMap::new());
        let word = "a".repeat(1 << 20);
        let addresses = format!(r#"{{"addresses":["10.0.0.1","{word}"]}}"#);
        let zone = format!(r#"{{"addresses":[],"zone":"{word}"}}"#);
        for name in 0..64 {
            assert_eq!(slices.follow(slice(name, &addresses).as_bytes()), Ok(()));
        }
        let faults: Vec<_> =
            (0..32).filter_map(|name| slices.follow(slice(name, &zone).as_bytes()).err()).collect();
        let reason = format!("the slices have more than {SLICES_BYTES_MAX} bytes");
        assert_eq!(faults, [WatchFault::Garbled(reason)]);
    }

    #[test]
    fn a_list_that_is_not_whole_is_refused() {
        let text = r#"{"metadata":{"resourceVersion":"7","continue":"abc"},"items":[]}"#;
        assert_eq!(Slices::read(text.as_bytes()).err().as_deref(), Some("the list is not whole"));
        let text = r#"{"metadata":{"resourceVersion":"7","continue":""},"items":null}"#;
        assert!(Slices::read(text.as_bytes()).is_ok());
    }
}
