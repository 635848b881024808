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
        Error::NoCertificatesPresented => "the other end shows no certificate".to_owned(),
        other => other.to_string(),
    }
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
        Wrong::BadSignature => "certificate verify failed: its signature is not that of the root",
        other => return format!("certificate verify failed: {other:?}"),
    }
    .to_owned()
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
