//! SQL that is sent in parts: it is never seen whole, so its words decide.

use trunkline_codec::frontend::Parse;

use crate::followed::Followed;
use crate::pin::{NotRepeatable, PinReason};
use crate::pins::Pins;
use crate::session::Session;
use crate::sql::read::may_execute;
use crate::sql::tripwire::{has_word, trips};
use crate::state::Long;

/// Bytes of a long Query or Parse kept to find a name that two of its parts share.
const CARRY: usize = 128;

/// What a part of a long text has.
#[derive(Debug, Default)]
pub(crate) struct LongPart {
    pub(crate) pins: Pins,
    /// Whether it must not be run twice.
    pub(crate) is_once: bool,
}

impl Followed {
    /// A part of a long Query or Parse goes to the server.
    fn long_part(&mut self, part: &[u8]) -> LongPart {
        self.carry.extend_from_slice(part);
        let found = trips(&self.carry);
        let mut pins = found.of_any_statement();
        if self.prepared.has_odd() && has_word(&self.carry, b"execute") {
            pins.add(PinReason::UnknownStatement("EXECUTE"));
        }
        pins.extend(&self.unsettled.read_part(&self.carry));
        let kept = self.carry.len().saturating_sub(CARRY);
        self.carry.drain(..kept);
        self.pin_all(&pins);
        LongPart { is_once: found.is_once || !pins.is_empty(), pins }
    }
}

impl Session {
    /// The first part of a long Query or Parse goes to the server.
    #[cold]
    pub(crate) fn long_begins(&mut self, long: Long, part: &[u8]) -> LongPart {
        self.long = long;
        let followed = self.followed();
        followed.carry.clear();
        let mut found = followed.long_part(part);
        if long == Long::Parse {
            // What the name will stand for when this is run is not known.
            if Parse::parse_prefix(part).is_some_and(|parse| may_execute(parse.sql)) {
                found.pins.add(PinReason::UnknownStatement("EXECUTE"));
            }
            followed.prepared.pin_newest(&found.pins);
        }
        found
    }

    /// The next part of a long message goes to the server.
    #[cold]
    pub(crate) fn follow_long(&mut self, part: &[u8], is_last: bool) {
        match self.long {
            Long::Other => {}
            Long::Query | Long::Parse => {
                let sql = if is_last { part.strip_suffix(b"\0").unwrap_or(part) } else { part };
                let sql = if is_last { sql.strip_suffix(b";").unwrap_or(sql) } else { sql };
                let is_parse = self.long == Long::Parse;
                let followed = self.followed();
                let found = followed.long_part(part);
                if is_parse {
                    followed.prepared.pin_newest(&found.pins);
                } else {
                    followed.pin_newest(&found.pins);
                }
                // One statement cannot be told from several.
                if found.is_once || sql.contains(&b';') {
                    self.close_attempt(NotRepeatable::SideEffects);
                }
            }
        }
        if is_last {
            self.long = Long::Other;
        }
    }
}
