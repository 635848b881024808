//! The bytes of a client's connection: as they are, or in TLS.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::certificates::{Certificates, tls_is_on};

/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 * 1024;

/// A client's connection. Clones share it, so that one thread reads while another writes.
#[derive(Debug)]
pub struct ClientStream {
    socket: TcpStream,
    tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
struct Tls {
    connection: Mutex<ClientConnection>,
    /// Plaintext that was not read yet.
    opened: Mutex<VecDeque<u8>>,
    /// Held while records leave, in their order.
    sending: Mutex<()>,
}

impl ClientStream {
    /// Connects to 127.0.0.1; by TLS where the suite is to use it and the other end has it.
    pub(crate) fn connect(port: u16, timeout: Duration) -> io::Result<Self> {
        if tls_is_on() { Self::asking(port, timeout) } else { Self::plain(port, timeout) }
    }

    /// Connects to 127.0.0.1, by TLS where the other end has it.
    pub(crate) fn asking(port: u16, timeout: Duration) -> io::Result<Self> {
        let mut socket = Self::plain(port, timeout)?.socket;
        socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
        let mut answer = [0];
        socket.read_exact(&mut answer)?;
        if answer != *b"S" {
            return Ok(Self { socket, tls: None });
        }
        Self::seal(socket, Certificates::shared().client())
    }

    /// Shakes hands over a socket whose other end speaks TLS from now on.
    ///
    /// # Errors
    /// What the kernel or TLS says.
    ///
    /// # Panics
    /// Never: the name is an address.
    pub fn seal(mut socket: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("127.0.0.1").expect("it is an address");
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let tls =
            Tls { connection: Mutex::new(connection), opened: Mutex::default(), sending: Mutex::new(()) };
        Ok(Self { socket, tls: Some(Arc::new(tls)) })
    }

    /// Whether it is of TLS.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.tls.is_some()
    }

    /// The socket below TLS.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Does something to the end of TLS; returns the records that it has to send then, which are the caller's to send.
    ///
    /// # Panics
    /// When there is no TLS.
    pub fn records_after(&self, change: impl FnOnce(&mut ClientConnection)) -> Vec<u8> {
        let tls = self.tls.as_ref().expect("the connection is of TLS");
        let mut connection = tls.connection.lock().expect("no thread panics with it");
        change(&mut connection);
        let mut records = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut records).expect("memory takes all");
        }
        records
    }

    /// Connects to 127.0.0.1 without TLS.
    pub(crate) fn plain(port: u16, timeout: Duration) -> io::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, tls: None })
    }

    /// The same connection, for another thread.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, tls: self.tls.clone() })
    }

    /// The client's own address.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// How long a read waits.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    /// How long a write waits.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(timeout)
    }

    /// Whether nothing has come that was not read, and the connection has not ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_quiet(&self) -> io::Result<bool> {
        if let Some(tls) = &self.tls
            && !tls.opened.lock().expect("no thread panics with it").is_empty()
        {
            return Ok(false);
        }
        self.socket.set_nonblocking(true)?;
        let seen = self.socket.peek(&mut [0]);
        self.socket.set_nonblocking(false)?;
        Ok(seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
    }

    /// Ends the direction to the server, or both.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            tls.send(&self.socket, |connection| {
                connection.send_close_notify();
                Ok(0)
            })?;
        }
        self.socket.shutdown(how)
    }
}

impl Tls {
    /// Opens records; whether that was the end.
    fn open(&self, mut records: &[u8]) -> io::Result<bool> {
        let mut connection = self.connection.lock().expect("no thread panics with it");
        let mut opened = self.opened.lock().expect("no thread panics with it");
        loop {
            let taken = connection.read_tls(&mut records)?;
            connection.process_new_packets().map_err(io::Error::other)?;
            let mut plain = Vec::new();
            // It has no more for now, or has ended: with close_notify or without.
            let ended = match connection.reader().read_to_end(&mut plain) {
                Ok(_) => true,
                Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
            };
            opened.extend(&plain);
            if records.is_empty() || taken == 0 {
                return Ok(ended && opened.is_empty());
            }
        }
    }

    /// Has the connection write something, and sends its records.
    fn send(
        &self,
        mut socket: &TcpStream,
        write: impl FnOnce(&mut ClientConnection) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let _in_order = self.sending.lock().expect("no thread panics with it");
        let mut records = Vec::new();
        let written = {
            let mut connection = self.connection.lock().expect("no thread panics with it");
            let written = write(&mut connection)?;
            while connection.wants_write() {
                connection.write_tls(&mut records)?;
            }
            written
        };
        // Without the connection: the other thread may go on reading, which may be what the peer waits for.
        socket.write_all(&records)?;
        Ok(written)
    }
}

impl Read for ClientStream {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.socket.read(space) };
        loop {
            let mut opened = tls.opened.lock().expect("no thread panics with it");
            let read = opened.read(space)?;
            if read > 0 || space.is_empty() {
                return Ok(read);
            }
            drop(opened);
            let mut came = vec![0; READ_BYTES];
            let length = self.socket.read(&mut came)?;
            if tls.open(&came[..length])? {
                return Ok(0);
            }
        }
    }
}

impl Write for ClientStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.socket.write(bytes) };
        // rustls holds back what is more than its buffer: what it takes is sent at once.
        tls.send(&self.socket, |connection| connection.writer().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
