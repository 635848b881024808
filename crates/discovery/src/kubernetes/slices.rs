//! EndpointSlices as the API writes them, and as they change.
//!
//! Source: Kubernetes' API reference, discovery.k8s.io/v1, EndpointSlice; "Kubernetes API Concepts", "Efficient detection of
//! changes".

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use super::SERVICES_MAX;
use crate::limits::MEMBERS_MAX;
use crate::member::{Member, RoleHint};

/// Most slices. One has room for 100 endpoints, unless the cluster is configured otherwise.
const SLICES_MAX: usize = 1000;

/// Most endpoints in all slices: each member once in each Service, for both families of addresses.
const ENDPOINTS_MAX: usize = MEMBERS_MAX * SERVICES_MAX * 2;

/// The status of an API that has forgotten the version that a watch begins at.
const GONE: u16 = 410;

/// The answer to a list.
#[derive(Deserialize)]
pub(super) struct SliceList {
    metadata: ListMeta,
    /// `null` of none.
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
    endpoints: Option<Vec<SliceEndpoint>>,
    ports: Option<Vec<SlicePort>>,
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
    #[serde(default)]
    addresses: Vec<String>,
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
        match endpoints > ENDPOINTS_MAX {
            true => Err(format!("there are more than {ENDPOINTS_MAX} endpoints")),
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
                let (Some(name), Some(host)) = (endpoint.name(), endpoint.addresses.first()) else {
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

    fn port(&self, port_name: Option<&str>) -> Result<u16, String> {
        let ports = self.ports.as_deref().unwrap_or_default();
        let names = || {
            let names: Vec<_> = ports.iter().take(10).map(|port| format!("{:?}", port.name())).collect();
            names.join(", ")
        };
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
        target.filter(|name| !name.is_empty()).or_else(|| self.addresses.first().map(String::as_str))
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
