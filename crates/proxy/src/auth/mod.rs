//! What is known about users without asking the client: their stored secrets.

pub mod secrets;
