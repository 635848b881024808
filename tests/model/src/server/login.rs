//! What a server says to who has just logged in.

use super::Server;
use crate::wire;

/// The parameters that it reports.
fn greeting() -> Vec<u8> {
    [wire::message(b'S', b"TimeZone\0\0"), wire::message(b'S', b"in_hot_standby\0on\0")].concat()
}

impl Server {
    /// Tells a client that has just proved itself that it is in.
    pub fn greet(&mut self) {
        self.put(wire::message(b'R', b"\0\0\0\0"));
        self.put(greeting());
        self.put(wire::message(b'K', b"\0\0\0\x07\0\0\0\x07"));
        self.put(wire::message(b'Z', b"I"));
    }
}
