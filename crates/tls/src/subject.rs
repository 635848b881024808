//! The names in a certificate, as PostgreSQL reads them.
//!
//! Source: PostgreSQL 16, src/backend/libpq/be-secure-openssl.c, `be_tls_open_server`, which has OpenSSL print the subject with
//! `XN_FLAG_RFC2253`; OpenSSL 3, crypto/asn1/a_strex.c, `do_name_ex`, `do_esc_char`.

use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::{Any, FromDer as _, ToDer as _};
use x509_parser::x509::AttributeTypeAndValue;

/// Whom a certificate is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The first common name (CN), if there is one.
    pub common_name: Option<Vec<u8>>,
    /// All of it (DN), the last part first, as in `CN=app,O=Example`.
    pub distinguished_name: String,
}

/// The common name's object identifier. Source: RFC 4519, 2.3.
const COMMON_NAME: &str = "2.5.4.3";

/// Names of attributes by their object identifiers. Source: OpenSSL 3, include/openssl/obj_mac.h, the short names.
const ATTRIBUTES: &[(&str, &str)] = &[
    (COMMON_NAME, "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.72", "role"),
    ("2.5.4.97", "organizationIdentifier"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

impl Subject {
    /// That of a certificate in DER; `None` if it cannot be read, or its common name has a NUL in it.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let common_name = parsed.subject().iter_common_name().next().map(|name| name.as_slice().to_vec());
        if common_name.as_ref().is_some_and(|name| name.contains(&0)) {
            return None;
        }
        let mut parts = Vec::new();
        for relative in parsed.subject().iter() {
            let within: Vec<String> = relative.iter().map(attribute).collect();
            parts.push(within.into_iter().rev().collect::<Vec<_>>().join("+"));
        }
        parts.reverse();
        Some(Subject { common_name, distinguished_name: parts.join(",") })
    }
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let (id, value) = (attribute.attr_type().to_id_string(), attribute.attr_value());
    let text = match ATTRIBUTES.iter().find(|(known, _)| *known == id) {
        Some((_, name)) => text(value).map(|text| format!("{name}={}", escaped(&text))),
        None => None,
    };
    text.unwrap_or_else(|| {
        let name = ATTRIBUTES.iter().find(|(known, _)| *known == id).map_or(&*id, |(_, name)| name);
        let dumped: String =
            value.to_der_vec().unwrap_or_default().iter().map(|byte| format!("{byte:02X}")).collect();
        format!("{name}=#{dumped}")
    })
}

/// A value as UTF-8; `None` if it is no string. Source: RFC 5280, appendix A.1, `DirectoryString`; X.690, 8.23.
fn text(value: &Any<'_>) -> Option<Vec<u8>> {
    let of_characters = |characters: Vec<u32>| -> Option<Vec<u8>> {
        let text: Option<String> = characters.into_iter().map(char::from_u32).collect();
        text.map(String::into_bytes)
    };
    match value.tag().0 {
        // UTF8String, which is taken as it is.
        12 => Some(value.data.to_vec()),
        // NumericString, PrintableString, TeletexString, IA5String, UTCTime, GeneralizedTime, VisibleString: one byte each.
        18..=20 | 22..=24 | 26 => of_characters(value.data.iter().copied().map(u32::from).collect()),
        // UniversalString and BMPString.
        28 => of_characters(value.data.as_chunks::<4>().0.iter().map(|c| u32::from_be_bytes(*c)).collect()),
        30 => of_characters(
            value.data.as_chunks::<2>().0.iter().map(|c| u16::from_be_bytes(*c).into()).collect(),
        ),
        _ => None,
    }
}

/// Source: RFC 2253, 2.4; bytes beyond ASCII and control characters are written as `\` and two digits.
fn escaped(text: &[u8]) -> String {
    let mut out = String::new();
    for (index, byte) in text.iter().enumerate() {
        let (is_first, is_last) = (index == 0, index + 1 == text.len());
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b' ' if is_first || is_last => out.push_str("\\ "),
            b'#' if is_first => out.push_str("\\#"),
            0..=0x1f | 0x7f.. => out.push_str(&format!("\\{byte:02X}")),
            plain => out.push(char::from(*plain)),
        }
    }
    out
}
