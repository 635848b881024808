//! TLS without I/O: configurations made of files, and records sealed and opened.
//!
//! One module, [`records`], knows how rustls is driven; nobody else names a type of its connections.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that cannot go on panics"))]

pub mod accept;
mod certificate;
mod chain;
mod ciphers;
pub mod connect;
mod end_point;
mod files;
pub mod fleet;
mod key_fault;
mod name_constraints;
mod names;
pub mod records;
mod roots;
mod rotation;
mod subject;
mod suites;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verify;
mod verify_client;
mod version_1;
mod versions;
mod warm_up;
pub mod words;

pub use accept::ALPN;
pub use ciphers::Negotiated;
pub use connect::SSL_REQUEST;
pub use end_point::EndPoint;
pub use files::{FileError, has_root};
pub use records::{AskedOfClient, Opened, Records, TlsError};
pub use rotation::{Certificate, Rotation};
pub use subject::Subject;
pub use versions::TlsVersion;
pub use warm_up::warm_up;
