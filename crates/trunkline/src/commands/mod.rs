//! One file or folder per command: its flags and what it does.

pub(crate) mod admin;
mod admin_socket;
pub(crate) mod adopt;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
mod conninfo_tls;
#[cfg(feature = "demo")]
pub(crate) mod demo;
pub(crate) mod explain;
mod fetch;
pub(crate) mod health;
pub(crate) mod init;
pub(crate) mod init_sql;
mod listen_failure;
mod manager;
mod monitor_password;
mod observe;
mod open_files;
pub(crate) mod profile;
pub(crate) mod reload;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod sessions;
pub(crate) mod status;
