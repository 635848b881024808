//! One client's life after its login, without I/O: what to forward, hold and answer; timing.
//!
//! [`Session`] is a value. Facts go in with the time they became known ([`Session::handle_client`],
//! [`Session::handle_server`], [`Session::handle_server_lost`]); what to do comes back. It owns no
//! socket, buffer, clock or log, and allocates nothing for a query it has seen the like of.
//!
//! - [`settings`]: what a session is told at its start.
//! - [`session`]: the machine; `client` and `server` are its two halves, `answer` its model of
//!   which answer belongs to which request, `state` its states.
//! - `outstanding`: the requests whose answers are owed, in order.
//! - `names`: statements, portals and the like by name, as the server cuts it.
//! - `statements`: which SQL a prepared statement or portal stands for.
//! - `own`: requests of the proxy's own in between.
//! - `attempt`: the request in flight, held and repeated.
//! - `kept`: a client that goes on though something of it was lost with its server.
//! - `followed`: what the session changed on its server (`gucs`, `prepared`), read from its SQL by
//!   `sql` and confirmed by the server; [`alignment`]: how another server is told; [`pin`]: why it
//!   cannot be (`pins` has all reasons); [`position`]: how it is asked what it shows.
//! - `executed`, `function_call`, `long`: statements run by SQL EXECUTE, functions called by message,
//!   SQL that is sent in parts.
//! - `encoding`: under which client_encoding a text was sent.
//! - [`functions`]: what functions of the user's own do to a session; `unsettled`: those whose effects are
//!   yet to be known; `read_back`: values that they have set;
//!   `lately`: those that have changed meanwhile.
//! - `parameters`: what the client was told of its server.
//! - `timing`, [`record`]: what is known of each statement once it is complete.
//! - [`farewell`]: whose end a FATAL error is, the server's or the session's.
//! - `losing`: the session loses its server.
//! - [`step`], [`loss`]: what the caller is asked to do.
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
//!     Completion, Mobility, ReportTiming, ServerRole, Session, SessionSettings, Sink, StatementRecord, Tracking,
//!     TransactionStatus,
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

pub mod alignment;
mod announce;
mod answer;
mod attempt;
mod client;
mod encoding;
mod executed;
pub mod farewell;
mod followed;
mod function_call;
pub mod functions;
mod gucs;
mod kept;
mod lately;
pub mod limits;
mod login_values;
mod long;
mod losing;
pub mod loss;
mod names;
mod notified;
mod outstanding;
mod own;
mod parameters;
pub mod pin;
mod pins;
pub mod position;
mod prepared;
mod read_back;
pub mod record;
mod server;
pub mod session;
pub mod settings;
mod shape;
mod sql;
mod state;
mod statements;
pub mod step;
mod texts;
mod timing;
mod unsettled;

pub use alignment::{Alignment, AlignmentError, AlignmentReader, AlignmentStep};
pub use farewell::LastWord;
pub use functions::{Deed, Deeds, FunctionCatalog, Functions, Otherwise};
pub use login_values::LoginValue;
pub use loss::{Can, LossPlan, Options, ServerLoss};
pub use parameters::ToldAtLogin;
pub use pin::{NotRepeatable, PinReason};
pub use position::{Position, PositionReader, ask_position};
pub use record::{Completion, Sink, StatementKind, StatementRecord, Timing};
pub use session::Session;
pub use settings::{Mobility, ReportTiming, ServerName, ServerRole, SessionSettings, Tracking};
pub use sql::fingerprint::Fingerprint;
pub use sql::source::FunctionSource;
pub use step::{ClientStep, ClientThen, Peer, Refused, ServerStep, ServerThen, Violation};
pub use trunkline_codec::backend::TransactionStatus;
