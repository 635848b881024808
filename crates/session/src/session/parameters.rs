//! What the client knows of its server: parameters, and the process IDs in notifications.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::ParameterStatus;
use trunkline_codec::ids::ProcessId;

use super::Session;
use crate::carried::parameters::{LoginParameters, NotFollowed, RECOVERY, overlaid};
use crate::carried::processes::Processes;
use crate::carried::residue::{RoleReport, RoleTold};
use crate::conversation::state::Mode;
use crate::pin::PinReason;
use crate::settings::{Mobility, ServerRole};
use crate::sql::suspicious_names::names_temporary_schema;
use crate::step::ViolationError;

/// Type byte and length word.
const HEADER: usize = 5;

impl Session {
    /// The parameters that its server reports as they are without what the session has set: names and values.
    pub fn defaults(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let followed = self.carried.followed.as_deref();
        self.carried.parameters.defaults(move |name| followed.is_some_and(|followed| followed.has_set(name)))
    }

    /// The parameters that the login of the present connection reported, and what was reported since.
    #[inline]
    pub(crate) fn reported_on_connection(&self) -> (Arc<LoginParameters>, Option<Arc<[u8]>>) {
        let (login, changed) = self.carried.parameters.shared();
        let is_told = self.announce.as_ref().is_none_or(|announce| announce.parameters().is_empty());
        let is_other_role = |other: &Arc<LoginParameters>| {
            self.carried.marks.role_told() == RoleTold::AtLogin(RoleReport::AtLogin)
                && login.is_same_but_for_recovery(other)
        };
        match self.carried.marks.login() {
            None if is_told => (Arc::clone(login), changed.cloned()),
            Some(other) if is_told && is_other_role(other) => (Arc::clone(other), changed.cloned()),
            other => self.reported_on_other(other.unwrap_or(login)),
        }
    }

    /// The same, of a connection whose login was not the client's own, or before the client is told what differs.
    #[cold]
    fn reported_on_other(&self, login: &Arc<LoginParameters>) -> (Arc<LoginParameters>, Option<Arc<[u8]>>) {
        let (own, changed) = self.carried.parameters.shared();
        let changed = changed.map(|changed| &**changed).unwrap_or_default();
        let announced = self.announce.as_ref().map(|announce| announce.parameters()).unwrap_or_default();
        let own = match self.carried.marks.role_told() {
            // The client was not told of it.
            RoleTold::AtLogin(RoleReport::AtLogin) => own.without_recovery(),
            RoleTold::AtLogin(RoleReport::Promoted) | RoleTold::Present => [own.messages(), &[]],
        };
        let now = overlaid(login, Some(&own.concat()), &[changed, announced].concat());
        (Arc::clone(login), now)
    }

    /// The server reports a parameter to the client.
    #[cold]
    pub(crate) fn follow_parameter(&mut self, body: &[u8]) -> Result<(), ViolationError> {
        let Ok(ParameterStatus { name, value }) = ParameterStatus::parse(body) else { return Ok(()) };
        let followed = match self.mode {
            Mode::Tracked => self.parameter_reported(name, value),
            Mode::Untracked(_) | Mode::Opaque => self.carried.parameters.count(name),
        };
        match followed {
            Ok(()) => Ok(()),
            Err(NotFollowed::TooLarge) => {
                self.followed().pin(PinReason::SettingsTooLarge);
                Ok(())
            }
            Err(NotFollowed::TooMany) => Err(ViolationError::TooManyParameters),
        }
    }

    fn parameter_reported(&mut self, name: &[u8], value: &[u8]) -> Result<(), NotFollowed> {
        if name == RECOVERY && value == b"off" {
            self.conversation.role = ServerRole::Primary;
            let marks = &mut self.carried.marks;
            if let RoleTold::AtLogin(_) = marks.role_told() {
                marks.tell_role(RoleTold::AtLogin(RoleReport::Promoted));
            }
        }
        if let Some(announce) = &mut self.announce {
            announce.forget_parameter(name);
        }
        if self.mobility == Mobility::Fixed {
            return self.carried.parameters.count(name);
        }
        if let Some(followed) = &mut self.carried.followed {
            followed.parameter_reported(name);
        }
        // SQL is read by the rules that hold while it is on.
        if name == b"standard_conforming_strings" && value != b"on" {
            self.followed().pin(PinReason::UnknownSetting);
        }
        // PostgreSQL 18 reports it.
        if name == b"search_path" && names_temporary_schema(value) {
            self.followed().pin(PinReason::TemporaryObject);
        }
        self.carried.parameters.tell(name, value)
    }

    /// The `search_path` of the login names the schema of temporary objects: the session keeps its server.
    #[cold]
    pub fn pin_temporary_path(&mut self) {
        if self.mobility != Mobility::Fixed {
            self.followed().pin(PinReason::TemporaryPath);
        }
    }

    /// At the start: whether the login's parameters are followed, and how they say that SQL is read.
    pub(crate) fn follow_login(&mut self) {
        if self.mobility == Mobility::Fixed {
            return;
        }
        if self.carried.parameters.is_given_up() {
            self.followed().pin(PinReason::SettingsTooLarge);
        }
        if self.carried.parameters.has_other_strings_at_login() {
            self.followed().pin(PinReason::StringsAtLogin);
        }
    }
}

impl Session {
    /// The process ID in the login's BackendKeyData, if the server sent one.
    pub fn process_at_login(&mut self, process: Option<ProcessId>) {
        self.carried.processes = Processes { told: process, own: process };
    }

    /// The process ID of the session on the server that was taken, if it sent one. Call this after
    /// [`Session::server_taken`].
    pub fn server_process(&mut self, process: Option<ProcessId>) {
        self.carried.processes.own = process;
    }

    /// The NotificationResponse, or its first part, that goes to the client in place of this one; `None` when it goes
    /// unchanged.
    pub(crate) fn notification_instead(&self, message: &[u8]) -> Option<Bytes> {
        let (header, after) = message.split_at_checked(HEADER)?;
        let (process, rest) = after.split_first_chunk::<4>()?;
        let instead = self.carried.processes.exchanged(ProcessId(i32::from_be_bytes(*process)))?;
        let mut out = BytesMut::with_capacity(message.len());
        out.extend_from_slice(header);
        out.extend_from_slice(&instead.0.to_be_bytes());
        out.extend_from_slice(rest);
        Some(out.freeze())
    }
}
