//! `[session]`, checked.

use trunkline_proxy::settings::{OnTerminate, UserFunctions};

use crate::config::raw::{FunctionsWord, OnTerminateWord};

/// What an operator's `pg_terminate_backend` does to a session.
pub(super) fn on_terminate(word: OnTerminateWord) -> OnTerminate {
    match word {
        OnTerminateWord::End => OnTerminate::End,
        OnTerminateWord::Move => OnTerminate::Move,
    }
}

/// How calls of user-defined functions are treated.
pub(super) fn user_functions(word: FunctionsWord) -> UserFunctions {
    match word {
        FunctionsWord::Read => UserFunctions::Read,
        FunctionsWord::Trust => UserFunctions::Trust,
        FunctionsWord::Pin => UserFunctions::Pin,
    }
}
