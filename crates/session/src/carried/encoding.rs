//! The client_encoding under which a text of the client was sent.
//!
//! The server reports a client_encoding before its ReadyForQuery, but reads by it from the SET on. Between the two,
//! and for a text that was sent before a report and counts after it, the encoding is not known.

use crate::carried::parameters::ReportedParameters;
use crate::sql::effect::Change;

/// The client_encoding under which a text was sent; `None` for a text of ASCII, which is the same in all.
pub(crate) type Encoding = Option<Box<[u8]>>;

/// Counts the reports of client_encoding: texts of one era are of one encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EncodingEra(u32);

/// The client_encoding under which a text was sent is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownEncoding;

/// The client_encoding of a session, as far as it is settled.
#[derive(Debug, Default)]
pub(crate) struct CurrentEncoding {
    era: EncodingEra,
    /// It was set, and the server has not reported it yet.
    is_changing: bool,
}

impl CurrentEncoding {
    pub(crate) fn era(&self) -> EncodingEra {
        self.era
    }

    /// The server reports another one.
    pub(crate) fn reported(&mut self) {
        self.era.0 = self.era.0.wrapping_add(1);
        self.is_changing = false;
    }

    /// All reports have arrived.
    pub(crate) fn settled(&mut self) {
        self.is_changing = false;
    }

    /// The encoding of a change's SQL, which was sent in `era` and took effect now.
    pub(crate) fn of(
        &mut self,
        change: &Change,
        era: EncodingEra,
        told: &ReportedParameters,
    ) -> Result<Encoding, UnknownEncoding> {
        let (key, sql): (&str, &[u8]) = match change {
            Change::Set { key, sql } | Change::Reset { key, sql } => (key, sql),
            Change::Local { key, .. } => (key, b""),
            Change::ResetAll => ("client_encoding", b""),
        };
        self.is_changing |= key == "client_encoding";
        if sql.is_ascii() {
            return Ok(None);
        }
        match told.get(b"client_encoding") {
            Some(encoding) if era == self.era && !self.is_changing => Ok(Some(encoding.into())),
            Some(_) | None => Err(UnknownEncoding),
        }
    }
}
