//! What the present server connection has besides what the session follows: traces of its own, and of the sessions that had
//! the connection before.

use std::cell::OnceCell;
use std::sync::Arc;

use super::connection::OwnLeft;
use super::mark::OwnMark;
use super::parameters::LoginParameters;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Residue {
    pub(crate) sequences: SequenceUse,
    pub(crate) inserts: InsertUse,
    pub(crate) unnamed: ForeignUnnamed,
    pub(crate) own: OwnLeft,
    /// See [`super::connection::ConnectionState`].
    pub(crate) has_login_timeout: bool,
}

/// Whether the session may have used sequences on its connection, so that `currval` and `lastval` would tell of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SequenceUse {
    #[default]
    None,
    Possible,
}

/// Whether a statement of the session has added rows on its connection, whose client may ask `currval` or `lastval` next for
/// what a column's default took from a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum InsertUse {
    #[default]
    None,
    Possible,
}

/// Whether the connection has an unnamed statement of another session.
///
/// ```text
///           Parse "" or Query sent            its answer
///  Present ──────────────────────> Replaced ─────────────> None
///     ^              Sync sent         │
///     └────────────────────────────────┘
///  (a series that has failed is skipped up to its Sync, so that nothing was replaced)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ForeignUnnamed {
    #[default]
    None,
    Present,
    /// What was sent since replaces it before anything else in the same series could use it.
    Replaced,
}

/// What the client is told of its servers' role, by the parameter `in_hot_standby`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RoleTold {
    /// As each is.
    #[default]
    Present,
    /// As the first one was, whatever comes next; and what the present one reports.
    AtLogin(RoleReport),
}

/// Whether the server of a connection has another role than it reported at the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleReport {
    AtLogin,
    /// It is a standby no more.
    Promoted,
}

/// Tells what this session has left on connections from what others have. Exists only in sessions that need it.
#[derive(Debug, Default)]
pub(crate) struct Marks(OnceCell<Box<MarksMade>>);

#[derive(Debug, Default)]
struct MarksMade {
    session: Arc<()>,
    /// How often the session has begun to use sequences on a connection.
    uses: u32,
    /// The parameters that the connection's login reported, where those are not the client's own.
    login: Option<Arc<LoginParameters>>,
    role_told: RoleTold,
}

impl Marks {
    fn made(&self) -> &MarksMade {
        self.0.get_or_init(Box::default)
    }

    /// Names the session's latest use of sequences.
    pub(crate) fn of_sequences(&self) -> OwnMark {
        let made = self.made();
        OwnMark::new(&made.session, made.uses)
    }

    /// Names the unnamed statement of this number.
    pub(crate) fn of_unnamed(&self, number: u32) -> OwnMark {
        OwnMark::new(&self.made().session, number)
    }

    /// Whether a mark names this session's unnamed statement of that number.
    pub(crate) fn is_unnamed(&self, mark: &OwnMark, number: u32) -> bool {
        self.0.get().is_some_and(|made| mark.is(&made.session, number))
    }

    /// Whether a mark names the latest use of sequences.
    pub(crate) fn is_latest_use(&self, mark: &OwnMark) -> bool {
        self.0.get().is_some_and(|made| mark.is(&made.session, made.uses))
    }

    /// Sequences are used on a connection, for the first time there.
    #[cold]
    pub(crate) fn sequences_used(&mut self) {
        if let Some(made) = self.0.get_mut() {
            made.uses = made.uses.wrapping_add(1);
        }
    }

    /// The parameters that the connection's login reported; `None` where those are the client's own.
    #[inline]
    pub(crate) fn login(&self) -> Option<&Arc<LoginParameters>> {
        self.0.get()?.login.as_ref()
    }

    /// What the client is told of its servers' role.
    #[inline]
    pub(crate) fn role_told(&self) -> RoleTold {
        self.0.get().map_or(RoleTold::Present, |made| made.role_told)
    }

    /// See [`Self::role_told`].
    pub(crate) fn tell_role(&mut self, told: RoleTold) {
        self.made();
        if let Some(made) = self.0.get_mut() {
            made.role_told = told;
        }
    }

    /// See [`Self::login`].
    #[inline]
    pub(crate) fn set_login(&mut self, login: Option<&Arc<LoginParameters>>) {
        if login.is_some() {
            self.made();
        }
        if let Some(made) = self.0.get_mut() {
            made.login = login.cloned();
        }
    }
}
