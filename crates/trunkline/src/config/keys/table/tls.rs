//! The keys of TLS.

use trunkline_tls::TlsVersion;
use trunkline_tls::accept::ClientSslMode;
use trunkline_tls::connect::{Negotiation, ServerSslMode};

use super::super::{Key, KeyKind, PutValue as _, put_word};
use super::{key, unset, word};
use crate::config::raw::RawConfig;
use crate::config::words::Word as _;

/// `[client_tls]`.
pub(super) const CLIENT_TLS: &[Key<RawConfig>] = &[
    unset(
        "sslmode",
        "\"require\"",
        word::<_, ClientSslMode>(|t, w| {
            ClientSslMode::parse(w).map(|mode| t.client_tls.sslmode = Some(mode)).is_some()
        }),
        "Whether clients may use TLS, in PgBouncer's words. `allow` and `prefer`: the client decides; `require`: no other client is let in; `verify-ca` and `verify-full`: nor one without a certificate that `ca_file` vouches for. Default: `prefer` if there is a certificate, else `disable`.",
    ),
    unset(
        "cert_file",
        "\"/etc/trunkline/server.crt\"",
        KeyKind::Text(|t, v, s| t.client_tls.cert_file.put(v, s)),
        "PEM: the certificate, followed by those between it and its root. `self-signed`: one is made at start, for trying out.",
    ),
    unset(
        "key_file",
        "\"/etc/trunkline/server.key\"",
        KeyKind::Text(|t, v, s| t.client_tls.key_file.put(v, s)),
        "PEM: its private key.",
    ),
    unset(
        "ca_file",
        "\"/etc/trunkline/clients.crt\"",
        KeyKind::Text(|t, v, s| t.client_tls.ca_file.put(v, s)),
        "PEM: the roots of clients' certificates.",
    ),
    unset(
        "crl_file",
        "\"/etc/trunkline/clients.crl\"",
        KeyKind::Text(|t, v, s| t.client_tls.crl_file.put(v, s)),
        "PEM: revocation lists of those roots.",
    ),
    key(
        "min_protocol_version",
        "\"TLSv1.2\"",
        word::<_, TlsVersion>(|t, w| put_word(&mut t.client_tls.min_protocol_version, w)),
        "The oldest version of TLS that is spoken.",
    ),
    key(
        "max_protocol_version",
        "\"TLSv1.3\"",
        word::<_, TlsVersion>(|t, w| put_word(&mut t.client_tls.max_protocol_version, w)),
        "The newest.",
    ),
    unset(
        "ciphers",
        "\"TLS_AES_256_GCM_SHA384:ECDHE-ECDSA-AES256-GCM-SHA384\"",
        KeyKind::Text(|t, v, s| t.client_tls.ciphers.put(v, s)),
        "Ciphers that are used, in this order, by their names in RFCs or in OpenSSL. Default: all that the proxy knows.",
    ),
];

/// `[server_tls]`.
pub(super) const SERVER_TLS: &[Key<RawConfig>] = &[
    key(
        "sslmode",
        "\"prefer\"",
        word::<_, ServerSslMode>(|t, w| put_word(&mut t.server_tls.sslmode, w)),
        "Whether servers are spoken to by TLS, and what is checked. `prefer` protects from nobody who can change what is sent; `verify-full` does.",
    ),
    unset(
        "sslrootcert",
        "\"/etc/trunkline/root.crt\"",
        KeyKind::Text(|t, v, s| t.server_tls.sslrootcert.put(v, s)),
        "PEM: the roots of servers' certificates, or a server's own; `system`: those that this machine trusts, for `verify-full` alone.",
    ),
    unset(
        "sslcrl",
        "\"/etc/trunkline/root.crl\"",
        KeyKind::Text(|t, v, s| t.server_tls.sslcrl.put(v, s)),
        "PEM: revocation lists of those roots.",
    ),
    unset(
        "sslcert",
        "\"/etc/trunkline/client.crt\"",
        KeyKind::Text(|t, v, s| t.server_tls.sslcert.put(v, s)),
        "PEM: the proxy's own certificate, for servers that ask for one.",
    ),
    unset(
        "sslkey",
        "\"/etc/trunkline/client.key\"",
        KeyKind::Text(|t, v, s| t.server_tls.sslkey.put(v, s)),
        "PEM: its private key.",
    ),
    key(
        "sslnegotiation",
        "\"postgres\"",
        word::<_, Negotiation>(|t, w| put_word(&mut t.server_tls.sslnegotiation, w)),
        "`direct` begins TLS without asking first, which saves a round trip: for servers from PostgreSQL 17 on, and `sslmode` from `require` on.",
    ),
    key(
        "sslsni",
        "\"on\"",
        KeyKind::Switch(|t, v, s| t.server_tls.sslsni.put(v, s)),
        "Whether a server is told by which name it is connected to.",
    ),
    key(
        "ssl_min_protocol_version",
        "\"TLSv1.2\"",
        word::<_, TlsVersion>(|t, w| put_word(&mut t.server_tls.min_protocol_version, w)),
        "The oldest version of TLS that is spoken.",
    ),
    key(
        "ssl_max_protocol_version",
        "\"TLSv1.3\"",
        word::<_, TlsVersion>(|t, w| put_word(&mut t.server_tls.max_protocol_version, w)),
        "The newest.",
    ),
];
