//! The server's parameters as the client last received them.

mod recovery;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::ParameterStatus;
use trunkline_codec::scan::{Piece, Scanner};
use trunkline_codec::write;

use self::recovery::recovery_among;
pub(crate) use self::recovery::{RECOVERY, without_recovery};
use crate::limits::{PARAMETER_BYTES_MAX, PARAMETERS_MAX};

/// How statements are read, and run.
#[derive(Clone, Copy, Debug, Default)]
struct StatementRules {
    /// `standard_conforming_strings` is on.
    has_standard_strings: bool,
    /// `client_encoding` is UTF8.
    is_utf8: bool,
    /// `default_transaction_read_only` is on.
    only_reads: bool,
}

impl StatementRules {
    fn of<'a>(parameters: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        parameters.fold(Self::default(), |rules, (name, value)| match name {
            b"standard_conforming_strings" => Self { has_standard_strings: value == b"on", ..rules },
            b"client_encoding" => Self { is_utf8: value == b"UTF8", ..rules },
            b"default_transaction_read_only" => Self { only_reads: value == b"on", ..rules },
            _ => rules,
        })
    }
}

/// The ParameterStatus messages of a login; other messages among them are ignored.
#[derive(Debug, Default)]
pub struct LoginParameters {
    messages: Box<[u8]>,
    /// Where the message of [`RECOVERY`] is among them; at their end, and empty, if there is none.
    recovery: Range<usize>,
    /// Whether `standard_conforming_strings` is off.
    has_other_strings: bool,
    rules: StatementRules,
    /// Whether there are more than a session follows.
    are_too_many: bool,
    /// Whether there are other messages among them.
    has_others: bool,
}

impl LoginParameters {
    /// From messages as a client received them.
    #[must_use]
    pub fn new(messages: &[u8]) -> Self {
        let has_other_strings =
            statuses(messages).any(|(name, value)| name == b"standard_conforming_strings" && value != b"on");
        let are_too_many = are_too_many_parameters(messages);
        // Tag, length, and two strings that end with a NUL.
        let statuses_bytes = statuses(messages).map(|(name, value)| 1 + 4 + name.len() + 1 + value.len() + 1);
        let has_others = statuses_bytes.sum::<usize>() != messages.len();
        Self {
            messages: messages.into(),
            recovery: recovery_among(messages),
            has_other_strings,
            rules: StatementRules::of(statuses(messages)),
            are_too_many,
            has_others,
        }
    }

    /// Whether other logins reported the same, but for [`RECOVERY`].
    #[inline]
    pub(crate) fn is_same_but_for_recovery(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || self.without_recovery() == other.without_recovery()
    }

    /// The messages before and behind that of [`RECOVERY`].
    #[inline]
    pub(crate) fn without_recovery(&self) -> [&[u8]; 2] {
        let Range { start, end } = self.recovery;
        [&self.messages[..start], &self.messages[end..]]
    }

    /// Whether other logins reported the same.
    #[inline]
    pub(crate) fn is_same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || self.messages == other.messages
    }

    /// Whether there are ParameterStatus messages alone, so that they may be passed on as they are.
    pub(crate) fn are_alone(&self) -> bool {
        !self.has_others
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        statuses(&self.messages)
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
    /// `None` in most sessions.
    since: Option<Box<SinceLogin>>,
}

/// The parameters that changed after the login.
#[derive(Debug, Default)]
struct SinceLogin {
    /// As they are now.
    rules: StatementRules,
    /// The latest value of each parameter that was reported again.
    changed: Arc<[u8]>,
    /// The same when the session was last idle outside a transaction, if it differs.
    settled: Option<Arc<[u8]>>,
    /// Hashes of the names reported while values are not followed that are not among `changed`.
    others: Vec<u64>,
    /// They exceeded the limits: their values are no longer followed.
    is_given_up: bool,
}

/// Why a parameter that is reported is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotFollowed {
    /// The values exceed what is kept.
    TooLarge,
    /// So many parameters were reported since the login that the server is not to be followed any further.
    TooMany,
}

impl ReportedParameters {
    pub(crate) fn new(login: Arc<LoginParameters>) -> Self {
        let mut new = Self { login, since: None };
        if new.login.are_too_many {
            new.give_up();
        }
        new
    }

    #[cold]
    fn give_up(&mut self) {
        self.since().is_given_up = true;
    }

