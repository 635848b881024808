//! What went wrong with TLS, in words that say which check failed and what to do.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// The words for an error of a handshake or a record.
pub(crate) fn of(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(wrong) => of_certificate(wrong),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) => format!("what the other end sends is no TLS ({error})"),
        Error::PeerIncompatible(_) => {
            format!("no version or cipher that both ends know: see the least version of each ({error})")
        }
        Error::InvalidCertRevocationList(wrong) => {
            format!("certificate verify failed: a revocation list cannot be used ({wrong:?}); make it anew")
        }
        Error::General(why) => why.clone(),
        Error::EncryptError => "its keys have sealed as many records as they may".to_owned(),
        Error::NoCertificatesPresented => "the other end shows no certificate".to_owned(),
        other => other.to_string(),
    }
}

/// Whether TLS is what a connection failed by that rustls is driven for by a library.
#[must_use]
pub fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Error>())
}

/// The words for an error of a connection that rustls is driven for by a library.
#[must_use]
pub fn of_io(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => of(error),
        None => error.to_string(),
    }
}

fn of_certificate(wrong: &CertificateError) -> String {
    use CertificateError as Wrong;
    match wrong {
        Wrong::UnknownIssuer => {
            "certificate verify failed: none of the roots at hand vouches for it; add the root that signed it, and let \
             its owner send the certificates between"
        }
        Wrong::Expired | Wrong::ExpiredContext { .. } => {
            "certificate verify failed: the certificate has expired; renew it, or set this machine's clock"
        }
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            "certificate verify failed: the certificate is not valid yet; see its dates and this machine's clock"
        }
        Wrong::Revoked => "certificate verify failed: the certificate is revoked",
        Wrong::UnknownRevocationStatus => {
            "certificate verify failed: no revocation list at hand is of who signed it; add theirs to the file"
        }
        Wrong::ExpiredRevocationList | Wrong::ExpiredRevocationListContext { .. } => {
            "certificate verify failed: the revocation list has expired; renew its file, or set this machine's clock"
        }
        Wrong::NotValidForName => {
            "the certificate is not for this host name; connect by a name that it has, or renew it with this one"
        }
        Wrong::NotValidForNameContext { expected, presented } => {
            let presented = presented.join(", ");
            let expected = expected.to_str();
            return format!(
                "the certificate is for {presented}, not for host name \"{expected}\"; connect by a name that it has, or \
                 renew it with this one"
            );
        }
        Wrong::BadSignature => {
            "certificate verify failed: its signature is not that of the root of this name; add the root that signed it"
        }
        Wrong::UnsupportedSignatureAlgorithmContext { .. } => {
            "certificate verify failed: it is signed in a way that is too weak, as by SHA-1, or not known; have it \
             signed anew, by SHA-256"
        }
        Wrong::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "certificate verify failed: its signature does not fit the key of who signed it; see that the root of this \
             name is the right one, and that its key is RSA, Ed25519, or ECDSA of P-256, P-384 or P-521"
        }
        Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => {
            "certificate verify failed: it or a CA of it is for something else (extendedKeyUsage); one of a server needs \
             serverAuth there, and one of a client clientAuth"
        }
        Wrong::BadEncoding => {
            "certificate verify failed: it cannot be read; see what `openssl x509 -text` says of it, and issue it anew"
        }
        Wrong::UnhandledCriticalExtension => UNKNOWN_EXTENSION,
        Wrong::Other(other) => {
            return match other.0.downcast_ref::<webpki::Error>() {
                Some(wrong) => of_webpki(wrong),
                None => format!("certificate verify failed: {other}"),
            };
        }
        other => return format!("certificate verify failed: {other}; issue it anew without that"),
    }
    .to_owned()
}

const UNKNOWN_EXTENSION: &str = "certificate verify failed: it or a CA of it has a critical extension that is not known \
                                 here; issue it without that, or not as critical";

/// For what rustls has no error of its own.
fn of_webpki(wrong: &webpki::Error) -> String {
    use webpki::Error as Wrong;
    let told = match wrong {
        Wrong::UnsupportedCriticalExtension => return UNKNOWN_EXTENSION.to_owned(),
        Wrong::EndEntityUsedAsCa => {
            "who signed it is no CA that may (basicConstraints CA:TRUE, keyUsage keyCertSign); sign it by one that may"
        }
        Wrong::PathLenConstraintViolated => {
            "a CA of it allows fewer below it (basicConstraints pathlen); sign it by that CA itself, or raise pathlen"
        }
        Wrong::NameConstraintViolation => {
            "a CA of it is not for its names (nameConstraints); issue it by another CA, for version 1 by one without any"
        }
        Wrong::UnsupportedCertVersion => {
            "it is not of X.509 version 3, and has what only that may have; issue it anew as version 3"
        }
        Wrong::InvalidCrlSignatureForPublicKey | Wrong::IssuerNotCrlSigner => {
            "a revocation list is not signed by who signed it, or that CA may not (keyUsage cRLSign); make the list anew"
        }
        Wrong::MaximumSignatureChecksExceeded
        | Wrong::MaximumPathBuildCallsExceeded
        | Wrong::MaximumPathDepthExceeded => {
            "too many certificates were sent along; let the other end send only those between its own and the root"
        }
        other => return format!("certificate verify failed: {other}; issue it anew without that"),
    };
    format!("certificate verify failed: {told}")
}

fn of_alert(alert: AlertDescription) -> String {
    let meant = match alert {
        AlertDescription::UnknownCA => "it does not know the root of our certificate",
        AlertDescription::CertificateRequired => "it wants a certificate, and none is configured",
        AlertDescription::CertificateExpired => "our certificate has expired",
        AlertDescription::CertificateRevoked => "our certificate is revoked",
        AlertDescription::BadCertificate | AlertDescription::UnsupportedCertificate => {
            "it does not take our certificate"
        }
        AlertDescription::DecryptError => {
            "what vouches for our certificate does not hold: its signature, or ours in the handshake"
        }
        AlertDescription::ProtocolVersion => "it speaks no version of TLS that we do",
        AlertDescription::HandshakeFailure => "no cipher or kind of key that both ends know",
        AlertDescription::NoApplicationProtocol => "it is no PostgreSQL, or none that takes direct TLS",
        other => return format!("the other end refuses: {other:?}"),
    };
    format!("the other end refuses: {meant} ({alert:?})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_which_check_failed() {
        let unknown = of(&Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(unknown.contains("none of the roots"), "{unknown}");
        let wrapped = io::Error::new(
            io::ErrorKind::InvalidData,
            Error::AlertReceived(AlertDescription::CertificateRequired),
        );
        assert!(of_io(&wrapped).contains("wants a certificate"));
        assert_eq!(of_io(&io::ErrorKind::UnexpectedEof.into()), "unexpected end of file");
    }
}
