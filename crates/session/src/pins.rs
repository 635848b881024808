//! Every reason that keeps a session on its server.

use crate::pin::PinReason;

/// A set of reasons, in the order they came. It is short: reasons and the names in them are from closed lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins(Vec<PinReason>);

impl Pins {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = PinReason> {
        self.0.iter().copied()
    }

    pub(crate) fn contains(&self, reason: PinReason) -> bool {
        self.0.contains(&reason)
    }

    pub(crate) fn add(&mut self, reason: PinReason) {
        if !self.contains(reason) {
            self.0.push(reason);
        }
    }

    pub(crate) fn extend(&mut self, more: &Self) {
        more.0.iter().for_each(|reason| self.add(*reason));
    }

    pub(crate) fn remove(&mut self, reason: PinReason) {
        self.0.retain(|one| *one != reason);
    }

    /// `DISCARD ALL` was run.
    pub(crate) fn discard_all(&mut self) {
        self.0.retain(|reason| !reason.ends_with_discard_all());
    }

    /// Of the reasons that `DISCARD ALL` is about to remove, one whose traces it may leave: custom settings that exist.
    pub(crate) fn hidden_by_discard_all(&self) -> Option<PinReason> {
        self.0.iter().find(|reason| reason.ends_with_discard_all() && reason.may_hide_setting()).copied()
    }

    /// The one to tell of, but for one that does not count now, and for those that keep the connection only.
    pub(crate) fn first_but(&self, ignored: PinReason) -> Option<PinReason> {
        let mut others = self.clone();
        others.remove(ignored);
        others.remove(PinReason::SEQUENCE);
        others.first()
    }

    /// The same, of all reasons that keep the session.
    #[inline]
    pub(crate) fn first_of_session(&self) -> Option<PinReason> {
        if self.0.is_empty() { None } else { self.first_but(PinReason::SEQUENCE) }
    }

    /// The one to tell of: the first of those that last longest.
    #[must_use]
    pub fn first(&self) -> Option<PinReason> {
        let is_lasting = |reason: &&PinReason| !reason.ends_by_itself() && !reason.ends_with_discard_all();
        let lasting = self.0.iter().find(is_lasting);
        let longer = lasting.or_else(|| self.0.iter().find(|reason| !reason.ends_by_itself()));
        longer.or(self.0.first()).copied()
    }
}

impl From<PinReason> for Pins {
    fn from(reason: PinReason) -> Self {
        Self(vec![reason])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_counts_until_it_is_undone() {
        let mut pins = Pins::from(PinReason::AdvisoryLock);
        let lasting = PinReason::SideEffects("dblink_connect");
        pins.add(lasting);
        pins.add(PinReason::AdvisoryLock);
        pins.add(PinReason::Listen);
        assert_eq!(pins.first(), Some(lasting), "what lasts is told first");
        pins.discard_all();
        pins.add(PinReason::ReadingBack);
        assert_eq!(pins.first(), Some(lasting));
        pins.remove(PinReason::ReadingBack);
        assert_eq!(pins, Pins::from(lasting));
        pins.remove(lasting);
        assert!(pins.is_empty() && pins.first().is_none());
    }
}
