//! The schema of temporary objects, which stays on a connection as long as that lasts, whatever becomes of the objects.
//!
//! `current_schemas(true)` and `pg_my_temp_schema()` show it, and `temp_buffers` can no longer be set. So a connection with such
//! a schema is only for sessions that have had temporary objects: these know of one on a direct connection, too.

use super::connection::ConnectionState;
use super::diff::SessionState;
use super::followed::Followed;
use super::gucs::have_same_settings;
use crate::pin::PinReason;

/// Where a session has had temporary objects that it may have no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TemporarySchema {
    #[default]
    Nowhere,
    /// On another connection than its present one.
    Elsewhere,
    /// Its present connection has such a schema, by itself or by a session before.
    Here,
}

impl Followed {
    /// Whether the connection has such a schema.
    #[inline]
    pub(crate) fn has_temporary_schema(&self) -> bool {
        self.temporary == TemporarySchema::Here || self.pins.contains(PinReason::TemporaryObject)
    }

    /// Whether the session has had temporary objects.
    #[inline]
    pub(crate) fn knows_temporary_schema(&self) -> bool {
        self.temporary != TemporarySchema::Nowhere || self.pins.contains(PinReason::TemporaryObject)
    }

    /// What there is of temporary objects goes, and the schema stays.
    pub(super) fn keep_temporary_schema(&mut self) {
        if self.has_temporary_schema() {
            self.temporary = TemporarySchema::Here;
        }
    }

    /// The session goes on with a connection that has such a schema, or has none.
    #[inline]
    pub(super) fn take_temporary_schema(&mut self, from: &ConnectionState) {
        if from.has_temporary_schema {
            self.temporary = TemporarySchema::Here;
        } else if self.temporary == TemporarySchema::Here {
            self.temporary = TemporarySchema::Elsewhere;
        }
    }
}

impl ConnectionState {
    /// Whether the session knows of such a schema where there is one, and has no need to set what cannot be set there.
    #[inline]
    pub(super) fn temporary_schema_fits(&self, wanted: &SessionState) -> bool {
        let has_buffers = |state: &Self| {
            let mut both = state.settings.iter().chain(&wanted.settings);
            both.any(|settings| settings.has(b"temp_buffers"))
        };
        !self.has_temporary_schema
            || (wanted.knows_temporary_schema
                && (!has_buffers(self)
                    || have_same_settings(self.settings.as_ref(), wanted.settings.as_ref())))
    }
}
