//! What SQL creates or changes that may run functions: a view, a trigger, a function itself.

use crate::limits::MADE_NAMES_MAX;

/// What a request, a transaction or all sessions of a database may have created or changed, as SQL tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Made {
    #[default]
    Nothing,
    /// Only what has one of these names, by their hashes, in order.
    Names(Vec<u64>),
    /// It is not known what.
    Anything,
}

impl Made {
    pub(crate) fn of(mut names: Vec<u64>) -> Self {
        names.sort_unstable();
        names.dedup();
        match names.len() {
            0 => Self::Nothing,
            1..=MADE_NAMES_MAX => Self::Names(names),
            _more => Self::Anything,
        }
    }

    /// The same where it is known that something was made.
    #[must_use]
    pub(crate) fn something(self) -> Self {
        match self {
            Self::Nothing | Self::Anything => Self::Anything,
            Self::Names(names) => Self::Names(names),
        }
    }

    /// Both.
    pub(crate) fn add(&mut self, other: &Self) {
        *self = match (std::mem::take(self), other) {
            (Self::Anything, _) | (_, Self::Anything) => Self::Anything,
            (before, Self::Nothing) => before,
            (Self::Nothing, Self::Names(names)) => Self::Names(names.clone()),
            (Self::Names(mut names), Self::Names(more)) => {
                names.extend_from_slice(more);
                Self::of(names)
            }
        };
    }

    /// Whether it may be of this name.
    pub(crate) fn may_have(&self, name: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Names(names) => names.binary_search(&name).is_ok(),
            Self::Anything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_names_than_are_kept_may_be_any() {
        let names = |from: u64, count: usize| Made::of((from..).take(count).collect());
        let mut made = names(1, MADE_NAMES_MAX);
        assert!(made.may_have(1) && !made.may_have(0));
        made.add(&names(1, 2));
        assert!(!made.may_have(0), "the same again");
        made.add(&names(MADE_NAMES_MAX as u64 + 1, 1));
        assert!(made.may_have(0));
        assert_eq!(names(1, MADE_NAMES_MAX + 1), Made::Anything);
    }

    #[test]
    fn what_is_not_known_is_anything() {
        assert!(!Made::Nothing.may_have(1) && Made::Nothing.something().may_have(1));
        let mut made = Made::of(vec![2, 1]);
        assert_eq!(made.clone().something(), Made::Names(vec![1, 2]));
        made.add(&Made::Nothing);
        assert_eq!(made, Made::Names(vec![1, 2]));
        made.add(&Made::Anything);
        assert_eq!(made, Made::Anything);
    }
}
