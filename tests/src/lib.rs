//! Real clusters, the real binary, and ways to break them: what the suites stand on.

mod eventually;

pub use eventually::eventually;
