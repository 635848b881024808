//! Versions of TLS.

use rustls::{SupportedProtocolVersion, version};

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// Those from `oldest` to `newest`.
pub(crate) fn versions(oldest: TlsVersion, newest: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::V12, &version::TLS12), (TlsVersion::V13, &version::TLS13)];
    let wanted = all.into_iter().filter(|(version, _)| (oldest..=newest).contains(version));
    wanted.map(|(_, version)| version).collect()
}
