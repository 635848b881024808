//! What a source may ask besides its own settings.

use trunkline_health::Health;

/// What is the same for all sources of a proxy.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The servers that are known, and the login of the monitoring role, for what is asked by SQL.
    pub health: Option<Health>,
}
