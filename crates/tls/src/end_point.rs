//! The channel binding `tls-server-end-point` (RFC 5929, 4): a hash of the server's certificate, to which SCRAM ties a login.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_224, Sha512_256};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::FromDer as _;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

/// The hash of a certificate as both ends of a connection compute it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndPoint(Box<[u8]>);

impl EndPoint {
    /// Of a certificate; `None` for one whose signature names no hash, such as Ed25519: nothing can be bound to it.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let hash = hash_of(&parsed.signature_algorithm)?;
        Some(Self(hash.digest(certificate)))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A hash, by its name in RFC 8017.
#[derive(Clone, Copy)]
enum BindingHash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512T224,
    Sha512T256,
}

impl BindingHash {
    fn digest(self, bytes: &[u8]) -> Box<[u8]> {
        match self {
            BindingHash::Sha224 => Sha224::digest(bytes)[..].into(),
            BindingHash::Sha256 => Sha256::digest(bytes)[..].into(),
            BindingHash::Sha384 => Sha384::digest(bytes)[..].into(),
            BindingHash::Sha512 => Sha512::digest(bytes)[..].into(),
            BindingHash::Sha512T224 => Sha512_224::digest(bytes)[..].into(),
            BindingHash::Sha512T256 => Sha512_256::digest(bytes)[..].into(),
        }
    }
}

/// The hash that the signature is made with. In the place of MD5 and SHA-1 it is SHA-256.
/// Source: RFC 5929, 4.1; PostgreSQL, src/backend/libpq/be-secure-openssl.c, `be_tls_get_certificate_hash`.
fn hash_of(signed_by: &AlgorithmIdentifier<'_>) -> Option<BindingHash> {
    Some(match signed_by.algorithm.to_id_string().as_str() {
        // RSA with MD5, SHA-1, and the others. Source: RFC 8017, appendix C.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => BindingHash::Sha256,
        // RSASSA-PSS has parameters that say it; it is SHA-1 where they do not (RFC 4055, 3.1).
        "1.2.840.113549.1.1.10" => {
            let parameters = RsaSsaPssParams::try_from(signed_by.parameters.as_ref()?).ok()?;
            return hash_by_name(&parameters.hash_algorithm_oid().to_id_string());
        }
        "1.2.840.113549.1.1.14" => BindingHash::Sha224,
        "1.2.840.113549.1.1.11" => BindingHash::Sha256,
        "1.2.840.113549.1.1.12" => BindingHash::Sha384,
        "1.2.840.113549.1.1.13" => BindingHash::Sha512,
        "1.2.840.113549.1.1.15" => BindingHash::Sha512T224,
        "1.2.840.113549.1.1.16" => BindingHash::Sha512T256,
        // ECDSA with SHA-1, and the others. Source: RFC 3279, 2.2.3; RFC 5758, 3.2.
        "1.2.840.10045.4.1" => BindingHash::Sha256,
        "1.2.840.10045.4.3.1" => BindingHash::Sha224,
        "1.2.840.10045.4.3.2" => BindingHash::Sha256,
        "1.2.840.10045.4.3.3" => BindingHash::Sha384,
        "1.2.840.10045.4.3.4" => BindingHash::Sha512,
        _unknown => return None,
    })
}

/// Source: RFC 8017, appendix B.1.
fn hash_by_name(oid: &str) -> Option<BindingHash> {
    Some(match oid {
        "1.2.840.113549.2.5" | "1.3.14.3.2.26" => BindingHash::Sha256,
        "2.16.840.1.101.3.4.2.4" => BindingHash::Sha224,
        "2.16.840.1.101.3.4.2.1" => BindingHash::Sha256,
        "2.16.840.1.101.3.4.2.2" => BindingHash::Sha384,
        "2.16.840.1.101.3.4.2.3" => BindingHash::Sha512,
        "2.16.840.1.101.3.4.2.5" => BindingHash::Sha512T224,
        "2.16.840.1.101.3.4.2.6" => BindingHash::Sha512T256,
        _unknown => return None,
    })
}
