//! What the fuzz targets run.
//!
//! The checks of the codec are those its property tests run on stable, so that a seed found here
//! is a test there: `crates/codec/tests/properties.rs` replays `fuzz/corpus`.

#[path = "../../crates/codec/tests/checks/mod.rs"]
pub mod checks;

#[path = "../../crates/hba/tests/checks/mod.rs"]
pub mod hba_checks;

#[path = "../../crates/tls/tests/checks/mod.rs"]
pub mod tls_checks;
