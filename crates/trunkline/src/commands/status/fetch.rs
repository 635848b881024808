//! One HTTP request, with limits: enough for answers of our own.

use std::io::Read as _;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::Failure;

/// To connect, and between two reads.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer read: a thousand servers fit.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// The body of `path` at `address` (`host:port`, or an `http://` URL of it), and its status.
pub(crate) fn get(address: &str, path: &str) -> Result<(u16, String), Failure> {
    let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    ask(address, path).map_err(|error| {
        Failure::new(format!("could not ask Trunkline's HTTP at {address}: {error}"))
            .hint("Is it running there? Name its [http] listen with --http ADDRESS:PORT.")
    })
}

fn ask(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut last = std::io::Error::other("the name has no address");
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return exchange(stream, "GET", address, path);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The status and body of a request without a body for `path` on the admin socket.
pub(crate) fn on_socket(socket: &Path, method: &str, path: &str) -> Result<(u16, String), Failure> {
    let ask = || {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        exchange(stream, method, "localhost", path)
    };
    ask().map_err(|error: std::io::Error| {
        Failure::new(format!("could not ask Trunkline at {}: {error}", socket.display()))
            .hint("Run it with --admin PATH or [admin] socket, and name the same file with --admin here.")
    })
}

fn exchange(
    mut stream: impl std::io::Read + std::io::Write,
    method: &str,
    host: &str,
    path: &str,
) -> std::io::Result<(u16, String)> {
    // HTTP/1.0: the answer ends with the connection, and is never chunked.
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/")?.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_is_status_and_body() {
        assert_eq!(parse("HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\n{}"), Some((503, "{}".to_owned())));
        assert_eq!(parse("SSH-2.0-OpenSSH"), None);
    }
}
