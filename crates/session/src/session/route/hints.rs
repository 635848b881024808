//! What a client says of where its next unit goes.

use trunkline_codec::frontend::{FrontendTag, Parse};

use super::{Messages, UnitPiece};
use crate::hints::{HINTS, HintName, Hints, InvalidHint};
use crate::limits::UNIT_STATEMENTS_MAX;
use crate::names::{bind_of, compared};
use crate::session::Session;
use crate::sql::hinted::{Assigned, assigned, hints_in_comment, may_say_something};
use crate::sql::reads::is_read;

impl Session {
    /// What is said of the client's next bytes, a whole unit, with what was `given` at the session's beginning: its settings go
    /// before that, and the first comment of a statement before both.
    ///
    /// # Errors
    /// For a value that a hint cannot have, in a unit that reads by its words or gives the setting that value.
    pub fn hints_of(&self, unit: &[u8], given: Hints) -> Result<Hints, InvalidHint> {
        let texts = self.texts_of(unit);
        if texts.is_empty() {
            return Ok(given);
        }
        let has_settings = self.has_hints();
        if !has_settings && !texts.iter().any(|sql| may_say_something(sql)) {
            return Ok(given);
        }
        if !texts.iter().all(|sql| is_read(sql).is_ok()) {
            return texts.iter().try_for_each(|sql| check_assigned(sql)).map(|()| given);
        }
        let own = if has_settings { self.with_settings(given)? } else { given };
        let mut all = None;
        for sql in texts {
            let of_text = with_comment(sql, own)?;
            all = Some(all.map_or(of_text, |before: Hints| before.and(of_text)));
        }
        Ok(all.unwrap_or(own))
    }

    /// The SQL that a unit runs or prepares, each text once or more often; none of what is not one whole unit.
    fn texts_of<'a>(&'a self, unit: &'a [u8]) -> Vec<&'a [u8]> {
        let mut messages = Messages(unit);
        let mut texts = Vec::new();
        let mut parsed: Vec<&[u8]> = Vec::new();
        loop {
            let UnitPiece::Message(tag, body) = messages.next() else { return Vec::new() };
            if texts.len() >= UNIT_STATEMENTS_MAX {
                return Vec::new();
            }
            match tag {
                FrontendTag::Query => {
                    texts.extend(body.strip_suffix(b"\0"));
                    break;
                }
                FrontendTag::Sync => break,
                FrontendTag::Parse => {
                    if let Ok(parse) = Parse::parse(body) {
                        parsed.push(compared(parse.name));
                        texts.push(parse.sql);
                    }
                }
                FrontendTag::Bind => {
                    let named = bind_of(body).map(|bind| bind.statement);
                    let earlier = named.filter(|name| !parsed.contains(name));
                    texts.extend(earlier.and_then(|name| {
                        self.carried.followed.as_deref().and_then(|followed| followed.prepared.sql(name))
                    }));
                }
                _other => {}
            }
        }
        if messages.0.is_empty() { texts } else { Vec::new() }
    }

    /// Whether its settings say something of where its reads go.
    #[must_use]
    pub fn has_hints(&self) -> bool {
        let followed = self.carried.followed.as_deref();
        let settings = followed.and_then(|followed| followed.settings());
        settings.is_some_and(|settings| settings.custom().any(|key| HintName::of(key.as_bytes()).is_some()))
    }

    /// With the session's settings.
    fn with_settings(&self, given: Hints) -> Result<Hints, InvalidHint> {
        let mut hints = given;
        let followed = self.carried.followed.as_deref();
        let Some(settings) = followed.and_then(|followed| followed.settings()) else { return Ok(hints) };
        for hint in &HINTS {
            match settings.sql_of(hint.name).and_then(assigned) {
                Some((_, Assigned::Value(value))) => hint.put(&mut hints, &value)?,
                Some((_, Assigned::Default)) | None => {}
                Some((_, Assigned::Unclear)) => return Err(hint.invalid(b"")),
            }
        }
        Ok(hints)
    }
}

/// With the first comment of a text.
fn with_comment(sql: &[u8], own: Hints) -> Result<Hints, InvalidHint> {
    let mut hints = own;
    for (name, value) in hints_in_comment(sql) {
        if let Some(hint) = HintName::of(name) {
            hint.put(&mut hints, &value)?;
        }
    }
    Ok(hints)
}

/// A SET that gives a hint a value which it cannot have.
fn check_assigned(sql: &[u8]) -> Result<(), InvalidHint> {
    let Some((key, assigned)) = assigned(sql) else { return Ok(()) };
    let Some(hint) = HintName::of(key.as_bytes()) else { return Ok(()) };
    match assigned {
        Assigned::Value(value) => hint.put(&mut Hints::default(), &value),
        Assigned::Default => Ok(()),
        Assigned::Unclear => Err(hint.invalid(b"")),
    }
}
