//! What must hold for any bytes at all, shared by the property tests and the fuzz targets.

mod reassembly;
mod round_trip;
mod scan;
mod scram;
mod startup;

pub use reassembly::reassemble;
pub use round_trip::round_trip;
pub use scan::{Way, backend_scan, chunking, frontend_scan, read_backend, read_frontend};
pub use scram::{scram_client, scram_server};
pub use startup::startup;

/// Takes any bytes; panics when what must hold does not.
pub type Check = fn(&[u8]);

/// Every check by the name of its fuzz target.
pub const CHECKS: [(&str, Check); 7] = [
    ("startup", startup),
    ("frontend_scan", frontend_scan),
    ("backend_scan", backend_scan),
    ("scram_server", scram_server),
    ("scram_client", scram_client),
    ("chunking", chunking),
    ("round_trip", round_trip),
];
