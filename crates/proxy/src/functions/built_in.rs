//! Names of PostgreSQL's built-in functions, used until a server has been asked for its own.
//!
//! From versions 15 and 18: `SELECT DISTINCT proname FROM pg_proc WHERE oid < 16384` after initdb. Without them,
//! calls of `count` and the like would pin the first sessions of a database.

use std::sync::Arc;

use super::BuiltIn;

/// One name a line.
const NAMES: &str = include_str!("built_in.txt");

pub(super) fn names() -> BuiltIn {
    Arc::new(NAMES.lines().map(|name| name.as_bytes().into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_functions_are_known_without_a_server() {
        let names = names();
        for name in
            ["count", "now", "generate_series", "pg_sleep", "set_config", "json_agg", "pg_terminate_backend"]
        {
            assert!(names.contains(name.as_bytes()), "{name}");
        }
        assert!(!names.contains(&b""[..]));
    }
}
