//! Model servers at the other end of the relay's connections.

use std::collections::BTreeMap;

use trunkline_model::{Rng, Server, wire};
use trunkline_net::memory::MemoryStream;

use trunkline_topology::ServerId;

use crate::net::memory::Network;
use crate::testing::server_at;

/// All connections that were ever made, the newest last.
pub(super) struct Servers {
    connections: Vec<ModelConnection>,
    joins_pipeline: bool,
    /// What new logins are refused with, server by server.
    refusals: BTreeMap<ServerId, &'static str>,
    /// Logins that were refused.
    pub(super) refused: usize,
}

/// One server process and its socket.
pub(super) struct ModelConnection {
    pub(super) model: Server,
    server: ServerId,
    /// `None` once it is closed.
    end: Option<MemoryStream>,
    is_logged_in: bool,
    is_resetting: bool,
    was_taken: bool,
    /// What its login is refused with.
    refusal: Option<&'static str>,
}

/// The WAL position that all servers of the simulation report: no session has seen more.
pub(super) const POSITION: &str = "0/5000";

impl Servers {
    pub(super) fn new(joins_pipeline: bool) -> Self {
        Servers { connections: Vec::new(), joins_pipeline, refusals: BTreeMap::new(), refused: 0 }
    }

    /// A server without faults.
    pub(super) fn ideal(&self) -> Server {
        Server::new(self.joins_pipeline)
    }

    /// Has a server refuse logins from now on with this code.
    pub(super) fn refuse(&mut self, server: ServerId, code: &'static str) {
        self.refusals.insert(server, code);
    }

    /// Has all servers let everybody in again.
    pub(super) fn let_in(&mut self) {
        self.refusals.clear();
    }

    /// The newest connection: the session's current or next one.
    pub(super) fn newest(&mut self) -> Option<&mut ModelConnection> {
        self.connections.last_mut()
    }

    /// The connection of a session that is on `server`. One that searches meanwhile asks other servers only.
    pub(super) fn of_session(&self, server: ServerId) -> Option<usize> {
        self.connections.iter().rposition(|connection| connection.server == server)
    }

    pub(super) fn number(&mut self, number: usize) -> &mut ModelConnection {
        &mut self.connections[number]
    }

    /// Notes that the session uses server number `taken` now.
    pub(super) fn take(&mut self, taken: usize) {
        self.connections[taken].was_taken = true;
    }

    /// The server before server number `taken`, without those where only the login was tried.
    pub(super) fn left(&self, taken: usize) -> Option<&Server> {
        let before = self.connections[..taken].iter().rev();
        before.filter(|connection| connection.was_taken).map(|connection| &connection.model).next()
    }

    /// Server number `taken` in its state before requests.
    pub(super) fn as_aligned(&self, taken: usize) -> Server {
        let mut server = self.connections[taken].model.clone();
        server.input.clear();
        server.output.clear();
        (server.is_closed, server.has_conflict) = (false, false);
        server
    }

    /// The number of connections so far.
    pub(super) fn count(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn accept(&mut self, network: &Network) -> bool {
        let mut has_accepted = false;
        while let Some((address, end)) = network.try_accept() {
            let mut model = Server::new(self.joins_pipeline);
            POSITION.clone_into(&mut model.position);
            let (server, end, is_logged_in) = (server_at(&address), Some(end), false);
            let refusal = self.refusals.get(&server).copied();
            self.connections.push(ModelConnection {
                model,
                server,
                end,
                is_logged_in,
                is_resetting: false,
                was_taken: false,
                refusal,
            });
            self.refused += usize::from(refusal.is_some());
            has_accepted = true;
        }
        has_accepted
    }

    /// One open connection makes a step. Returns whether it could.
    pub(super) fn act(&mut self, rng: &mut Rng, most: usize) -> bool {
        let mut open: Vec<&mut ModelConnection> =
            self.connections.iter_mut().filter(|c| c.end.is_some()).collect();
        if open.is_empty() {
            return false;
        }
        let at = rng.below(open.len());
        open[at].act(rng.below(3), most)
    }

    /// Every open connection makes the steps it can.
    pub(super) fn act_all(&mut self) -> bool {
        let mut has_acted = false;
        for connection in self.connections.iter_mut().filter(|c| c.end.is_some()) {
            for action in 0..3 {
                has_acted |= connection.act(action, usize::MAX);
            }
        }
        has_acted
    }
}

impl ModelConnection {
    pub(super) fn is_open(&self) -> bool {
        self.end.is_some() && !self.model.is_closed
    }

    pub(super) fn is_serving(&self) -> bool {
        self.is_open() && self.is_logged_in
    }

    /// The process ends, with or without a message. Its output arrives up to some byte, or is lost to a reset.
    pub(super) fn die(&mut self, rng: &mut Rng) {
        let words = match rng.below(4) {
            0 => Vec::new(),
            1 => wire::report(b'E', "FATAL", "57P01"),
            2 => wire::report(b'N', "WARNING", "57P01"),
            _crash => wire::report(b'N', "WARNING", "57P02"),
        };
        self.model.die(&words);
        if rng.one_in(2) {
            let cut = rng.below(self.model.output.len() + 1);
            self.model.output.truncate(cut);
        }
        self.is_resetting = rng.one_in(3);
    }

    fn act(&mut self, action: usize, most: usize) -> bool {
        match action {
            0 => self.read(most),
            1 => self.step(),
            _ => self.write(most),
        }
    }

    fn read(&mut self, most: usize) -> bool {
        let Some(end) = &self.end else { return false };
        match end.try_read(most) {
            Ok(bytes) if bytes.is_empty() => {
                // The proxy has closed: earlier requests are still processed, and the answers discarded.
                self.model.is_closed |= self.model.input.is_empty();
                if self.model.is_closed && self.model.output.is_empty() {
                    self.end = None;
                    return true;
                }
                false
            }
            Ok(bytes) => {
                self.model.input.extend(bytes);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(_reset) => {
                self.model.is_closed = true;
                self.end = None;
                true
            }
        }
    }

    fn step(&mut self) -> bool {
        if self.model.is_closed {
            return false;
        }
        if !self.is_logged_in {
            let Some(word) = self.model.input.first_chunk::<4>() else { return false };
            let length = u32::from_be_bytes(*word) as usize;
            if self.model.input.len() < length {
                return false;
            }
            self.model.input.drain(..length);
            if let Some(code) = self.refusal {
                self.model.output.extend(wire::report(b'E', "FATAL", code));
                self.model.is_closed = true;
                return true;
            }
            self.model.greet();
            self.is_logged_in = true;
            return true;
        }
        let before = self.model.input.len();
        self.model.step();
        self.model.input.len() != before
    }

    fn write(&mut self, most: usize) -> bool {
        let Some(end) = &self.end else { return false };
        if self.model.is_closed && self.is_resetting {
            if let Some(end) = self.end.take() {
                end.reset();
            }
            return true;
        }
        let output = &mut self.model.output;
        if !output.is_empty() {
            let count = most.min(output.len());
            return match end.try_write(&output[..count]) {
                Ok(written) => {
                    output.drain(..written);
                    true
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
                Err(_gone) => {
                    output.clear();
                    true
                }
            };
        }
        if !self.model.is_closed {
            return false;
        }
        // Read everything first, so that the last messages are not lost to a reset.
        while end.try_read(usize::MAX).is_ok_and(|bytes| !bytes.is_empty()) {}
        self.end = None;
        true
    }
}
