//! The keys of discovery.

use trunkline_discovery::dns::DnsFamily;

use super::super::{Key, KeyKind, PutValue as _};
use super::{count, key, unset, word};
use crate::config::raw::{RawConfig, SourceEntry, SourceWord};
use crate::config::words::Word as _;

/// `[discovery]`.
pub(super) const DISCOVERY: &[Key<RawConfig>] = &[unset(
    "state_dir",
    "\"/var/lib/trunkline\"",
    KeyKind::Text(|t, v, s| t.discovery.state_dir.put(v, s)),
    "Directory in which the last good answer of each source is kept, so that a restart without the source has servers. Default: none is kept.",
)];

/// Keys of a `[[discovery.source]]`.
pub const SOURCE_KEYS: &[Key<SourceEntry>] = &[
    unset(
        "name",
        "\"pods\"",
        KeyKind::Text(|t, v, s| t.name.put(v, s)),
        "Name in logs, metrics and `trunkline status`. Default: the kind.",
    ),
    unset(
        "kind",
        "\"dns\"",
        word::<_, SourceWord>(|t, w| SourceWord::parse(w).map(|kind| t.kind = Some(kind)).is_some()),
        "Who is asked. Required.",
    ),
    unset(
        "interval",
        "\"5s\"",
        KeyKind::Duration(|t, v, s| t.interval.put(Some(v), s)),
        "Time between two questions. Not for `dns`, whose records say that. Default: 2s for `patroni`, 60s for `kubernetes`, which reports changes by itself, else 5s.",
    ),
    key(
        "weight",
        "100",
        count(0, 1000, |t, v, s| t.weight.put(v, s)),
        "Weight of its servers, where the source says none.",
    ),
    unset(
        "names",
        "[\"db.example.com:5432\", \"_postgresql._tcp.example.com\"]",
        KeyKind::List(|t, v, s| t.names.put(v, s)),
        "`dns`: names whose addresses are servers. One that begins with `_` is asked for SRV records, which say ports and weights. Required there.",
    ),
    unset(
        "resolver",
        "\"10.0.0.2:53\"",
        KeyKind::Text(|t, v, s| t.resolver.put(v, s)),
        "`dns`: the name server that is asked. Default: those of /etc/resolv.conf, after /etc/hosts.",
    ),
    unset(
        "family",
        "\"auto\"",
        word::<_, DnsFamily>(|t, w| DnsFamily::parse(w).map(|family| t.family = Some(family)).is_some()),
        "`dns`: which addresses are servers. Default: `auto`, the IPv4 addresses, or the IPv6 addresses of a name without others.",
    ),
    key(
        "ttl_min",
        "\"1s\"",
        KeyKind::Duration(|t, v, s| t.ttl_min.put(v, s)),
        "`dns`: shortest time between two questions, whatever the records say.",
    ),
    key(
        "ttl_max",
        "\"30s\"",
        KeyKind::Duration(|t, v, s| t.ttl_max.put(v, s)),
        "`dns`: longest time between two questions.",
    ),
    unset(
        "urls",
        "[\"https://10.0.0.11:8008\", \"https://10.0.0.12:8008\"]",
        KeyKind::List(|t, v, s| t.urls.put(v, s)),
        "`patroni`: REST APIs of several members, the next of which is asked when one does not answer. Required there.",
    ),
    unset(
        "api",
        "\"https://10.0.0.1:6443\"",
        KeyKind::Text(|t, v, s| t.api.put(v, s)),
        "`kubernetes`: the URL of the API. Default: what the pod's environment says.",
    ),
    unset(
        "username",
        "\"trunkline\"",
        KeyKind::Text(|t, v, s| t.username.put(v, s)),
        "`patroni`: user of basic authentication.",
    ),
    unset(
        "password",
        "\"secret\"",
        KeyKind::Secret(|t, v, s| t.password.put(v, s)),
        "`patroni`: password of that user.",
    ),
    unset(
        "password_file",
        "\"/run/secrets/patroni\"",
        KeyKind::Text(|t, v, s| t.password_file.put(v, s)),
        "`patroni`: file that has the password, in place of `password`.",
    ),
    unset(
        "ca_file",
        "\"/etc/trunkline/patroni-ca.crt\"",
        KeyKind::Text(|t, v, s| t.ca_file.put(v, s)),
        "`patroni`: PEM, roots of the certificates of its APIs; default: those that this machine trusts. `kubernetes`: the same; default: the pod's.",
    ),
    unset(
        "cert_file",
        "\"/etc/trunkline/patroni-client.crt\"",
        KeyKind::Text(|t, v, s| t.cert_file.put(v, s)),
        "`patroni`: PEM, the proxy's own certificate.",
    ),
    unset(
        "key_file",
        "\"/etc/trunkline/patroni-client.key\"",
        KeyKind::Text(|t, v, s| t.key_file.put(v, s)),
        "`patroni`: PEM, its private key.",
    ),
    key(
        "verify",
        "\"on\"",
        KeyKind::Switch(|t, v, s| t.verify.put(v, s)),
        "`patroni`: whether certificates are checked. `off` believes whoever answers.",
    ),
    key(
        "timeout",
        "\"2s\"",
        KeyKind::Duration(|t, v, s| t.timeout.put(v, s)),
        "`patroni`: how long one URL has for an answer.",
    ),
    unset(
        "services",
        "[\"cluster-r\"]",
        KeyKind::List(|t, v, s| t.services.put(v, s)),
        "`kubernetes`: the Services whose EndpointSlices are servers. Required there.",
    ),
    unset(
        "namespace",
        "\"databases\"",
        KeyKind::Text(|t, v, s| t.namespace.put(v, s)),
        "`kubernetes`: their namespace. Default: the pod's.",
    ),
    unset(
        "token_file",
        "\"/var/run/secrets/kubernetes.io/serviceaccount/token\"",
        KeyKind::Text(|t, v, s| t.token_file.put(v, s)),
        "`kubernetes`: the token of the service account, read again as it is renewed. Default: the pod's.",
    ),
    unset(
        "port_name",
        "\"postgres\"",
        KeyKind::Text(|t, v, s| t.port_name.put(v, s)),
        "`kubernetes`: which of several ports. Default: the only one.",
    ),
    unset(
        "endpoint",
        "\"{id}.abc123.eu-west-1.rds.amazonaws.com:5432\"",
        KeyKind::Text(|t, v, s| t.endpoint.put(v, s)),
        "`aurora` and `rds`: where an instance is, by its name `{id}`. Required for `aurora`; default for `rds`: what the cluster says.",
    ),
    unset(
        "networks",
        "\"10.0.0.0/8\"",
        KeyKind::Networks(|t, v, s| t.networks.put(v, s)),
        "`standbys`: networks that standbys are in. One that replicates from elsewhere is not used. Required there.",
    ),
    unset(
        "port",
        "5432",
        count(1, 65535, |t, v, s| t.port.put(u16::try_from(v).ok(), s)),
        "`standbys`: the port of the standbys. Default: the primary's.",
    ),
    key(
        "forget_after",
        "\"10m\"",
        KeyKind::Duration(|t, v, s| t.forget_after.put(v, s)),
        "`standbys`: how long a standby that does not replicate any more stays a server, which health alone judges so long.",
    ),
];
