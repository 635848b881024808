//! What a server connection has of the sessions that were on it.

use std::sync::Arc;

use super::alignment::{Alignment, Writer};
use super::call_proof::{compare, question_of_calls};
use super::content::Contents;
use super::diff::SessionState;
use super::gucs::{Gucs, have_same_settings};
use super::mark::OwnMark;
use super::parameters::{LoginParameters, RECOVERY, overlaid, statuses};
use super::statement_set::StatementSet;
use crate::pin::PinReason;
use crate::sql::functions::{FingerprintComparison, Functions};

/// What a server connection has. It is a value: a pool keeps it beside an idle connection, and [`crate::diff`] says what
/// the connection lacks of what the next session wants. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub struct ConnectionState {
    /// The login has brought a statement_timeout, of its startup packet or of defaults.
    pub has_login_timeout: bool,
    pub(crate) unnamed: UnnamedLeft,
    pub(crate) own: OwnLeft,
    pub(crate) taint: Option<Taint>,
    /// The functions of which some were called, for as long as those may be others than were read.
    pub(crate) unproven: Option<Arc<Functions>>,
    pub(crate) settings: Option<Arc<Gucs>>,
    pub(crate) statements: Option<Arc<StatementSet>>,
    /// Statements under names made from content.
    pub(crate) contents: Contents,
    /// How many of those may be kept.
    pub(crate) contents_max: u32,
    /// Whose use of sequences `currval` and `lastval` show.
    pub(crate) sequences: Option<OwnMark>,
    pub(crate) login: Arc<LoginParameters>,
    /// Temporary objects were made on it: their schema stays.
    pub(crate) has_temporary_schema: bool,
    /// Parameters that were reported since the login, as ParameterStatus messages.
    pub(crate) changed: Option<Arc<[u8]>>,
}

/// Why no other session may have a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taint {
    /// `DISCARD ALL` undoes it.
    UntilDiscardAll(PinReason),
    /// Nothing undoes all of it.
    Lasting(PinReason),
}

impl Taint {
    pub(crate) fn reason(self) -> PinReason {
        match self {
            Self::UntilDiscardAll(reason) | Self::Lasting(reason) => reason,
        }
    }
}

/// Whose unnamed statement a connection has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum UnnamedLeft {
    #[default]
    None,
    /// The one that this names.
    Of(OwnMark),
    /// Of a session that no longer knows it.
    OfAnyone,
}

/// Whether a request of the proxy itself has failed, so that its statement may be left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OwnLeft {
    #[default]
    Nothing,
    Statement,
}

impl ConnectionState {
    /// What a connection has that was just logged in to. `login` has the parameters that its server reported then.
    #[must_use]
    pub fn logged_in(has_login_timeout: bool, login: Arc<LoginParameters>) -> Self {
        Self { has_login_timeout, login, ..Self::default() }
    }

    /// A Query of nobody's was run: the unnamed statement is gone.
    pub fn unnamed_replaced(&mut self) {
        self.unnamed = UnnamedLeft::None;
    }

    /// Why no other session may have the connection as it is.
    #[must_use]
    pub fn tainted(&self) -> Option<PinReason> {
        self.taint.map(Taint::reason)
    }

    /// A hash of settings, prepared statements and whether there is a schema of temporary objects: equal where these are. A connection with the
    /// [`SessionState::fingerprint`] of a session needs nothing for it, as a rule; [`crate::diff`] decides.
    #[must_use]
    #[inline]
    pub fn fingerprint(&self) -> u64 {
        fingerprint(self.settings.as_deref(), self.statements.as_deref(), self.has_temporary_schema)
    }

    /// Whether the connection can be brought to what a session wants: it is not tainted, and knows no custom setting and no
    /// schema of temporary objects that the session does not know. Both exist until their connection ends.
    #[must_use]
    pub fn fits(&self, wanted: &SessionState) -> bool {
        let is_known = |key: &str| wanted.settings.as_ref().is_some_and(|own| own.has(key.as_bytes()));
        self.taint.is_none()
            && self.temporary_schema_fits(wanted)
            && (have_same_settings(self.settings.as_ref(), wanted.settings.as_ref())
                || self.settings.iter().flat_map(|settings| settings.custom()).all(is_known))
    }

    /// What the connection has once `DISCARD ALL` was run on it, see [`Self::reset`], and its answers were noted by
    /// [`Self::reported`]. `None` when that does not undo all that was done: close the connection then.
    #[must_use]
    pub fn after_discard_all(&self) -> Option<Self> {
        let has_custom = self.settings.as_ref().is_some_and(|settings| settings.custom().next().is_some());
        // Others than were read may have done what is not undone.
        let is_unproven = self.unproven.is_some();
        if has_custom
            || is_unproven
            || self.has_temporary_schema
            || matches!(self.taint, Some(Taint::Lasting(_)))
        {
            return None;
        }
        Some(Self {
            has_login_timeout: self.has_login_timeout,
            // DISCARD ALL leaves it, but the reset closes it.
            unnamed: UnnamedLeft::None,
            login: Arc::clone(&self.login),
            changed: self.changed.clone(),
            ..Self::default()
        })
    }

    /// What asks the server of the connection whether the functions that were called are those that were read, before
    /// [`Self::after_discard_all`]; `None` where that is known. The row of the answer is for [`Self::calls_told`].
    #[must_use]
    pub fn proof(&self) -> Option<Alignment> {
        let is_lasting = matches!(self.taint, Some(Taint::Lasting(_)));
        (self.unproven.is_some() && !is_lasting).then(|| {
            let mut out = Writer::default();
            out.run(&question_of_calls());
            out.finish()
        })
    }

    /// The server has answered [`Self::proof`] by this row.
    pub fn calls_told(&mut self, row: Option<&[u8]>) {
        self.unproven = self.unproven.take().filter(|f| compare(f, row) != FingerprintComparison::Same);
    }

    /// The messages that run `DISCARD ALL`.
    #[must_use]
    pub fn reset() -> Alignment {
        let mut out = Writer::default();
        out.run(b"DISCARD ALL");
        out.finish()
    }

    /// Whether its server was a standby at its login, and has reported since that it is none.
    #[inline]
    pub(crate) fn is_promoted(&self) -> bool {
        self.changed.as_deref().is_some_and(|changed| statuses(changed).any(|(name, _)| name == RECOVERY))
    }

    /// The parameters that its server reported at its login.
    #[must_use]
    pub fn login_parameters(&self) -> &Arc<LoginParameters> {
        &self.login
    }

    /// The server has reported these parameters since: ParameterStatus messages, other messages among them are ignored.
    /// For what it reports while the connection is idle, and while it is reset.
    pub fn reported(&mut self, messages: &[u8]) {
        if !messages.is_empty() {
            self.changed = overlaid(&self.login, self.changed.as_deref(), messages);
        }
    }
}

/// See [`ConnectionState::fingerprint`].
#[inline]
pub(crate) fn fingerprint(
    settings: Option<&Gucs>,
    statements: Option<&StatementSet>,
    has_temporary_schema: bool,
) -> u64 {
    let settings = settings.map_or(0, Gucs::fingerprint);
    let statements = statements.map_or(0, StatementSet::fingerprint);
    settings.rotate_left(1) ^ statements ^ u64::from(has_temporary_schema)
}
