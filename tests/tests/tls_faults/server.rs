//! A server that answers a request for TLS with whatever a test wants.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use trunkline_cluster::PortLease;
use trunkline_tests::Forwarder;

/// What follows a request for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What the real server says.
    Server,
    /// `S`, and the end.
    YesThenEnd,
    /// `S`, and bytes that are no TLS.
    YesThenGarbage,
    /// `S`, one byte too many, then the real server's TLS.
    YesTwice,
    /// `S`, an error in the clear, then the real server's TLS.
    YesThenError,
    /// An error, as of a server that does not know the request.
    Error,
    /// `N`.
    No,
    /// A byte that is no answer.
    Other,
}

/// An error as servers write it.
const ERROR: &[u8] = b"E\0\0\0\x25SFATAL\0C53300\0Mtoo many clients\0\0";

/// Listens on a port of its own, before a real server.
pub(crate) struct FaultyServer {
    /// Where fair connections go.
    forwarder: Forwarder,
    lease: PortLease,
    answer: Arc<Mutex<Answer>>,
}

impl FaultyServer {
    pub(crate) fn of(real: u16) -> Self {
        let forwarder = Forwarder::to(real);
        let lease = PortLease::take().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", lease.port())).unwrap();
        let answer = Arc::new(Mutex::new(Answer::Server));
        let faulty = Self { forwarder, lease, answer };
        let (answer, port) = (Arc::clone(&faulty.answer), faulty.forwarder.port());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let answer = *answer.lock().unwrap();
                std::thread::spawn(move || drop(serve(client, port, answer)));
            }
        });
        faulty
    }

    pub(crate) fn port(&self) -> u16 {
        self.lease.port()
    }

    /// Answers so from now on, and ends all connections.
    pub(crate) fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
        self.forwarder.reset();
    }
}

fn serve(mut client: TcpStream, real: u16, answer: Answer) -> io::Result<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request)?;
    let added: &[u8] = match answer {
        Answer::Server => b"",
        Answer::YesTwice => b"S",
        Answer::YesThenError => ERROR,
        Answer::YesThenEnd => return client.write_all(b"S"),
        Answer::YesThenGarbage => {
            client.write_all(b"SSSH-2.0-OpenSSH_9.2\r\n")?;
            return until_the_end(&mut client);
        }
        Answer::Error => {
            client.write_all(ERROR)?;
            return until_the_end(&mut client);
        }
        Answer::No => {
            client.write_all(b"N")?;
            return until_the_end(&mut client);
        }
        Answer::Other => {
            client.write_all(b"X")?;
            return until_the_end(&mut client);
        }
    };
    let mut server = TcpStream::connect(("127.0.0.1", real))?;
    server.write_all(&request)?;
    let mut said = vec![0; 1];
    server.read_exact(&mut said)?;
    said.extend_from_slice(added);
    client.write_all(&said)?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ended = io::copy(&mut from, &mut to);
        let _gone = to.shutdown(std::net::Shutdown::Both);
    });
    let _ended = io::copy(&mut server, &mut client);
    client.shutdown(std::net::Shutdown::Both)
}

fn until_the_end(client: &mut TcpStream) -> io::Result<()> {
    io::copy(client, &mut io::sink()).map(drop)
}
