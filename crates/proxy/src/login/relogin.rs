//! What the proxy keeps of a login, to take another server for the session.

use std::sync::Arc;

use trunkline_auth::credentials::ServerCredentials;
use trunkline_codec::startup::StartupMessage;

use super::ApplicationName;
use crate::context::{UserLogin, Worker};

/// What logs the session in on another server.
#[derive(Debug)]
pub(crate) struct Relogin {
    /// The same for all sessions of a thread that log in alike.
    pub(crate) login: Arc<UserLogin>,
    /// The `application_name` in that startup packet, if it is not the client's own.
    pub(crate) application_name: Option<Box<ApplicationName>>,
}

impl Relogin {
    pub(super) fn new(worker: &Worker, startup: StartupMessage, credentials: ServerCredentials) -> Self {
        let login = worker.logins.borrow_mut().share(UserLogin { startup, credentials });
        Relogin { login, application_name: None }
    }
}
