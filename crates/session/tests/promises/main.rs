//! What a session promises, rule by rule.

mod copy;
mod idle;
mod loss;
mod pipeline;
mod statements;
mod talk;
