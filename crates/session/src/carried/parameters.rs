//! The server's parameters as the client last received them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::ParameterStatus;
use trunkline_codec::scan::{Piece, Scanner};
use trunkline_codec::write;

use crate::limits::{PARAMETER_BYTES_MAX, PARAMETERS_MAX};

/// The ParameterStatus messages of a login; other messages among them are ignored.
#[derive(Debug, Default)]
pub struct LoginParameters {
    messages: Box<[u8]>,
    /// Whether `standard_conforming_strings` is off.
    has_other_strings: bool,
    /// Whether there are more than a session follows.
    are_too_many: bool,
}

impl LoginParameters {
    /// From messages as a client received them.
    #[must_use]
    pub fn new(messages: &[u8]) -> Self {
        let has_other_strings =
            statuses(messages).any(|(name, value)| name == b"standard_conforming_strings" && value != b"on");
        let are_too_many = statuses(messages).count() > PARAMETERS_MAX;
        Self { messages: messages.into(), has_other_strings, are_too_many }
    }

    /// The messages.
    #[must_use]
    pub fn messages(&self) -> &[u8] {
        &self.messages
    }
}

/// ParameterStatus messages: those of the login, and what changed since.
#[derive(Debug)]
pub(crate) struct ReportedParameters {
    login: Arc<LoginParameters>,
    /// They exceeded the limits: they are no longer followed, so that each further message costs nothing.
    is_given_up: bool,
    /// `None` in most sessions.
    since: Option<Box<SinceLogin>>,
}

/// The parameters that changed after the login.
#[derive(Debug, Default)]
struct SinceLogin {
    /// The latest value of each parameter that was reported again.
    changed: Box<[u8]>,
    /// The same when the session was last idle outside a transaction, if it differs.
    settled: Option<Box<[u8]>>,
}

/// The parameters exceed the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParametersTooLarge;

impl ReportedParameters {
    pub(crate) fn new(login: Arc<LoginParameters>) -> Self {
        Self { is_given_up: login.are_too_many, login, since: None }
    }

    /// Whether `standard_conforming_strings` was off at the login.
    pub(crate) fn has_other_strings_at_login(&self) -> bool {
        self.login.has_other_strings
    }

    fn changed(&self) -> &[u8] {
        self.since.as_ref().map_or(&[], |since| &since.changed)
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let find = |messages| statuses(messages).filter(|(n, _)| *n == name).last().map(|(_, value)| value);
        find(self.changed()).or_else(|| find(&self.login.messages))
    }

    /// Names and values; each name once.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let changed = self.changed();
        let is_changed = move |name: &[u8]| statuses(changed).any(|(n, _)| n == name);
        let kept = statuses(&self.login.messages).filter(move |(name, _)| !is_changed(name));
        kept.chain(statuses(changed))
    }

    /// The client gets `messages`.
    pub(crate) fn told(&mut self, messages: &[u8]) -> Result<(), ParametersTooLarge> {
        for (name, value) in statuses(messages) {
            self.tell(name, value)?;
        }
        Ok(())
    }

    /// The client gets the value of `name`.
    pub(crate) fn tell(&mut self, name: &[u8], value: &[u8]) -> Result<(), ParametersTooLarge> {
        if self.is_given_up {
            return Err(ParametersTooLarge);
        }
        if self.get(name) == Some(value) {
            return Ok(());
        }
        let set = self.set(name, value);
        self.is_given_up = set.is_err();
        set
    }

    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), ParametersTooLarge> {
        let mut out = BytesMut::new();
        let others = statuses(self.changed()).filter(|(n, _)| *n != name);
        let mut count = 0;
        for (name, value) in others.chain([(name, value)]) {
            write::parameter_status(&mut out, name, value).map_err(|_too_long| ParametersTooLarge)?;
            count += 1;
        }
        if out.len() > PARAMETER_BYTES_MAX || count > PARAMETERS_MAX {
            return Err(ParametersTooLarge);
        }
        let since = self.since.get_or_insert_default();
        let before = std::mem::replace(&mut since.changed, (&*out).into());
        since.settled.get_or_insert(before);
        Ok(())
    }

    /// The session is idle outside a transaction: what its server reports now counts.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if let Some(since) = &mut self.since {
            since.settled = None;
        }
    }

    /// Names and values as the login gave them, or as a later reload of the server's configuration changed them. For
    /// those that the session has set itself, by `is_set`, the login's value.
    pub(crate) fn defaults(&self, is_set: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = (&[u8], &[u8])> {
        let settled = self.since.as_ref().and_then(|since| since.settled.as_deref());
        let now = settled.unwrap_or(self.changed());
        statuses(&self.login.messages).map(move |(name, value)| {
            let since = statuses(now).find(|(n, _)| *n == name && !is_set(name));
            since.unwrap_or((name, value))
        })
    }

    /// ParameterStatus messages for the parameters in `now` whose values differ from those that the client has.
    pub(crate) fn differences(&self, now: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        let mut rest = statuses(now);
        while let Some((name, value)) = rest.next() {
            let is_last = !rest.clone().any(|(n, _)| n == name);
            if is_last && self.get(name) != Some(value) {
                let written = write::parameter_status(&mut out, name, value);
                debug_assert!(written.is_ok(), "it was read from such a message");
            }
        }
        out.freeze()
    }
}

/// Names and values of the ParameterStatus messages among `messages`.
pub(crate) fn statuses(messages: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    let mut scanner = Scanner::backend();
    let mut at = 0;
    std::iter::from_fn(move || scanner.next(messages, &mut at).ok().flatten()).filter_map(|piece| match piece
    {
        Piece::Message { tag: b'S', body } => ParameterStatus::parse(body).ok().map(|s| (s.name, s.value)),
        Piece::Message { .. } | Piece::Start { .. } | Piece::More { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(login: usize) -> ReportedParameters {
        let mut messages = BytesMut::new();
        for n in 0..login {
            write::parameter_status(&mut messages, format!("login{n}").as_bytes(), b"").expect("short");
        }
        ReportedParameters::new(Arc::new(LoginParameters::new(&messages)))
    }

    fn tell(parameters: &mut ReportedParameters, n: usize, value: &str) -> Result<(), ParametersTooLarge> {
        parameters.tell(format!("name{n}").as_bytes(), value.as_bytes())
    }

    #[test]
    fn names_at_the_limit_are_followed_and_one_more_ends_that() {
        let mut parameters = reported(0);
        for n in 0..PARAMETERS_MAX {
            assert_eq!(tell(&mut parameters, n, "a"), Ok(()));
        }
        assert_eq!(tell(&mut parameters, 0, "b"), Ok(()), "a value may change");
        assert_eq!(tell(&mut parameters, PARAMETERS_MAX, "a"), Err(ParametersTooLarge));
        assert_eq!(tell(&mut parameters, 0, "b"), Err(ParametersTooLarge), "and nothing is looked up again");
    }

    #[test]
    fn more_parameters_than_the_limit_at_the_login_are_not_followed() {
        assert_eq!(tell(&mut reported(PARAMETERS_MAX), 0, "a"), Ok(()));
        assert_eq!(tell(&mut reported(PARAMETERS_MAX + 1), 0, "a"), Err(ParametersTooLarge));
    }
}
