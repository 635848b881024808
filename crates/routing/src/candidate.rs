//! A server that may be chosen.

use trunkline_topology::ServerId;

/// A server a session may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Which one.
    pub id: ServerId,
    /// Its share: configured weight times slow start, times [speed](crate::Attached::speed), by its [zone](crate::zones).
    pub weight: f32,
}
