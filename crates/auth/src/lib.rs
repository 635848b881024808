//! Who a client is.
//!
//! - [`secrets`]: the stored secrets of users, and where they come from.
//! - [`authenticator`]: how a client proves itself, without I/O.
//! - [`mock`]: the salts that users who cannot log in are challenged with.
//! - [`failures`]: who failed of late, and whom the door is closed to.
//! - [`password_command`] and [`session_passwords`]: passwords for servers that a program prints.
//! - [`random`]: random bytes of the operating system.
//! - [`credentials`]: what a login leaves behind, which logs the user in on any server.

pub mod authenticator;
pub mod credentials;
pub mod failures;
pub mod mock;
mod nonce;
pub mod password_command;
pub mod random;
pub mod secrets;
pub mod session_passwords;

pub use self::nonce::nonce;
