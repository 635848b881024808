//! A client whose records a test holds in its hands.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use trunkline_codec::startup::ssl_request;
use trunkline_tests::{Certificates, ClientStream, Login, Wire};

/// Longest wait for the next byte.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection on which nothing was said.
pub(crate) fn connected(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// One that has asked for TLS and was let.
pub(crate) fn asked(port: u16) -> TcpStream {
    ask(connected(port))
}

/// Asks for TLS.
pub(crate) fn ask(mut socket: TcpStream) -> TcpStream {
    socket.write_all(&request(ssl_request)).unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    socket
}

/// The bytes of a packet.
pub(crate) fn request(encode: fn(&mut bytes::BytesMut)) -> Vec<u8> {
    let mut packet = bytes::BytesMut::new();
    encode(&mut packet);
    packet.to_vec()
}

/// An end that has said nothing.
pub(crate) fn end(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

/// The records that an end has to send.
pub(crate) fn outgoing(end: &mut ClientConnection) -> Vec<u8> {
    let mut records = Vec::new();
    while end.wants_write() {
        end.write_tls(&mut records).unwrap();
    }
    records
}

/// What a handshake begins with.
pub(crate) fn first_flight(config: &Arc<ClientConfig>) -> Vec<u8> {
    outgoing(&mut end(config))
}

/// What a handshake over this socket, on which TLS may begin, ends with; not sent.
pub(crate) fn last_flight(socket: &mut TcpStream) -> Vec<u8> {
    let mut end = end(&Certificates::shared().client());
    let hello = outgoing(&mut end);
    socket.write_all(&hello).unwrap();
    while end.is_handshaking() {
        end.read_tls(socket).unwrap();
        end.process_new_packets().unwrap();
    }
    outgoing(&mut end)
}

/// A connection of TLS.
pub(crate) fn sealed(socket: TcpStream) -> Wire {
    Wire::over(ClientStream::seal(socket, Certificates::shared().client()).unwrap())
}

/// Logs in.
pub(crate) fn log_in(mut wire: Wire) -> Wire {
    let login = Login::default();
    wire.send(&login.packet());
    wire.finish_login(&login).unwrap();
    wire
}

/// A session over TLS.
pub(crate) fn session(port: u16) -> Wire {
    log_in(sealed(asked(port)))
}

/// Sends what the end has to send after `change`; whether the other still takes it is no matter.
pub(crate) fn send_after(wire: &Wire, change: impl FnOnce(&mut ClientConnection)) {
    let records = wire.stream.records_after(change);
    let _reset = wire.stream.socket().write_all(&records);
}

/// Whether the other end closes the connection, in order or not.
pub(crate) fn ends(wire: &Wire) -> bool {
    let mut space = [0; 4096];
    loop {
        match wire.stream.socket().read(&mut space) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
