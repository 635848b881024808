//! What belongs to the client for life and is carried from server to server.
//!
//! - [`followed`]: what the session changed on its server, read from its SQL and confirmed by the server: settings
//!   ([`gucs`]), prepared statements ([`prepared`]), and why it cannot leave.
//! - [`executed`], [`function_call`], [`long`]: statements run by SQL EXECUTE, functions called by message, SQL that is
//!   sent in parts.
//! - [`unsettled`]: functions whose effects are yet to be known; [`recent_calls`]: those that have changed meanwhile;
//!   [`read_back`]: values that they have set; [`login_values`]: those that the login gave.
//! - [`encoding`]: under which client_encoding a text was sent.
//! - [`parameters`], [`processes`]: what the client was told of its server.
//! - [`statements`], [`texts`]: which SQL a prepared statement or portal stands for, for the log.
//! - [`shape`]: what a statement takes and returns.
//! - [`alignment`]: how another server is told.

pub(crate) mod alignment;
pub(crate) mod encoding;
pub(crate) mod executed;
pub(crate) mod followed;
pub(crate) mod function_call;
pub(crate) mod gucs;
pub(crate) mod login_values;
pub(crate) mod long;
pub(crate) mod parameters;
pub(crate) mod prepared;
pub(crate) mod processes;
pub(crate) mod read_back;
pub(crate) mod recent_calls;
pub(crate) mod shape;
pub(crate) mod statements;
pub(crate) mod texts;
pub(crate) mod unsettled;
use std::sync::Arc;

use self::followed::Followed;
use self::parameters::{LoginParameters, Parameters};
use self::processes::Processes;
use self::statements::Statements;
use crate::sql::functions::Functions;

/// What belongs to the client for life.
#[derive(Debug)]
pub(crate) struct Carried {
    /// What the session changed on its server; exists only if it did.
    pub(crate) followed: Option<Box<Followed>>,
    /// What the client was told; for a session that may move.
    pub(crate) parameters: Parameters,
    pub(crate) processes: Processes,
    /// Functions of its database; `None` when they are trusted.
    pub(crate) functions: Option<Arc<Functions>>,
    /// `None` when no SQL is kept.
    pub(crate) statements: Option<Box<Statements>>,
}

impl Carried {
    pub(crate) fn new(statements: Option<Box<Statements>>, told: Arc<LoginParameters>) -> Self {
        Carried {
            followed: None,
            parameters: Parameters::new(told),
            processes: Processes::default(),
            functions: None,
            statements,
        }
    }
}
