//! Everything that awaits: sockets, login, routing, relay, cancel, HTTP.
