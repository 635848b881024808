//! Errors and notices of our own.

use bytes::{BufMut, BytesMut};

use super::message;
use crate::limits::{OLD_STYLE_ERROR_MAX, REPORT_TEXT_MAX};
use crate::sqlstate::SqlState;

/// How grave a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The session ends.
    Fatal,
    /// The transaction ends.
    Error,
    /// Something may be wrong.
    Warning,
    /// For the user's information.
    Notice,
    /// For a developer's information.
    Debug,
    /// Asked for by the user.
    Info,
    /// For the server's log.
    Log,
}

impl Severity {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Log => "LOG",
        }
    }
}

/// An error or notice to be sent. Texts end at their first NUL byte and are cut to
/// [`REPORT_TEXT_MAX`] bytes, so that a report can always be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorReport<'a> {
    /// How grave it is.
    pub severity: Severity,
    /// What class of thing it is.
    pub code: SqlState,
    /// What happened: lower case, no full stop.
    pub message: &'a str,
    /// More of it, in sentences.
    pub detail: Option<&'a str>,
    /// What to do about it, in sentences.
    pub hint: Option<&'a str>,
}

impl<'a> ErrorReport<'a> {
    /// A report of severity FATAL without detail and hint.
    #[must_use]
    pub fn fatal(code: SqlState, message: &'a str) -> Self {
        Self { severity: Severity::Fatal, code, message, detail: None, hint: None }
    }

    /// The same of severity ERROR.
    #[must_use]
    pub fn error(code: SqlState, message: &'a str) -> Self {
        Self { severity: Severity::Error, ..Self::fatal(code, message) }
    }

    /// The same with a detail.
    #[must_use]
    pub fn with_detail(self, detail: &'a str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(self, hint: &'a str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

/// Appends an ErrorResponse.
pub fn error_response(out: &mut BytesMut, report: &ErrorReport<'_>) {
    put_report(out, b'E', report);
}

/// Appends a NoticeResponse.
pub fn notice_response(out: &mut BytesMut, report: &ErrorReport<'_>) {
    put_report(out, b'N', report);
}

/// Appends a FATAL error in the style of protocol 2, for a client that asked for it.
/// Source: PostgreSQL 18, src/backend/utils/error/elog.c, `send_message_to_frontend`.
pub fn old_style_error(out: &mut BytesMut, text: &str) {
    out.put_slice(b"EFATAL:  ");
    out.put_slice(sendable(text, OLD_STYLE_ERROR_MAX - 9).as_bytes());
    out.put_slice(b"\n\0");
}

fn put_report(out: &mut BytesMut, tag: u8, report: &ErrorReport<'_>) {
    let severity = report.severity.as_str();
    let fields = [
        (b'S', Some(severity)),
        (b'V', Some(severity)),
        (b'C', Some(report.code.as_str())),
        (b'M', Some(report.message)),
        (b'D', report.detail),
        (b'H', report.hint),
    ];
    message(out, tag, |out| {
        for (kind, text) in fields {
            let Some(text) = text else { continue };
            out.put_u8(kind);
            out.put_slice(sendable(text, REPORT_TEXT_MAX).as_bytes());
            out.put_u8(0);
        }
        out.put_u8(0);
        Ok(())
    })
    .expect("every text was cut to REPORT_TEXT_MAX");
}

/// The part of `text` before any NUL, at most `max` bytes of it.
fn sendable(text: &str, max: usize) -> &str {
    let text = text.split('\0').next().unwrap_or_default();
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
