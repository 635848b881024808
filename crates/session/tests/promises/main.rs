//! What a session promises, rule by rule.

mod copy;
mod effects;
mod followed;
mod functions;
mod idle;
mod kept;
mod loss;
mod moving;
mod names;
mod notified;
mod own_refused;
mod pins_end;
mod pipeline;
mod pooled;
mod repeating;
mod reported;
mod settings;
mod shapes;
mod statements;
mod talk;
mod transactions;
mod utilities;
