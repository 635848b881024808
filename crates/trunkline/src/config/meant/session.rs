//! `[session]` as meant.

use trunkline_proxy::settings::OnTerminate;

use crate::config::typed::OnTerminateWord;

/// What an operator's `pg_terminate_backend` does to a session.
pub(super) fn on_terminate(word: OnTerminateWord) -> OnTerminate {
    match word {
        OnTerminateWord::End => OnTerminate::End,
        OnTerminateWord::Move => OnTerminate::Move,
    }
}
