//! What a source may ask besides its own settings.

/// What is the same for all sources of a proxy, such as who can be asked by SQL.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {}
