//! TLS of both legs.

use super::text::{Exposition, Type};
use crate::metrics::{HandshakeResult, Label as _, Metrics, TlsLeg};

pub(super) fn write(out: &mut Exposition, metrics: &Metrics) {
    out.family(
        "trunkline_tls_handshakes_total",
        Type::Counter,
        "TLS handshakes ended, by leg and result; plaintext: it failed, and the connection to the server went on without, by sslmode = prefer.",
    );
    for leg in TlsLeg::ALL {
        for result in HandshakeResult::ALL {
            let ended = metrics.sum(|thread| thread.tls_handshakes[leg.index()].of(*result).value());
            out.sample(&[("leg", leg.word()), ("result", result.word())], ended);
        }
    }
    out.family(
        "trunkline_tls_certificate_expiry_timestamp_seconds",
        Type::Gauge,
        "When the certificate in force expires, in seconds since 1970, by the leg that it is presented on and its file.",
    );
    let rows = metrics.certificates().rows();
    for row in &rows {
        if let Some(expires_at) = row.expires_at {
            out.sample(&[("leg", row.leg.word()), ("file", &row.file)], expires_at);
        }
    }
    out.family(
        "trunkline_tls_certificate_reload_successful",
        Type::Gauge,
        "1 if what is in the files of TLS is in force, 0 if they were replaced by what cannot be used.",
    );
    for row in &rows {
        out.sample(&[("leg", row.leg.word()), ("file", &row.file)], u8::from(row.problem.is_none()));
    }
}
