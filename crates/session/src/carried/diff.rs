//! What a server connection lacks of what a session wants.

use std::sync::Arc;

use trunkline_codec::backend::TransactionStatus;

use super::alignment::{Alignment, Writer};
use super::connection::{ConnectionState, OwnLeft, fingerprint};
use super::gucs::{Gucs, have_same_settings, read_alike};
use super::mark::OwnMark;
use super::statement_set::{Match, ReadingRules, StatementSet, is_shared};
use crate::names::OWN_STATEMENT;

/// What a session wants of its server connection. Its prepared statements are prepared there when they are used.
#[derive(Clone, Debug)]
pub struct SessionState {
    pub(crate) settings: Option<Arc<Gucs>>,
    pub(crate) statements: Option<Arc<StatementSet>>,
    /// Those that the session's last connection had: it finds these as it has left them.
    pub(crate) left: Option<Arc<StatementSet>>,
    pub(crate) sequences: Option<OwnMark>,
    /// It has had temporary objects.
    pub(crate) knows_temporary_schema: bool,
    pub(crate) status: TransactionStatus,
    /// The SQL with which its client has begun the transaction, in which nothing was done yet.
    pub(crate) begin: Option<Arc<[u8]>>,
}

impl SessionState {
    /// The transaction of the session was begun by this SQL, without a server; `None` if by a server.
    pub fn begin(&mut self, sql: Option<Arc<[u8]>>) {
        self.begin = sql;
    }

    /// Of a session that has just logged in.
    #[must_use]
    pub fn new() -> Self {
        Self {
            settings: None,
            statements: None,
            left: None,
            sequences: None,
            knows_temporary_schema: false,
            status: TransactionStatus::Idle,
            begin: None,
        }
    }

    /// See [`ConnectionState::fingerprint`].
    #[must_use]
    #[inline]
    pub fn fingerprint(&self) -> u64 {
        fingerprint(self.settings.as_deref(), self.statements.as_deref(), self.knows_temporary_schema)
    }
}

impl Default for SessionState {
    fn default() -> Self {
        Self::new()
    }
}

/// The messages that bring a connection which has `from` to `to`; none where it has all of that already. Statements of
/// other sessions are closed, but for an unnamed one: the session closes that itself before it could use it.
///
/// The connection [fits](ConnectionState::fits).
#[must_use]
pub fn diff(from: &ConnectionState, to: &SessionState) -> Alignment {
    let has_same = have_same_settings(from.settings.as_ref(), to.settings.as_ref());
    let is_same = has_same
        && has_no_foreign(from, to)
        && (from.sequences.is_none() || from.sequences == to.sequences)
        && from.own == OwnLeft::Nothing
        && !from.contents.has_surplus(from.contents_max)
        && to.status != TransactionStatus::Failed
        && to.begin.is_none();
    if is_same { Alignment::default() } else { written(from, to) }
}

/// Whether the statements of a connection are the session's own, as a whole.
fn has_no_foreign(from: &ConnectionState, to: &SessionState) -> bool {
    let Some(there) = &from.statements else { return true };
    is_shared(there, to.statements.as_ref()) || is_shared(there, to.left.as_ref())
}

#[cold]
fn written(from: &ConnectionState, to: &SessionState) -> Alignment {
    let mut out = Writer::default();
    if !have_same_settings(from.settings.as_ref(), to.settings.as_ref()) {
        let (none, timeout) = (Gucs::default(), from.has_login_timeout);
        from.settings.as_deref().unwrap_or(&none).write_reset(&mut out);
        to.settings.as_deref().unwrap_or(&none).write(&mut out, timeout);
    }
    if from.sequences.is_some() && from.sequences != to.sequences {
        out.run(b"DISCARD SEQUENCES");
    }
    if from.own == OwnLeft::Statement {
        out.close(OWN_STATEMENT);
    }
    if let Some(there) = from.statements.as_deref().filter(|_| !has_no_foreign(from, to)) {
        close_foreign(&mut out, there, from, to);
    }
    from.contents.surplus(from.contents_max).into_iter().for_each(|id| out.close(&id.name()));
    match (to.status, &to.begin) {
        (TransactionStatus::Failed, _) => out.finish_failed(),
        (TransactionStatus::InTransaction, Some(begin)) => out.finish_begun(begin),
        // No session in a transaction that could go on leaves its server.
        (TransactionStatus::Idle | TransactionStatus::InTransaction, _) => out.finish(),
    }
}

/// Whether SQL is read alike on a connection and by a session.
pub(crate) fn reading(from: &ConnectionState, to: Option<&Arc<Gucs>>) -> ReadingRules {
    if read_alike(from.settings.as_ref(), to) { ReadingRules::Same } else { ReadingRules::Other }
}

/// Whether the messages of [`diff`] run something: that leaves the connection without an unnamed statement.
pub(crate) fn drops_unnamed(from: &ConnectionState, to: &SessionState) -> bool {
    !have_same_settings(from.settings.as_ref(), to.settings.as_ref())
        || to.begin.is_some()
        || (from.sequences.is_some() && from.sequences != to.sequences)
        || from.statements.as_deref().is_some_and(|there| {
            !has_no_foreign(from, to) && drops_all(from, there, foreign(there, from, to).count())
        })
}

/// Whether so many foreign statements of these are dropped by one that drops all of the connection.
fn drops_all(from: &ConnectionState, there: &StatementSet, foreign: usize) -> bool {
    foreign > 1 && foreign == there.len() && from.contents.is_empty()
}

fn foreign<'a>(
    there: &'a StatementSet,
    from: &ConnectionState,
    to: &'a SessionState,
) -> impl Iterator<Item = &'a [u8]> {
    let reading = reading(from, to.settings.as_ref());
    there.matches(to.statements.as_deref(), reading).filter_map(|it| match it {
        Match::Foreign(foreign) => Some(&*foreign.name),
        Match::Usable(_) => None,
    })
}

fn close_foreign(out: &mut Writer, there: &StatementSet, from: &ConnectionState, to: &SessionState) {
    let foreign: Vec<&[u8]> = foreign(there, from, to).collect();
    if drops_all(from, there, foreign.len()) {
        return out.run(b"DEALLOCATE ALL");
    }
    foreign.into_iter().for_each(|name| out.close(name));
}
