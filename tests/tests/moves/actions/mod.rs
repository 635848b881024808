//! What a script may do: each action writes a few steps.

mod cursors;
mod ddl;
mod functions;
mod locks;
mod moved;
mod settings;
pub(crate) use settings::IDLE_TIMEOUT;
mod statements;
mod transactions;

use super::generator::Draft;

pub(crate) use statements::{STATEMENTS, bind};

/// One thing that a client, or the primary, may do.
pub(crate) struct Action {
    /// How often it is drawn, compared with the others.
    pub(crate) weight: usize,
    /// Writes its steps.
    pub(crate) write: fn(&mut Draft),
}

/// All of them.
pub(crate) const ACTIONS: [&[Action]; 8] = [
    settings::ACTIONS,
    statements::ACTIONS,
    transactions::ACTIONS,
    cursors::ACTIONS,
    locks::ACTIONS,
    functions::ACTIONS,
    ddl::ACTIONS,
    moved::ACTIONS,
];
