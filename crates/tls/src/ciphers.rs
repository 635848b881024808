//! Ciphers by their names, and what a connection uses of them.

use std::fmt;

use rustls::ProtocolVersion;

/// A cipher. Source: `openssl ciphers -stdname`; IANA, TLS Cipher Suites.
pub(crate) struct Cipher {
    /// Its number in the protocol.
    code: u16,
    /// Its name in RFCs.
    pub(crate) rfc: &'static str,
    /// Its name in OpenSSL.
    pub(crate) openssl: &'static str,
}

const fn cipher(code: u16, rfc: &'static str, openssl: &'static str) -> Cipher {
    Cipher { code, rfc, openssl }
}

/// All that are spoken.
pub(crate) const CIPHERS: [Cipher; 9] = [
    cipher(0x1302, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    cipher(0x1301, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    cipher(0x1303, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    cipher(0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    cipher(0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    cipher(0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    cipher(0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    cipher(0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    cipher(0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
];

/// Version and cipher of a connection. Written as pg_stat_ssl has them, `TLSv1.3 TLS_AES_256_GCM_SHA384`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    version: u16,
    cipher: u16,
}

impl Negotiated {
    /// `None` before the handshake has agreed on both.
    pub(crate) fn of(connection: &rustls::CommonState) -> Option<Self> {
        let version = u16::from(connection.protocol_version()?);
        let cipher = u16::from(connection.negotiated_cipher_suite()?.suite());
        Some(Self { version, cipher })
    }
}

impl fmt::Display for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ProtocolVersion::from(self.version) {
            ProtocolVersion::TLSv1_3 => f.write_str("TLSv1.3")?,
            ProtocolVersion::TLSv1_2 => f.write_str("TLSv1.2")?,
            _other => write!(f, "{:#06x}", self.version)?,
        }
        match CIPHERS.iter().find(|cipher| cipher.code == self.cipher) {
            Some(cipher) => write!(f, " {}", cipher.openssl),
            None => write!(f, " {:#06x}", self.cipher),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cipher_has_the_number_that_rustls_gives_it() {
        let suites = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
        for suite in &suites {
            let name = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
            let known = CIPHERS.iter().find(|cipher| cipher.code == u16::from(suite.suite()));
            assert_eq!(known.map(|cipher| cipher.rfc), Some(name.as_str()));
        }
        assert_eq!(suites.len(), CIPHERS.len());
    }

    #[test]
    fn names_are_those_of_pg_stat_ssl() {
        assert_eq!(std::mem::size_of::<Negotiated>(), 4);
        let new = Negotiated { version: 0x0304, cipher: 0x1302 };
        assert_eq!(new.to_string(), "TLSv1.3 TLS_AES_256_GCM_SHA384");
        let old = Negotiated { version: 0x0303, cipher: 0xc02f };
        assert_eq!(old.to_string(), "TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256");
    }
}
