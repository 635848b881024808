//! The least HTTP client, as HAProxy's checks are: one request, one connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// All header lines.
    pub head: String,
    /// The body.
    pub body: String,
}

/// `GET path` on 127.0.0.1, in the words of HAProxy's default check. `None` when nobody answers properly.
#[must_use]
pub fn http_get(port: u16, path: &str) -> Option<HttpAnswer> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    exchange(stream, "GET", path)
}

/// Sends a request without a body and reads the answer.
pub(crate) fn exchange(mut stream: impl Read + Write, method: &str, path: &str) -> Option<HttpAnswer> {
    stream.write_all(format!("{method} {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(HttpAnswer { status, head: head.to_owned(), body: body.to_owned() })
}