    fn since(&mut self) -> &mut SinceLogin {
        let rules = self.login.rules;
        self.since.get_or_insert_with(|| Box::new(SinceLogin { rules, ..SinceLogin::default() }))
    }

    #[inline]
    fn rules(&self) -> StatementRules {
        self.since.as_ref().map_or(self.login.rules, |since| since.rules)
    }

    /// Whether `standard_conforming_strings` is on.
    #[inline]
    pub(crate) fn has_standard_strings(&self) -> bool {
        self.rules().has_standard_strings
    }

    /// Whether `client_encoding` is UTF8.
    #[inline]
    pub(crate) fn is_utf8(&self) -> bool {
        self.rules().is_utf8
    }

    /// Whether `default_transaction_read_only` is on.
    #[inline]
    pub(crate) fn only_reads(&self) -> bool {
        self.rules().only_reads
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

    /// Whether their values are no longer followed.
    #[inline]
    pub(crate) fn is_given_up(&self) -> bool {
        self.since.as_ref().is_some_and(|since| since.is_given_up)
    }

    /// The client gets `messages`.
    pub(crate) fn told(&mut self, messages: &[u8]) -> Result<(), NotFollowed> {
        for (name, value) in statuses(messages) {
            let told = self.tell(name, value);
            if told.is_err() {
                self.give_up();
            }
            told?;
        }
        Ok(())
    }

    /// The client gets the value of `name`.
    pub(crate) fn tell(&mut self, name: &[u8], value: &[u8]) -> Result<(), NotFollowed> {
        if !self.is_given_up() {
            if self.get(name) == Some(value) {
                return Ok(());
            }
            let set = self.set(name, value);
            if set != Err(NotFollowed::TooLarge) {
                return set;
            }
            self.give_up();
        }
        self.count(name)?;
        Err(NotFollowed::TooLarge)
    }

    /// The client gets a value of `name` that is not followed.
    pub(crate) fn count(&mut self, name: &[u8]) -> Result<(), NotFollowed> {
        let since = self.since();
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let hash = hasher.finish();
        if since.others.contains(&hash) || statuses(&since.changed).any(|(n, _)| n == name) {
            return Ok(());
        }
        if since.others.len() + statuses(&since.changed).count() >= PARAMETERS_MAX {
            return Err(NotFollowed::TooMany);
        }
        since.others.push(hash);
        Ok(())
    }

    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), NotFollowed> {
        let mut out = BytesMut::new();
        let others = statuses(self.changed()).filter(|(n, _)| *n != name);
        let mut count = 0;
        for (name, value) in others.chain([(name, value)]) {
            write::parameter_status(&mut out, name, value).map_err(|_too_long| NotFollowed::TooLarge)?;
            count += 1;
        }
        if count > PARAMETERS_MAX {
            return Err(NotFollowed::TooMany);
        }
        if out.len() > PARAMETER_BYTES_MAX {
            return Err(NotFollowed::TooLarge);
        }
        let rules = StatementRules::of(statuses(&self.login.messages).chain(statuses(&out)));
        let since = self.since();
        since.rules = rules;
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

    /// The login's, and what was reported since.
    #[inline]
    pub(crate) fn shared(&self) -> (&Arc<LoginParameters>, Option<&Arc<[u8]>>) {
        let changed = self.since.as_ref().map(|since| &since.changed);
        (&self.login, changed.filter(|changed| !changed.is_empty()))
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

/// What was reported since a login: `changed`, and `messages` after that. `None` where it comes to what the login has.
/// Parameters beyond the limit are left out: the session that reported them has ended.
pub(crate) fn overlaid(
    login: &LoginParameters,
    changed: Option<&[u8]>,
    messages: &[u8],
) -> Option<Arc<[u8]>> {
    let mut out = BytesMut::new();
    let mut rest = statuses(changed.unwrap_or_default()).chain(statuses(messages));
    while let Some((name, value)) = rest.next() {
        let is_last = !rest.clone().any(|(n, _)| n == name);
        let at_login = statuses(&login.messages).filter(|(n, _)| *n == name).last();
        if is_last && at_login != Some((name, value)) && out.len() < PARAMETER_BYTES_MAX {
            let written = write::parameter_status(&mut out, name, value);
            debug_assert!(written.is_ok(), "it was read from such a message");
        }
    }
    (!out.is_empty()).then(|| (&*out).into())
}

/// Whether there are more ParameterStatus messages among these of a login than a session follows.
#[must_use]
pub fn are_too_many_parameters(messages: &[u8]) -> bool {
    statuses(messages).nth(PARAMETERS_MAX).is_some()
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

    fn tell(parameters: &mut ReportedParameters, n: usize, value: &str) -> Result<(), NotFollowed> {
        parameters.tell(format!("name{n}").as_bytes(), value.as_bytes())
    }

    #[test]
    fn logins_are_told_apart_by_all_but_their_servers_role() {
        let login = |parameters: &[(&str, &str)]| {
            let mut messages = BytesMut::new();
            for (name, value) in parameters {
                let written = write::parameter_status(&mut messages, name.as_bytes(), value.as_bytes());
                written.expect("short");
            }
            Arc::new(LoginParameters::new(&messages))
        };
        let of = |recovery, zone| login(&[("a", "b"), ("in_hot_standby", recovery), ("TimeZone", zone)]);
        assert!(of("on", "UTC").is_same_but_for_recovery(&of("off", "UTC")));
        assert!(!of("on", "UTC").is_same(&of("off", "UTC")));
        assert!(!of("on", "UTC").is_same_but_for_recovery(&of("on", "CET")));
        assert!(!of("on", "UTC").is_same_but_for_recovery(&login(&[("a", "b"), ("TimeZone", "UTC")])));
        let none = login(&[("a", "b"), ("in_hot_standby_b", "on")]);
        assert_eq!(none.without_recovery(), [none.messages(), b""]);
    }

    #[test]
    fn how_text_is_read_follows_what_is_reported() {
        let mut messages = BytesMut::new();
        for (name, value) in [("client_encoding", "UTF8"), ("standard_conforming_strings", "on")] {
            write::parameter_status(&mut messages, name.as_bytes(), value.as_bytes()).expect("short");
        }
        let mut parameters = ReportedParameters::new(Arc::new(LoginParameters::new(&messages)));
        let rules = |of: &ReportedParameters| (of.has_standard_strings(), of.is_utf8());
        assert_eq!(rules(&parameters), (true, true));
        parameters.tell(b"TimeZone", b"CET").expect("there is room");
        assert_eq!(rules(&parameters), (true, true));
        parameters.tell(b"client_encoding", b"LATIN1").expect("there is room");
        parameters.tell(b"standard_conforming_strings", b"off").expect("there is room");
        assert_eq!(rules(&parameters), (false, false));
        parameters.tell(b"client_encoding", b"UTF8").expect("there is room");
        assert_eq!(rules(&parameters), (false, true));
        parameters.tell(b"default_transaction_read_only", b"on").expect("there is room");
        assert!(parameters.only_reads());
        parameters.tell(b"default_transaction_read_only", b"off").expect("there is room");
        assert!(!parameters.only_reads());
    }

    #[test]
    fn names_at_the_limit_are_followed_and_one_more_is_too_many() {
        let mut parameters = reported(0);
        for n in 0..PARAMETERS_MAX {
            assert_eq!(tell(&mut parameters, n, "a"), Ok(()));
        }
        assert_eq!(tell(&mut parameters, 0, "b"), Ok(()), "a value may change");
        assert_eq!(tell(&mut parameters, PARAMETERS_MAX, "a"), Err(NotFollowed::TooMany));
    }

    #[test]
    fn names_are_counted_though_values_are_too_large() {
        let mut parameters = reported(0);
        assert_eq!(tell(&mut parameters, 0, "a"), Ok(()));
        assert_eq!(tell(&mut parameters, 1, &"x".repeat(PARAMETER_BYTES_MAX)), Err(NotFollowed::TooLarge));
        assert_eq!(
            tell(&mut parameters, 0, "b"),
            Err(NotFollowed::TooLarge),
            "and no value is followed again"
        );
        for n in 1..PARAMETERS_MAX {
            assert_eq!(tell(&mut parameters, n, "a"), Err(NotFollowed::TooLarge));
        }
        assert_eq!(tell(&mut parameters, 1, "c"), Err(NotFollowed::TooLarge), "a value may change");
        assert_eq!(tell(&mut parameters, PARAMETERS_MAX, "a"), Err(NotFollowed::TooMany));
    }

    #[test]
    fn more_parameters_than_the_limit_at_the_login_are_not_followed() {
        assert_eq!(tell(&mut reported(PARAMETERS_MAX), 0, "a"), Ok(()));
        assert_eq!(tell(&mut reported(PARAMETERS_MAX + 1), 0, "a"), Err(NotFollowed::TooLarge));
    }
}
