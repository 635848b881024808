//! The least HTTP client, as HAProxy's checks are: one request, one connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

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
    http_request((Ipv4Addr::LOCALHOST, port).into(), "GET", path, "", TIMEOUT)
}

/// A request of `method` with a `body`, which may take `timeout` to be answered. `None` when nobody answers properly.
#[must_use]
pub fn http_request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    timeout: Duration,
) -> Option<HttpAnswer> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    exchange_body(stream, method, path, body)
}

/// Sends a request without a body and reads the answer.
pub(crate) fn exchange(stream: impl Read + Write, method: &str, path: &str) -> Option<HttpAnswer> {
    exchange_body(stream, method, path, "")
}

fn exchange_body(mut stream: impl Read + Write, method: &str, path: &str, body: &str) -> Option<HttpAnswer> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    stream.write_all(format!("{method} {path} HTTP/1.0\r\n{length}\r\n{body}").as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(HttpAnswer { status, head: head.to_owned(), body: body.to_owned() })
}
