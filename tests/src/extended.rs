//! The extended query protocol, a request at a time.

use trunkline_codec::write;

use crate::{Answer, Wire};

/// An error for what no test sends.
const VALID: &str = "names, SQL and values are short and have no NUL";

impl Wire {
    /// Parses `sql` as the statement `name`, with a Sync.
    #[track_caller]
    pub fn prepare(&mut self, name: &str, sql: &str) -> Answer {
        self.send_with(|out| {
            write::parse(out, name.as_bytes(), sql.as_bytes(), &[]).expect(VALID);
            write::sync(out);
        });
        self.read_answer()
    }

    /// Binds and executes the statement `name`, with a Sync.
    #[track_caller]
    pub fn execute(&mut self, name: &str, values: &[&str]) -> Answer {
        self.send_with(|out| {
            let values = values.iter().map(|value| Some(value.as_bytes()));
            write::bind(out, b"", name.as_bytes(), values).expect(VALID);
            write::execute(out, b"", 0).expect(VALID);
            write::sync(out);
        });
        self.read_answer()
    }

    /// Parses, binds and executes `sql` as the unnamed statement, with one Sync.
    #[track_caller]
    pub fn extended(&mut self, sql: &str, values: &[&str]) -> Answer {
        self.send_extended(sql, values);
        self.read_answer()
    }

    /// The same without reading the answer.
    pub fn send_extended(&mut self, sql: &str, values: &[&str]) {
        self.send_with(|out| {
            let values = values.iter().map(|value| Some(value.as_bytes()));
            write::parse(out, b"", sql.as_bytes(), &[]).expect(VALID);
            write::bind(out, b"", b"", values).expect(VALID);
            write::execute(out, b"", 0).expect(VALID);
            write::sync(out);
        });
    }
}
