//! A throw-away PostgreSQL primary with streaming standbys, for the demo and the tests.
