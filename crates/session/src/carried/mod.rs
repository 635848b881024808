//! The session state that the client keeps from login to end, on whatever server.
//!
//! - [`followed`]: what the session changed on its server, read from its SQL and confirmed by the server: settings
//!   ([`gucs`]), prepared statements with their SQL for the log ([`prepared`]), and the reasons that pin it.
//! - [`executed`], [`function_call`], [`long`]: statements run by SQL EXECUTE, functions called by message, SQL that is
//!   sent in parts.
//! - [`unsettled`]: called functions whose effects are not known yet; [`recent_calls`]: called functions that may have
//!   been replaced; [`call_proof`]: whether they were; [`read_back`]: values that functions have set; [`pin_question`]: whether
//!   what pins is still there; [`login_values`]: values from the login.
//! - [`definitions`]: what the session has made that runs functions; [`earlier`]: statements that may run what
//!   others have made since they were read.
//! - [`encoding`]: the client_encoding under which a text was sent.
//! - [`parameters`], [`processes`]: what the client knows of its server.
//! - [`temporary`]: the schema of temporary objects, which stays on a connection.
//! - `shown`: what a pool and the next client are shown of a connection.
//! - [`shape`]: what a statement takes and returns.
//! - [`connection`]: what a server connection has, of its session and of those before; [`statement_set`]: prepared
//!   statements as a value; [`content`]: those that sessions share by their content; [`residue`]: traces of the session's own, and of others; [`mark`]: how a session knows again what it has left there.
//! - [`diff`]: what another server connection lacks of it; [`alignment`]: the messages that bring it there.

pub(crate) mod alignment;
pub(crate) mod call_proof;
pub(crate) mod connection;
pub(crate) mod content;
mod definitions;
pub(crate) mod diff;
mod earlier;
pub(crate) mod encoding;
pub(crate) mod executed;
pub(crate) mod followed;
pub(crate) mod function_call;
pub(crate) mod gucs;
pub(crate) mod login_values;
pub(crate) mod long;
pub(crate) mod mark;
pub(crate) mod parameters;
pub(crate) mod pin_question;
pub(crate) mod prepared;
pub(crate) mod processes;
pub(crate) mod read_back;
pub(crate) mod recent_calls;
pub(crate) mod residue;
pub(crate) mod search_path;
pub(crate) mod shape;
mod shown;
pub(crate) mod statement_set;
pub(crate) mod temporary;
pub(crate) mod unsettled;
use std::sync::Arc;

use self::content::Contents;
use self::followed::Followed;
use self::parameters::{LoginParameters, ReportedParameters};
use self::prepared::Prepared;
use self::processes::Processes;
use self::residue::Marks;
use crate::sql::functions::Functions;

/// See the module.
#[derive(Debug)]
pub(crate) struct Carried {
    /// What the session changed on its server; exists only if it did, or if its statements are logged.
    pub(crate) followed: Option<Box<Followed>>,
    /// What its connection has under names made from content, while nothing is followed.
    pub(crate) contents: Contents,
    /// The parameters that the client knows; for a session that may move.
    pub(crate) parameters: ReportedParameters,
    pub(crate) processes: Processes,
    /// What it leaves on connections besides.
    pub(crate) marks: Marks,
    /// Functions of its database; `None` when they are trusted.
    pub(crate) functions: Option<Arc<Functions>>,
}

impl Carried {
    /// Of a session that has just logged in. `logged` is what keeps its SQL for the log, if anything does.
    pub(crate) fn new(logged: Option<Prepared>, told: Arc<LoginParameters>) -> Self {
        Carried {
            followed: logged.map(|prepared| Box::new(Followed::new(None, prepared))),
            contents: Contents::default(),
            parameters: ReportedParameters::new(told),
            processes: Processes::default(),
            marks: Marks::default(),
            functions: None,
        }
    }

    /// What the session changes on its server is followed from now on.
    pub(crate) fn follow(&mut self) -> &mut Followed {
        let Self { functions, contents, .. } = self;
        self.followed.get_or_insert_with(|| {
            let mut prepared = Prepared::for_moves(0);
            prepared.contents = std::mem::take(contents);
            Box::new(Followed::new(functions.clone(), prepared))
        })
    }
}
