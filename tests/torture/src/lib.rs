//! Can a client tell a pooler from a direct connection?
//!
//! A [`scenario::Scenario`] is a script of a few clients at the level of the wire. It is played twice: once with each
//! client on a connection of its own ([`stage::Stage::Direct`]), once through the pooler, and what the clients have seen is
//! compared. What is right is what the direct connections show, so that a scenario states no protocol; but it states
//! which step of it shows the effect it is about ([`scenario::Mark`]), and one whose direct run does not is reported as
//! [`verdict::TortureVerdict::Void`]: a case that tests nothing fails.
//!
//! - [`cases`]: the scenarios, most of them made by combining tables.
//! - [`flight`]: what a client sends; [`client`]: a client; [`seen`]: what it saw.
//! - [`play`]: one run of one scenario on a [`stage`]; [`run`]: all of them; [`reasons`]: why the pooler keeps server connections;
//!   [`report`]: the table.

pub mod cases;
pub mod client;
pub mod dsn;
pub mod flight;
pub mod login;
pub mod play;
pub mod reasons;
pub mod report;
pub mod run;
pub mod scenario;
pub mod seen;
pub mod stage;
pub mod verdict;
