//! Versions of the protocol, and the codes that stand where a startup packet has its version.

/// Source: PostgreSQL 18, src/include/libpq/pqcomm.h, `CANCEL_REQUEST_CODE` and its neighbours.
pub(crate) const CANCEL_REQUEST: ProtocolVersion = ProtocolVersion { major: 1234, minor: 5678 };
pub(crate) const SSL_REQUEST: ProtocolVersion = ProtocolVersion { major: 1234, minor: 5679 };
pub(crate) const GSSENC_REQUEST: ProtocolVersion = ProtocolVersion { major: 1234, minor: 5680 };

/// The version of the protocol a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion {
    /// 3 for every server since PostgreSQL 7.4.
    pub major: u16,
    /// 0, or 2 from PostgreSQL 18 on; 1 is reserved.
    pub minor: u16,
}

impl ProtocolVersion {
    /// 3.0, PostgreSQL 7.4 and later.
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// 3.2, PostgreSQL 18 and later: secret keys of up to 256 bytes.
    pub const V3_2: Self = Self { major: 3, minor: 2 };
    /// What a repeated SSLRequest is taken for: it is honoured once.
    pub const REPEATED_SSL_REQUEST: Self = SSL_REQUEST;
    /// What a repeated GSSENCRequest is taken for: it is honoured once.
    pub const REPEATED_GSSENC_REQUEST: Self = GSSENC_REQUEST;

    /// From the number on the wire, such as 196608 for 3.0.
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        Self { major: (code >> 16) as u16, minor: (code & 0xFFFF) as u16 }
    }

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u32 {
        u32::from(self.major) << 16 | u32::from(self.minor)
    }
}

impl std::fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
