//! The binary's parts: configuration, log, commands.
//!
//! A library so that the fuzz target and the tests reach [`config`]; nothing else depends on it.

pub mod cli;
mod commands;
pub mod config;
mod failure;
mod logging;
mod terminal;

pub use failure::{Exit, Failure};
