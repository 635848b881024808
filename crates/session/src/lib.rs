//! One client's life after its login, without I/O: what to forward, hold and answer; timing.
//!
//! [`Session`] is a value. Facts go in with the time they became known ([`Session::handle_client`],
//! [`Session::handle_server`], [`Session::handle_server_lost`]); what to do comes back. It owns no
//! socket, buffer, clock or log, and allocates nothing for a query it has seen the like of.
//!
//! Its parts do not depend on each other; `session` joins them:
//!
//! - `sql`: what SQL does, read from its text.
//! - `carried`: what belongs to the client for life: settings, prepared statements, reasons to stay.
//! - `conversation`: what belongs to one server: requests in flight, transaction, farewell.
//! - `recovery`: what is left when that server is lost.
//! - `session`: the machine, whose halves are `client` and `server`.
//! - `driver`: what the caller keeps for it: bytes that are not released yet, the request in flight.
//! - `hints`: what clients say of where their reads go.
//! - `pin`: why a session cannot leave its server; `position`: how far a server has replayed; `record`,
//!   `timing`: what is known of each statement once it is complete; `settings`, `step`: what the session gets at its
//!   start, and what the caller does next.
//!
//! A query and its answer, as a caller relays them:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//!
//! use bytes::BytesMut;
//! use trunkline_codec::write;
//! use trunkline_session::{
//!     Completion, Mobility, ReportTiming, ServerRole, Session, SessionSettings, Sink, StatementNames,
//!     StatementRecord, Tracking, TransactionStatus,
//! };
//!
//! /// Takes the statements as they complete.
//! struct Log(Vec<Duration>);
//!
//! impl Sink for Log {
//!     fn statement(&mut self, record: &StatementRecord<'_>) {
//!         assert_eq!(record.sql, Some(&b"SELECT 1"[..]));
//!         assert_eq!(record.completion, Completion::Complete(b"SELECT 1"));
//!         self.0.push(record.timing.server_total);
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = SessionSettings {
//!     sql_bytes_max: 1024,
//!     report_timing: ReportTiming::Off,
//!     server: Arc::from("replica1"),
//!     tracking: Tracking::Full,
//!     mobility: Mobility::Movable,
//!     statement_names: StatementNames::OfClient,
//!     role: ServerRole::Standby,
//!     parameters: Arc::default(),
//! };
//! let (begun, mut log) = (Instant::now(), Log(Vec::new()));
//! let mut session = Session::new(settings, begun);
//!
//! let mut query = BytesMut::new();
//! write::query(&mut query, b"SELECT 1")?;
//! let step = session.handle_client(&query, begun, &mut log);
//! assert_eq!(step.forward, query.len());
//! assert!(!session.is_idle());
//!
//! let mut answer = BytesMut::new();
//! write::command_complete(&mut answer, b"SELECT 1")?;
//! write::ready_for_query(&mut answer, TransactionStatus::Idle);
//! let step = session.handle_server(&answer, begun + Duration::from_millis(3), &mut log);
//! assert_eq!(step.forward, answer.len());
//! assert!(session.is_idle() && session.movability().is_ok());
//! assert_eq!(log.0, [Duration::from_millis(3)]);
//! # Ok(())
//! # }
//! ```

mod carried;
mod conversation;
mod driver;
mod hints;
pub mod limits;
mod names;
mod pin;
mod pins;
mod position;
mod record;
mod recovery;
mod rewritten;
mod sampling;
mod session;
mod settings;
mod sql;
mod step;
mod timing;

pub use carried::alignment::{Alignment, AlignmentError, AlignmentReader, AlignmentStep};
pub use carried::connection::ConnectionState;
pub use carried::diff::{SessionState, diff};
pub use carried::login_values::LoginValue;
pub use carried::parameters::{LoginParameters, are_too_many_parameters};
pub use conversation::farewell::FatalOrigin;
pub use conversation::state::UnitEffect;
pub use driver::input::Input;
pub use driver::journal::{Journal, JournalPool};
pub use hints::{Hints, InvalidHint, MinLsn, ReadYourWrites, RouteHint};
pub use pin::{NotRepeatable, PinReason};
pub use pins::Pins;
pub use position::{Position, PositionReader, ask_insert_position, ask_position};
pub use record::{Completion, Sink, StatementKind, StatementRecord, Timing};
pub use recovery::loss::{LossPlan, RecoveryOptions, ServerLoss};
pub use rewritten::Rewritten;
pub use sampling::FirstStatements;
pub use session::Session;
pub use session::route::{NotProven, TransactionPiece, TransactionReading, UnitReading};
pub use settings::{
    Mobility, ReportTiming, ServerName, ServerRole, SessionSettings, StatementNames, Tracking,
};
pub use sql::fingerprint::Fingerprint;
pub use sql::function_effect::{FunctionEffect, RUN_SQL};
pub use sql::functions::{
    EffectsByName, EventTriggers, FUNCTIONS_FINGERPRINT, FunctionCatalog, Functions, UnlistedFunctions,
};
pub use sql::known_reads::KnownReads;
pub use sql::operator_words::operator_words;
pub use sql::plainness::{NotJudged, NotPlainByName, Plainness, PlainnessCatalog, PlainnessEpoch};
pub use sql::source::FunctionSource;
pub use sql::suspicious_names::names_temporary_schema;
pub use sql::verb::command_word;
pub use sql::verdict::{ReadUnit, SqlExplained};
pub use step::{
    ClientStep, ClientThen, Peer, Refused, ServerStep, ServerThen, StandbyRefusal, Violation, ViolationError,
};
pub use trunkline_codec::backend::TransactionStatus;
