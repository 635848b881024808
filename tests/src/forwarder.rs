//! A bad network between two ends on this machine.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use trunkline_cluster::PortLease;

/// Bytes moved at once.
const CHUNK: usize = 16 * 1024;

/// What the network does to bytes, for connections that exist and new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Carries them.
    Fair,
    /// Carries each piece this much later.
    Slow(Duration),
    /// Takes connections and carries nothing, as a black hole does; what arrived waits for better weather.
    Stalled,
    /// Carries that many bytes of the server to the client, then resets both ends.
    CutAfter(usize),
}

/// A TCP forwarder on a port of its own. Dropping it resets everything.
#[derive(Debug)]
pub struct Forwarder {
    lease: PortLease,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Debug)]
struct Now {
    /// Where new connections lead.
    server: u16,
    weather: Weather,
    /// Changed by each opening and closing of the listener: an acceptor of an older number ends.
    generation: u64,
    is_open: bool,
    connections: Vec<(TcpStream, TcpStream)>,
}

/// Which way a pump carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Forwarder {
    /// A forwarder to `server`, a port on 127.0.0.1, in fair weather.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn to(server: u16) -> Self {
        let now =
            Now { server, weather: Weather::Fair, generation: 0, is_open: false, connections: Vec::new() };
        let state = Arc::new(State { now: Mutex::new(now), changed: Condvar::new() });
        let forwarder = Self { lease: PortLease::take().expect("a port is free"), state };
        forwarder.accept();
        forwarder
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.lease.port()
    }

    /// Changes the weather for all connections.
    pub fn set(&self, weather: Weather) {
        self.state.lock().weather = weather;
        self.state.changed.notify_all();
    }

    /// Leads new connections to another server, as a virtual address that moves does; those that exist stay.
    pub fn lead_to(&self, server: u16) {
        self.state.lock().server = server;
    }

    /// Resets all connections; new ones are taken.
    pub fn reset(&self) {
        self.state.reset();
    }

    /// Resets the connection that the server sees as coming from `port`. False when there is none.
    pub fn cut_link(&self, port: u16) -> bool {
        let is_it = |server: &TcpStream| server.local_addr().is_ok_and(|address| address.port() == port);
        let mut now = self.state.lock();
        let found = now.connections.iter().position(|(_, server)| is_it(server));
        let Some((client, server)) = found.map(|index| now.connections.swap_remove(index)) else {
            return false;
        };
        cut(&client);
        cut(&server);
        true
    }

    /// Resets all connections and refuses new ones, as a machine without the server does.
    pub fn refuse(&self) {
        {
            let mut now = self.state.lock();
            now.is_open = false;
            now.generation += 1;
        }
        // The acceptor wakes, sees that it is out of date and closes its listener.
        drop(TcpStream::connect(("127.0.0.1", self.port())));
        crate::eventually(Duration::from_secs(30), "the forwarder's port is closed", || {
            TcpListener::bind(("127.0.0.1", self.port())).is_ok()
        });
        self.state.reset();
    }

    /// Takes connections again.
    ///
    /// # Panics
    /// When the port cannot be had again.
    pub fn accept(&self) {
        let generation = {
            let mut now = self.state.lock();
            if now.is_open {
                return;
            }
            now.is_open = true;
            now.generation += 1;
            now.generation
        };
        let listener = TcpListener::bind(("127.0.0.1", self.port())).expect("the port is leased");
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || state.accept_all(&listener, generation));
    }

    /// How many connections it carries now.
    #[must_use]
    pub fn connections(&self) -> usize {
        let mut now = self.state.lock();
        now.connections.retain(|(client, _)| client.peer_addr().is_ok());
        now.connections.len()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.set(Weather::Fair);
        self.refuse();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept_all(self: &Arc<Self>, listener: &TcpListener, generation: u64) {
        while let Ok((client, _)) = listener.accept() {
            let port = {
                let now = self.lock();
                if now.generation != generation {
                    return;
                }
                now.server
            };
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                cut(&client);
                continue;
            };
            if let Err(error) = self.carry(client, server) {
                eprintln!("forwarder: {error}");
            }
        }
    }

    fn carry(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let pair = (client.try_clone()?, server.try_clone()?);
        let mut now = self.lock();
        now.connections.retain(|(client, _)| client.peer_addr().is_ok());
        now.connections.push(pair);
        drop(now);
        for direction in [Direction::ToServer, Direction::ToClient] {
            let state = Arc::clone(self);
            let (client, server) = (client.try_clone()?, server.try_clone()?);
            std::thread::spawn(move || state.pump(&client, &server, direction));
        }
        Ok(())
    }

    /// Carries one direction until its end, which is passed on as such.
    fn pump(&self, client: &TcpStream, server: &TcpStream, direction: Direction) {
        let (mut from, mut to) = match direction {
            Direction::ToServer => (client, server),
            Direction::ToClient => (server, client),
        };
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = match from.read(&mut chunk) {
                Ok(0) => {
                    let _closed = to.shutdown(Shutdown::Write);
                    return;
                }
                Ok(length) => length,
                Err(_) => {
                    cut(client);
                    cut(server);
                    return;
                }
            };
            let allowed = self.weather_the(length, direction);
            if to.write_all(&chunk[..allowed]).is_err() {
                cut(from);
                return;
            }
            if allowed < length {
                cut(client);
                cut(server);
                return;
            }
        }
    }

    /// Waits as the weather demands; then how many of `length` bytes may pass.
    fn weather_the(&self, length: usize, direction: Direction) -> usize {
        let mut now = self.lock();
        loop {
            match now.weather {
                Weather::Fair => return length,
                Weather::Slow(delay) => {
                    drop(now);
                    std::thread::sleep(delay);
                    return length;
                }
                Weather::Stalled => {
                    now = self.changed.wait(now).unwrap_or_else(PoisonError::into_inner);
                }
                Weather::CutAfter(left) => {
                    if direction == Direction::ToServer {
                        return length;
                    }
                    let allowed = length.min(left);
                    now.weather = Weather::CutAfter(left - allowed);
                    return allowed;
                }
            }
        }
    }

    fn reset(&self) {
        for (client, server) in self.lock().connections.drain(..) {
            cut(&client);
            cut(&server);
        }
        self.changed.notify_all();
    }
}

/// Ends a connection by RST.
fn cut(stream: &TcpStream) {
    let _gone = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _gone = stream.shutdown(Shutdown::Both);
}
