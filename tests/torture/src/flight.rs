//! What a client sends: messages, several of them in one write where a case wants that.

/// Bytes of one or more frontend messages, with the number of ReadyForQuery that answers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    /// The messages as they go out, in one write.
    pub bytes: Vec<u8>,
    /// How many ReadyForQuery the server owes for them.
    pub readies: usize,
    /// For the report.
    pub label: String,
}

impl Flight {
    fn of(tag: u8, body: &[u8], readies: usize, label: String) -> Self {
        let length = u32::try_from(body.len() + 4).expect("cases send less than 4 GiB");
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(body);
        Self { bytes, readies, label }
    }

    /// All of them as one write.
    #[must_use]
    pub fn joined(flights: &[Self]) -> Self {
        let labels: Vec<&str> = flights.iter().map(|flight| flight.label.as_str()).collect();
        Self {
            bytes: flights.iter().flat_map(|flight| flight.bytes.clone()).collect(),
            readies: flights.iter().map(|flight| flight.readies).sum(),
            label: labels.join(" "),
        }
    }

    /// The first `count` bytes of it, to which no answer is owed: a client that vanishes in the middle of a message.
    #[must_use]
    pub fn cut(mut self, count: usize) -> Self {
        self.bytes.truncate(count);
        self.readies = 0;
        self.label.push_str(" (cut)");
        self
    }
}

/// A simple Query.
#[must_use]
pub fn query(sql: &str) -> Flight {
    Flight::of(b'Q', &text(sql), 1, sql.to_owned())
}

/// Parse, with parameter types left to the server.
#[must_use]
pub fn parse(name: &str, sql: &str) -> Flight {
    parse_typed(name, sql, &[])
}

/// Parse with the OIDs of parameter types.
#[must_use]
pub fn parse_typed(name: &str, sql: &str, types: &[u32]) -> Flight {
    let mut body = [text(name), text(sql)].concat();
    put_count(&mut body, types.len());
    body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
    Flight::of(b'P', &body, 0, format!("Parse({name}: {sql})"))
}

/// Bind to the unnamed portal, parameters and results as text.
#[must_use]
pub fn bind(statement: &str, values: &[Option<&str>]) -> Flight {
    bind_portal("", statement, values)
}

/// Bind to a portal, parameters and results as text.
#[must_use]
pub fn bind_portal(portal: &str, statement: &str, values: &[Option<&str>]) -> Flight {
    let mut body = [text(portal), text(statement)].concat();
    put_count(&mut body, 0);
    put_count(&mut body, values.len());
    for value in values {
        put_value(&mut body, *value);
    }
    put_count(&mut body, 0);
    Flight::of(b'B', &body, 0, format!("Bind({portal}<{statement})"))
}

/// Describe of a prepared statement.
#[must_use]
pub fn describe_statement(name: &str) -> Flight {
    Flight::of(b'D', &kind_and_name(b'S', name), 0, format!("Describe(S {name})"))
}

/// Describe of a portal.
#[must_use]
pub fn describe_portal(name: &str) -> Flight {
    Flight::of(b'D', &kind_and_name(b'P', name), 0, format!("Describe(P {name})"))
}

/// Close of a prepared statement.
#[must_use]
pub fn close_statement(name: &str) -> Flight {
    Flight::of(b'C', &kind_and_name(b'S', name), 0, format!("Close(S {name})"))
}

/// Close of a portal.
#[must_use]
pub fn close_portal(name: &str) -> Flight {
    Flight::of(b'C', &kind_and_name(b'P', name), 0, format!("Close(P {name})"))
}

/// Execute of a portal, all rows for `rows_max` of 0.
#[must_use]
pub fn execute(portal: &str, rows_max: i32) -> Flight {
    let mut body = text(portal);
    body.extend_from_slice(&rows_max.to_be_bytes());
    Flight::of(b'E', &body, 0, format!("Execute({portal} {rows_max})"))
}

/// Sync.
#[must_use]
pub fn sync() -> Flight {
    Flight::of(b'S', &[], 1, "Sync".to_owned())
}

/// Flush.
#[must_use]
pub fn flush() -> Flight {
    Flight::of(b'H', &[], 0, "Flush".to_owned())
}

/// Terminate.
#[must_use]
pub fn terminate() -> Flight {
    Flight::of(b'X', &[], 0, "Terminate".to_owned())
}

/// CopyData.
#[must_use]
pub fn copy_data(data: &str) -> Flight {
    Flight::of(b'd', data.as_bytes(), 0, "CopyData".to_owned())
}

/// CopyDone.
#[must_use]
pub fn copy_done() -> Flight {
    Flight::of(b'c', &[], 0, "CopyDone".to_owned())
}

/// CopyFail.
#[must_use]
pub fn copy_fail(reason: &str) -> Flight {
    Flight::of(b'f', &text(reason), 0, "CopyFail".to_owned())
}

/// FunctionCall with arguments and result as text.
#[must_use]
pub fn function_call(oid: u32, arguments: &[Option<&str>]) -> Flight {
    let mut body = oid.to_be_bytes().to_vec();
    put_count(&mut body, 0);
    put_count(&mut body, arguments.len());
    for argument in arguments {
        put_value(&mut body, *argument);
    }
    put_count(&mut body, 0);
    Flight::of(b'F', &body, 1, format!("FunctionCall({oid})"))
}

/// A message as it is, which owes `readies`: for what no client should send.
#[must_use]
pub fn raw(tag: u8, body: &[u8], readies: usize) -> Flight {
    Flight::of(tag, body, readies, format!("raw {}", char::from(tag).escape_default()))
}

/// Parse, Bind, Describe, Execute of the unnamed statement, without a Sync.
#[must_use]
pub fn unnamed(sql: &str) -> Flight {
    let parts = [parse("", sql), bind("", &[]), describe_portal(""), execute("", 0)];
    Flight { label: format!("extended: {sql}"), ..Flight::joined(&parts) }
}

/// Bind, Describe, Execute of a prepared statement, without a Sync.
#[must_use]
pub fn run_prepared(name: &str, values: &[Option<&str>]) -> Flight {
    Flight::joined(&[bind(name, values), describe_portal(""), execute("", 0)])
}

fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

fn kind_and_name(kind: u8, name: &str) -> Vec<u8> {
    [&[kind], name.as_bytes(), &[0]].concat()
}

fn put_count(body: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("cases have few parameters");
    body.extend_from_slice(&count.to_be_bytes());
}

fn put_value(body: &mut Vec<u8>, value: Option<&str>) {
    match value {
        None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
        Some(value) => {
            let length = i32::try_from(value.len()).expect("cases have short parameters");
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flight_owes_one_ready_for_each_sync_and_query() {
        let flight = Flight::joined(&[unnamed("SELECT 1"), sync(), query("SELECT 2"), flush()]);
        assert_eq!(flight.readies, 2);
        assert_eq!(
            query("a").cut(3),
            Flight { bytes: vec![b'Q', 0, 0], readies: 0, label: "a (cut)".into() }
        );
    }

    #[test]
    fn values_have_their_length_and_null_has_none() {
        let flight = bind("s", &[Some("ab"), None]);
        let body = b"\0s\0\0\0\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0";
        assert_eq!(&flight.bytes[5..], body);
    }
}
