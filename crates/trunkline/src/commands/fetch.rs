//! One HTTP request, with limits: to the public address or to the admin socket.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Failure;

/// Time limit, from the connection to the last byte of the answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum size of an answer, in bytes: a thousand servers fit.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The status and body of `path` at `address` (`host:port`, or an `http://` URL of it).
pub(crate) fn get(address: &str, path: &str) -> Result<(u16, String), Failure> {
    let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let ask = async { exchange(TcpStream::connect(address).await?, Method::GET, address, path).await };
    block_on(TIMEOUT, ask).map_err(|error| {
        Failure::new(format!("could not reach Trunkline's HTTP server at {address}: {error}"))
            .hint("Check that it is running, or name its [http] listen with --http ADDRESS:PORT.")
    })
}

/// Runs a request within its time limit.
pub(super) fn block_on<T>(limit: Duration, ask: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let no_answer = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
    runtime.block_on(async { timeout(limit, ask).await.unwrap_or_else(|_elapsed| Err(no_answer())) })
}

/// The status and body of a request without a body.
pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    host: &str,
    path: &str,
) -> io::Result<(u16, String)> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Its error, if any, also appears in the request.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// Answers one connection with `answer`.
    fn server_of_one(answer: Vec<u8>) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the client comes");
            let _request = stream.read(&mut [0; 1024]).expect("it asks");
            // The client may close when it has read enough.
            let _cut_short = stream.write_all(&answer);
        });
        (address, thread)
    }

    fn answer_to(answer: Vec<u8>) -> Result<(u16, String), String> {
        let (address, thread) = server_of_one(answer);
        let got = get(&address, "/cluster").map_err(|failure| failure.to_string());
        thread.join().expect("it has answered");
        got
    }

    fn answer_of(bytes: usize) -> Vec<u8> {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + bytes, b'x');
        answer
    }

    #[test]
    fn an_answer_is_status_and_body() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}".to_vec();
        assert_eq!(answer_to(answer), Ok((503, "{}".to_owned())));
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        let error = answer_to(b"SSH-2.0-OpenSSH\r\n".to_vec()).expect_err("it is no HTTP");
        assert!(error.contains("could not reach Trunkline's HTTP server at 127.0.0.1:"), "{error}");
    }

    #[test]
    fn an_answer_at_the_limit_is_read_and_a_longer_one_is_not() {
        assert_eq!(answer_to(answer_of(ANSWER_BYTES_MAX)).map(|(_, body)| body.len()), Ok(ANSWER_BYTES_MAX));
        assert!(answer_to(answer_of(ANSWER_BYTES_MAX + 1)).is_err());
    }
}
