//! The PostgreSQL wire protocol, versions 3.0 and 3.2, as pure functions over bytes.
//!
//! Nothing here does I/O, reads a clock, logs or allocates on the path a query takes:
//!
//! - [`startup`]: the first packet of a connection, which has no type byte.
//! - [`scan`]: walks message headers over arbitrary chunk boundaries without copying bodies.
//! - [`frontend`], [`backend`], [`auth`]: tags, and readers for the messages that carry state.
//! - [`mod@write`]: everything a proxy says itself.
//! - [`scram`]: SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides.
//! - [`limits`]: every bound, with the PostgreSQL source it comes from.
//!
//! Bytes from a peer are never trusted: whatever they are, the answer is a value, "read more" or a
//! typed error, and never a panic or an allocation sized by a length the peer merely claims.
//!
//! A stream is walked as it comes; what is not yet complete is kept and presented again:
//!
//! ```
//! use bytes::BytesMut;
//! use trunkline_codec::frontend::{FrontendTag, Query};
//! use trunkline_codec::scan::{ScanPhase, Piece, Scanner};
//! use trunkline_codec::write;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut stream = BytesMut::new();
//! write::query(&mut stream, b"SELECT 1")?;
//! write::sync(&mut stream);
//!
//! let mut scanner = Scanner::frontend();
//! scanner.set_phase(ScanPhase::Normal);
//! let mut at = 0;
//! // Half a message: nothing yet, and nothing taken.
//! assert_eq!(scanner.next(&stream[..7], &mut at)?, None);
//! assert_eq!(at, 0);
//!
//! let Some(Piece::Message { tag, body }) = scanner.next(&stream, &mut at)? else { panic!("a whole message") };
//! assert_eq!(FrontendTag::from_byte(tag), FrontendTag::Query);
//! assert_eq!(Query::parse(body)?.sql, b"SELECT 1");
//! # Ok(())
//! # }
//! ```

pub mod auth;
pub mod backend;
pub mod body;
pub mod frontend;
pub mod ids;
pub mod limits;
pub mod refusal;
pub mod scan;
pub mod scram;
pub mod sqlstate;
pub mod startup;
mod version;
pub mod write;
