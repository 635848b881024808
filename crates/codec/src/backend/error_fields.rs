//! ErrorResponse and NoticeResponse.

use crate::limits::OLD_STYLE_ERROR_MAX;
use crate::sqlstate::SqlState;

/// The fields of an ErrorResponse or NoticeResponse.
///
/// Read leniently: every field may be missing, and a body that ends early has the fields before
/// its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    body: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// Any body will do.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// All fields as (kind, text), in their order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            let (&kind, after) = rest.split_first().filter(|(kind, _)| **kind != 0)?;
            let end = after.iter().position(|&b| b == 0)?;
            rest = &after[end + 1..];
            Some((kind, &after[..end]))
        })
    }

    /// The first field of a kind.
    #[must_use]
    pub fn field(&self, kind: u8) -> Option<&'a [u8]> {
        self.iter().find(|(k, _)| *k == kind).map(|(_, text)| text)
    }

    /// The severity: the one that is never translated, where the server sends it.
    #[must_use]
    pub fn severity(&self) -> Option<&'a [u8]> {
        self.field(b'V').or_else(|| self.field(b'S'))
    }

    /// The SQLSTATE.
    #[must_use]
    pub fn sqlstate(&self) -> Option<SqlState> {
        self.field(b'C').and_then(SqlState::parse)
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> Option<&'a [u8]> {
        self.field(b'M')
    }

    /// The detail.
    #[must_use]
    pub fn detail(&self) -> Option<&'a [u8]> {
        self.field(b'D')
    }

    /// The hint.
    #[must_use]
    pub fn hint(&self) -> Option<&'a [u8]> {
        self.field(b'H')
    }

    /// Whether the server closes the connection after it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity(), Some(b"FATAL" | b"PANIC"))
    }
}

/// An error in the style of protocol 2, `E`, text, NUL, and no length: what a server sends when it
/// cannot start a process for the connection.
/// Source: PostgreSQL 18, src/backend/postmaster/postmaster.c, `report_fork_failure_to_client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldStyleError<'a> {
    /// The text, without its NUL and final line feed.
    pub text: &'a [u8],
}

impl<'a> OldStyleError<'a> {
    /// The error at the front of `buf`, which begins with `E`.
    ///
    /// `None` means read more, unless the server has closed: then [`OldStyleError::parse_at_end`]
    /// takes what there is. At most [`OLD_STYLE_ERROR_MAX`] bytes of text are looked at.
    #[must_use]
    pub fn parse(buf: &'a [u8]) -> Option<Self> {
        let text = old_style_text(buf);
        let end = text.iter().position(|&b| b == 0);
        let is_complete = end.is_some() || text.len() == OLD_STYLE_ERROR_MAX;
        is_complete.then(|| Self { text: trim(&text[..end.unwrap_or(text.len())]) })
    }

    /// The same, with the end of the bytes as the end of the text.
    #[must_use]
    pub fn parse_at_end(buf: &'a [u8]) -> Self {
        Self::parse(buf).unwrap_or_else(|| Self { text: trim(old_style_text(buf)) })
    }
}

fn old_style_text(buf: &[u8]) -> &[u8] {
    let text = buf.strip_prefix(b"E").unwrap_or(buf);
    &text[..text.len().min(OLD_STYLE_ERROR_MAX)]
}

fn trim(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\n").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_any_order_and_severity_prefers_the_untranslated() {
        let fields = ErrorFields::new(b"SSCHWERWIEGEND\0VFATAL\0C57P01\0Mbye\0Dwhy\0Hdo\0\0");
        assert_eq!(fields.severity(), Some(&b"FATAL"[..]));
        assert_eq!(fields.sqlstate(), Some(SqlState::ADMIN_SHUTDOWN));
        assert_eq!(fields.message(), Some(&b"bye"[..]));
        assert_eq!(fields.detail(), Some(&b"why"[..]));
        assert_eq!(fields.hint(), Some(&b"do"[..]));
        assert!(fields.is_fatal());
    }

    #[test]
    fn every_field_may_be_missing() {
        for body in [&b""[..], b"\0", b"M", b"Mno end", b"C5\0", b"\0Mafter the end\0"] {
            let fields = ErrorFields::new(body);
            assert_eq!(fields.severity(), None);
            assert_eq!(fields.sqlstate(), None);
            assert_eq!(fields.message(), None);
            assert!(!fields.is_fatal());
        }
        let old_server = ErrorFields::new(b"SERROR\0C42601\0");
        assert_eq!(old_server.severity(), Some(&b"ERROR"[..]));
        assert!(!old_server.is_fatal());
        assert!(ErrorFields::new(b"VPANIC\0").is_fatal());
    }

    #[test]
    fn a_cut_body_keeps_the_fields_before_the_cut() {
        let fields = ErrorFields::new(b"VERROR\0C40001\0Mcut he");
        assert_eq!(fields.sqlstate(), Some(SqlState::SERIALIZATION_FAILURE));
        assert_eq!(fields.message(), None);
    }

    #[test]
    fn old_style_error_ends_at_nul_at_the_limit_or_at_the_end() {
        let error = b"Ecould not fork\n\0rest";
        assert_eq!(OldStyleError::parse(error), Some(OldStyleError { text: b"could not fork" }));
        assert_eq!(OldStyleError::parse(&error[..10]), None);
        assert_eq!(OldStyleError::parse_at_end(&error[..10]).text, b"could not");
        assert_eq!(OldStyleError::parse_at_end(b"").text, b"");
        let endless = [b'E'; OLD_STYLE_ERROR_MAX + 1];
        assert_eq!(OldStyleError::parse(&endless[..OLD_STYLE_ERROR_MAX]), None);
        assert_eq!(OldStyleError::parse(&endless).map(|e| e.text.len()), Some(OLD_STYLE_ERROR_MAX));
    }
}
