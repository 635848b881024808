//! Handshakes of a byte a second: let in where there is time, and ended by the login's deadline, wherever they are.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection};

use super::*;

/// Bytes of a handshake that come a second apart. Each client is slow in other ones: all of them together are slow in
/// each byte.
const SLOW: usize = 10;
/// Logins under way at one time, of which one address has a quarter.
const STARTUPS_MAX: &str = "4000";

/// A client that is slow within one of its flights.
struct SlowClient {
    socket: TcpStream,
    end: ClientConnection,
    /// What is left of the flight.
    left: Vec<u8>,
}

impl SlowClient {
    /// One that has to send its first flight.
    fn new(port: u16, config: &Arc<ClientConfig>) -> Self {
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let end = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut client = Self { socket: asked(Ipv4Addr::LOCALHOST, port), end, left: Vec::new() };
        client.take_flight();
        client
    }

    fn take_flight(&mut self) {
        while self.end.wants_write() {
            self.end.write_tls(&mut self.left).unwrap();
        }
    }

    /// Has to send its last flight now.
    fn at_the_last(mut self) -> Self {
        self.send(self.left.len());
        while self.left.is_empty() {
            self.end.read_tls(&mut self.socket).unwrap();
            self.end.process_new_packets().unwrap();
            self.take_flight();
        }
        self
    }

    /// Sends so many bytes of the flight, unless the connection was closed.
    fn send(&mut self, count: usize) {
        let rest = self.left.split_off(count.min(self.left.len()));
        let _reset = self.socket.write_all(&std::mem::replace(&mut self.left, rest));
    }

    /// Sends the rest, and is in.
    fn finish(&mut self) {
        self.send(self.left.len());
        while self.end.is_handshaking() {
            self.end.complete_io(&mut self.socket).unwrap();
        }
    }
}

/// Clients of both versions that have come to all places in both flights, and are slow from there on.
fn crowd(port: u16) -> Vec<SlowClient> {
    let mut crowd = Vec::new();
    for version in [&TLS12, &TLS13] {
        let config = Certificates::shared().client_of(&[version]);
        let first = || SlowClient::new(port, &config);
        let last = || first().at_the_last();
        for flight in [&first as &dyn Fn() -> SlowClient, &last] {
            let length = flight().left.len();
            for begin in (0..length).step_by(SLOW) {
                let mut client = flight();
                client.send(begin.min(length - SLOW));
                crowd.push(client);
            }
        }
    }
    crowd
}

#[test]
fn a_handshake_of_a_byte_a_second_is_let_in_where_there_is_time() {
    let endpoint =
        endpoint().key("limits.startups_max", STARTUPS_MAX).key("timeouts.login", "\"60s\"").start();
    let mut crowd = crowd(endpoint.reads());
    assert!(crowd.len() > 40, "{} clients", crowd.len());
    for _ in 0..SLOW {
        std::thread::sleep(Duration::from_secs(1));
        crowd.iter_mut().for_each(|client| client.send(1));
    }
    crowd.iter_mut().for_each(SlowClient::finish);
    let completed = || handshakes(&endpoint, "completed") as usize;
    eventually(PATIENCE, "all are counted", || completed() == crowd.len());
    assert_eq!(handshakes(&endpoint, "failed"), 0);
}

#[test]
fn a_handshake_of_a_byte_a_second_is_ended_by_the_logins_deadline() {
    let endpoint =
        endpoint().key("limits.startups_max", STARTUPS_MAX).key("timeouts.login", "\"5s\"").start();
    let files = open_files(&endpoint);
    let mut crowd = crowd(endpoint.reads());
    let began = Instant::now();
    // Those that only looked how long a flight is have gone of themselves.
    let all = crowd.len() as u64 + 4;
    while handshakes(&endpoint, "abandoned") < all {
        assert!(began.elapsed() < PATIENCE, "{} were ended", handshakes(&endpoint, "abandoned"));
        std::thread::sleep(Duration::from_secs(1));
        // Never the last byte: with it the handshake would be over.
        crowd.iter_mut().filter(|client| client.left.len() > 1).for_each(|client| client.send(1));
    }
    for client in &mut crowd {
        let mut rest = Vec::new();
        // A reset is an end, too: a byte may have come that nobody has read.
        match client.socket.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        // Records of the handshake, or an alert, and nothing that is not sealed.
        assert!(rest.first().is_none_or(|kind| [0x14, 0x15, 0x16, 0x17].contains(kind)), "{rest:?}");
    }
    assert_eq!(handshakes(&endpoint, "completed"), 0);
    eventually(PATIENCE, "files are closed", || open_files(&endpoint) <= files + 6);
}
