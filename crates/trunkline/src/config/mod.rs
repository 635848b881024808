//! Configuration in two stages: as written (raw), then checked.
//!
//! [`keys`] is the one table of every key: its name, kind, default and meaning. The parser, the sample of
//! `trunkline config default` ([`sample`]) and `docs/configuration.md` ([`mod@reference`]) are made from it, so
//! they cannot drift apart.
//!
//! Sources are applied in order, each over the one before: defaults, file ([`mod@file`]), environment
//! ([`mod@environment`]), flags ([`flags`]). The result is [`raw::RawConfig`]: the proxy's settings, and the
//! keys that [`checked`] still has to check against each other. It validates the whole. Both stages
//! collect every [`Problem`] instead of stopping at the first.

pub mod admin_places;
pub mod checked;
pub mod environment;
pub mod file;
pub mod flags;
pub mod keys;
mod load;
mod problem;
pub mod raw;
pub mod reference;
pub mod sample;
mod suggest;
pub mod units;
mod value;
pub mod words;

pub use load::{ConfigSources, DEFAULT_FILE, Loaded, STANDARD_INPUT, load, process_environment};
pub use problem::{Problem, Problems, Source};
pub use value::RawValue;
