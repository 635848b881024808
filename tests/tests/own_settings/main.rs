//! A session that moves keeps its settings: those it set, and those it logged in with.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod given;
mod movers;
mod set;
