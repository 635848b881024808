//! The session's statements as values: those that it wants on its server, and those that its server has.

use std::cell::OnceCell;
use std::sync::Arc;

use super::presence::Presence;
use super::saved::{SavedStatement, StatementOrigin, Wire};
use super::texts::Texts;
use super::{Name, Prepared};
use crate::carried::statement_set::{
    Content, Match, ReadingRules, SharedStatement, StatementSet, TextKind, is_shared,
};

/// See the module. Made when it is asked for, and again after a change.
#[derive(Debug, Default)]
pub(super) struct Sets {
    wanted: OnceCell<Option<Arc<StatementSet>>>,
    there: OnceCell<Option<Arc<StatementSet>>>,
    /// The number of the unnamed statement.
    unnamed: u32,
}

impl Sets {
    /// A named statement is another one now, or its description is.
    #[inline]
    pub(super) fn changed(&mut self) {
        self.wanted.take();
        self.there.take();
    }

    /// The server has other statements now.
    #[inline]
    pub(super) fn moved(&mut self) {
        self.there.take();
    }

    /// There is a new unnamed statement.
    #[inline]
    pub(super) fn unnamed_made(&mut self) {
        self.unnamed = self.unnamed.wrapping_add(1);
    }
}

impl SavedStatement {
    fn share(&self, name: &Name, texts: &Texts) -> Arc<SharedStatement> {
        let kind = match self.origin {
            StatementOrigin::Parse => Some(TextKind::Parse),
            StatementOrigin::Sql => Some(TextKind::Sql),
            StatementOrigin::Unsaved => None,
        };
        let content = kind.zip(texts.whole(self.text)).map(|(kind, text)| {
            let (shape, analysed) = (self.shape.clone(), self.analysed);
            Content { kind, text: text.into(), shape, analysed }
        });
        Arc::new(SharedStatement { name: name.clone(), content })
    }

    fn shared(&self, name: &Name, texts: &Texts) -> Arc<SharedStatement> {
        Arc::clone(self.shared.get_or_init(|| self.share(name, texts)))
    }
}

impl Prepared {
    /// The named statements that the session has under its client's names.
    pub(crate) fn wanted(&self) -> Option<Arc<StatementSet>> {
        let make = || {
            let own = self.named.iter().filter(|(_, saved)| saved.wire == Wire::OfClient);
            let all = own.map(|(name, saved)| saved.shared(name, &self.texts));
            StatementSet::new(all.collect())
        };
        self.sets.wanted.get_or_init(make).clone()
    }

    /// The named statements that its last server had, if they have been asked for since they last changed.
    pub(crate) fn left(&self) -> Option<Arc<StatementSet>> {
        self.sets.there.get().cloned().flatten()
    }

    /// The named statements that its server has.
    pub(crate) fn there(&self) -> Option<Arc<StatementSet>> {
        let make = || {
            if self.named.values().all(|saved| saved.presence == Presence::Present) {
                return self.wanted();
            }
            let own = self.named.iter().filter(|(_, saved)| saved.wire == Wire::OfClient);
            let all = own.filter_map(|(name, saved)| match saved.presence {
                Presence::Present => Some(saved.shared(name, &self.texts)),
                Presence::StandIn | Presence::Differs => {
                    Some(Arc::new(SharedStatement { name: name.clone(), content: None }))
                }
                Presence::Absent | Presence::Cleared => None,
            });
            StatementSet::new(all.collect())
        };
        self.sets.there.get_or_init(make).clone()
    }

    /// What its server has under the unnamed statement's name, of what the session knows.
    pub(crate) fn unnamed_there(&self) -> UnnamedThere {
        match self.unnamed.as_ref().map(|saved| saved.presence) {
            Some(Presence::Present) => UnnamedThere::Own(self.sets.unnamed),
            Some(Presence::StandIn | Presence::Differs) => UnnamedThere::Other,
            Some(Presence::Absent | Presence::Cleared) | None => UnnamedThere::Unknown,
        }
    }

    /// Whether the client has an unnamed statement, wherever it is.
    pub(crate) fn has_unnamed(&self) -> bool {
        self.unnamed.is_some()
    }

    /// The number of the unnamed statement that the client has, wherever it is.
    pub(crate) fn unnamed_number(&self) -> Option<u32> {
        self.unnamed.as_ref().map(|_| self.sets.unnamed)
    }

    /// A connection was taken, at an idle point, that has these statements; those that the session cannot use were closed.
    /// `unnamed` tells whether it still has the unnamed statement that the session has left there.
    pub(crate) fn connection_taken(
        &mut self,
        there: Option<&Arc<StatementSet>>,
        reading: ReadingRules,
        unnamed: UnnamedKept,
    ) {
        let is_same = match (self.sets.there.get(), there) {
            (Some(Some(before)), Some(there)) => Arc::ptr_eq(before, there),
            (Some(None), None) => true,
            (Some(_) | None, _) => false,
        };
        let is_own_there = unnamed == UnnamedKept::Own;
        let is_unnamed_kept = match &self.unnamed {
            None => true,
            Some(saved) => is_own_there && saved.presence == Presence::Present,
        };
        if is_same && is_unnamed_kept {
            return;
        }
        if !is_same {
            self.named_taken(there, reading);
        }
        if is_own_there {
            self.put(b"", Presence::Present);
        } else if !is_unnamed_kept {
            self.unnamed_lost();
        }
        self.count_absent();
    }

    #[cold]
    fn named_taken(&mut self, there: Option<&Arc<StatementSet>>, reading: ReadingRules) {
        let wanted = self.wanted();
        if there.is_some_and(|there| is_shared(there, wanted.as_ref())) {
            self.named.values_mut().for_each(|saved| saved.presence = Presence::Present);
            return self.sets.moved();
        }
        let own = self.named.values_mut().filter(|saved| saved.wire == Wire::OfClient);
        own.for_each(|saved| saved.presence = Presence::Absent);
        self.sets.moved();
        let Some(there) = there else { return };
        let mut usable = 0;
        for one in there.matches(wanted.as_deref(), reading) {
            if let Match::Usable(shared) = one
                && let Some(saved) = self.named.get_mut(&shared.name)
            {
                saved.presence = Presence::Present;
                saved.shared = OnceCell::from(Arc::clone(shared));
                usable += 1;
            }
        }
        if Some(usable) == wanted.map(|wanted| wanted.len()) && usable == there.len() {
            // Sessions with the same statements come to share them.
            self.sets.wanted = OnceCell::from(Some(Arc::clone(there)));
            self.sets.there = self.sets.wanted.clone();
        }
    }
}

/// See [`Prepared::unnamed_there`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnnamedThere {
    /// The client's, of this number.
    Own(u32),
    /// Another, made for the client's.
    Other,
    Unknown,
}

/// Whether a connection has the unnamed statement that its session has left there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnnamedKept {
    Own,
    Lost,
}
