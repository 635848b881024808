//! Several clients on few server connections: each must see what a connection of its own would have answered.

use std::sync::Arc;
use std::time::Instant;

use trunkline_model::{Rng, Server, wire};
use trunkline_session::{
    AlignmentReader, ClientThen, ConnectionState, LoginParameters, Mobility, PinReason, ReportTiming,
    Rewritten, ServerRole, ServerThen, Session, SessionSettings, StatementNames, Tracking, diff,
};

use super::flights::{Checked, Flight, flights};
use super::world::story;
use super::{chunk, each_seed_of};

/// A server connection, and what it has.
struct Connection {
    server: Server,
    state: ConnectionState,
}

pub(crate) struct Client {
    session: Session,
    flights: std::vec::IntoIter<Flight>,
    /// What a connection of its own answers.
    own: Server,
    connection: Option<Server>,
    client_tail: Vec<u8>,
    server_tail: Vec<u8>,
    received: Vec<u8>,
    rewritten: Rewritten,
    /// What both sides said, for a schedule that fails.
    said: Vec<String>,
}

/// How the model's servers keep statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    Simple,
    /// See [`Server::strict`].
    Strict,
}

impl Servers {
    fn server(self, joins_pipeline: bool) -> Server {
        let server = Server::new(joins_pipeline);
        if self == Self::Strict { server.strict() } else { server }
    }
}

/// The connections that nobody has, and what became of all.
pub(crate) struct Pool {
    idle: Vec<Connection>,
    login: Arc<LoginParameters>,
    names: StatementNames,
    servers: Servers,
    pub(crate) opened: usize,
    pub(crate) reused: usize,
    unchanged: usize,
    /// What clients get cannot be compared any more.
    pub(crate) is_over: bool,
    pub(crate) pinned: usize,
}

/// Idle connections that are kept.
const IDLE_MAX: usize = 2;

fn greeting() -> Vec<u8> {
    [wire::message(b'S', b"TimeZone\0\0"), wire::message(b'S', b"in_hot_standby\0off\0")].concat()
}

impl Pool {
    pub(crate) fn new(names: StatementNames, servers: Servers) -> Self {
        let login = Arc::new(LoginParameters::new(&greeting()));
        Self {
            idle: Vec::new(),
            login,
            names,
            servers,
            opened: 0,
            reused: 0,
            unchanged: 0,
            is_over: false,
            pinned: 0,
        }
    }

    /// Any idle connection that fits, or a new one.
    fn take(&mut self, rng: &mut Rng, session: &Session) -> Connection {
        let wanted = session.state();
        if !self.idle.is_empty() && !rng.one_in(10) {
            let at = rng.below(self.idle.len());
            if self.idle[at].state.fits(&wanted) {
                self.reused += 1;
                return self.idle.swap_remove(at);
            }
        }
        self.opened += 1;
        let state = ConnectionState::logged_in(rng.one_in(4), Arc::clone(&self.login));
        Connection { server: self.servers.server(rng.one_in(2)), state }
    }

    fn give_back(&mut self, rng: &mut Rng, server: Server, state: ConnectionState) {
        if self.idle.len() >= IDLE_MAX {
            let at = rng.below(IDLE_MAX);
            self.idle.swap_remove(at);
        }
        self.idle.push(Connection { server, state });
    }

    /// A client ends whose connection is not as it was: that is reset, where this is enough.
    fn end(&mut self, rng: &mut Rng, client: &mut Client) {
        let Some(mut server) = client.connection.take() else { return };
        let state = client.session.connection_state();
        if let Some(mut left) = state.after_discard_all() {
            let reader = run_alone(&mut server, &ConnectionState::reset());
            left.reported(reader.parameters());
            self.give_back(rng, server, left);
        }
    }
}

/// Runs what the proxy sends between two sessions.
fn run_alone(server: &mut Server, alignment: &trunkline_session::Alignment) -> AlignmentReader {
    let mut reader = alignment.reader();
    if alignment.is_empty() {
        return reader;
    }
    server.input.extend_from_slice(&alignment.messages);
    while !server.input.is_empty() {
        server.step();
    }
    let answer = std::mem::take(&mut server.output);
    let step = reader.handle(&answer).unwrap_or_else(|error| {
        panic!("{error}: {} answered {}", story(&alignment.messages), story(&answer));
    });
    assert!(step.done && step.consumed == answer.len(), "{}", story(&answer));
    reader
}

impl Client {
    pub(crate) fn new(rng: &mut Rng, flights: Vec<Flight>, pool: &Pool) -> Self {
        let settings = SessionSettings {
            sql_bytes_max: if rng.one_in(2) { 100 } else { 0 },
            report_timing: ReportTiming::Off,
            server: Arc::from("primary"),
            tracking: Tracking::Full,
            mobility: Mobility::Movable,
            statement_names: pool.names,
            role: ServerRole::Primary,
            parameters: Arc::clone(&pool.login),
        };
        Self {
            session: Session::new(settings, Instant::now()),
            flights: flights.into_iter(),
            own: pool.servers.server(false),
            connection: None,
            client_tail: Vec::new(),
            server_tail: Vec::new(),
            received: Vec::new(),
            rewritten: Rewritten::default(),
            said: Vec::new(),
        }
    }

    fn check_out(&mut self, rng: &mut Rng, pool: &mut Pool) {
        let Connection { mut server, state } = pool.take(rng, &self.session);
        // Whatever the version, a client sees what its own server does.
        server.joins_pipeline = self.own.joins_pipeline;
        let alignment = diff(&state, &self.session.state());
        pool.unchanged += usize::from(alignment.is_empty());
        if !alignment.is_empty() {
            self.said.push(format!("aligned {}", story(&alignment.messages)));
        }
        let reader = run_alone(&mut server, &alignment);
        let announce = self.session.differences_on(&state, reader.parameters());
        assert!(announce.is_empty(), "{}: nothing differs once it is aligned", story(&announce));
        self.session.connection_taken(Arc::from("primary"), ServerRole::Primary, announce, &state);
        self.connection = Some(server);
    }

    /// Gives the connection back where nothing keeps it.
    fn check_in(&mut self, rng: &mut Rng, pool: &mut Pool) {
        match self.session.check_in_state() {
            Ok(state) => {
                self.said.push("checked in".to_owned());
                let server = self.connection.take().expect("it has one");
                self.session.connection_left();
                pool.give_back(rng, server, state);
            }
            Err(PinReason::Transaction) => {}
            Err(reason) => {
                pool.pinned += 1;
                self.said.push(format!("pinned: {reason}"));
            }
        }
    }

    /// One flight of its requests, and the answers to it.
    pub(crate) fn fly(&mut self, rng: &mut Rng, pool: &mut Pool) {
        let Some(flight) = self.flights.next() else { return pool.end(rng, self) };
        if self.connection.is_none() {
            self.check_out(rng, pool);
        }
        self.said.push(format!("client {}", story(&flight.bytes)));
        self.own.input.extend_from_slice(&flight.bytes);
        while !self.own.input.is_empty() {
            self.own.step();
        }
        let expected = std::mem::take(&mut self.own.output);
        let mut rest = &flight.bytes[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(chunk(rng).min(rest.len()));
            self.client_tail.extend_from_slice(now);
            rest = later;
            self.relay(rng);
        }
        self.relay(rng);
        while self.session.has_questions()
            && let Some(asked) = self.session.questions()
        {
            self.said.push(format!("asked {}", story(&asked)));
            self.send(&asked);
            self.relay(rng);
        }
        assert!(self.client_tail.is_empty() && self.server_tail.is_empty(), "bytes left over");
        let received = std::mem::take(&mut self.received);
        self.said.push(format!("server {}", story(&received)));
        pool.is_over |= flight.check(&expected, &received) == Checked::Other;
        if !rng.one_in(8) {
            self.check_in(rng, pool);
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.connection.as_mut().expect("it has one").input.extend_from_slice(bytes);
    }

    /// Relays until there is nothing more.
    fn relay(&mut self, rng: &mut Rng) {
        loop {
            let mut has_moved = false;
            if !self.session.is_paused() && !self.client_tail.is_empty() {
                has_moved |= self.client_goes_on();
            }
            let server = self.connection.as_mut().expect("it has one");
            if !server.input.is_empty() && !rng.one_in(3) {
                server.step();
                has_moved = true;
            }
            has_moved |= !server.input.is_empty();
            let most = chunk(rng).min(server.output.len());
            if most > 0 {
                self.server_tail.extend(server.output.drain(..most));
                self.server_goes_on();
                has_moved = true;
            }
            if !has_moved {
                return;
            }
        }
    }

    fn client_goes_on(&mut self) -> bool {
        let Self { session, client_tail, rewritten, .. } = self;
        let step = session.handle_client_renaming(client_tail, Instant::now(), rewritten, &mut ());
        let forwarded: Vec<u8> = self.client_tail.drain(..step.forward).collect();
        let sent = self.rewritten.sent(&forwarded).to_vec();
        if sent != forwarded {
            self.said.push(format!("sent {}", story(&sent)));
        }
        self.send(&sent);
        match step.then {
            ClientThen::ReadOn | ClientThen::Pause => step.forward > 0,
            ClientThen::Ask(own) => {
                self.said.push(format!("own {}", story(&own)));
                self.send(&own);
                true
            }
            ClientThen::Refuse(refused) => {
                self.client_tail.drain(..refused.dropped);
                self.received.extend_from_slice(&refused.answer);
                true
            }
            other => panic!("the script is sound: {other:?}"),
        }
    }

    fn server_goes_on(&mut self) {
        loop {
            let Self { session, server_tail, rewritten, .. } = self;
            let step = session.handle_server_renaming(server_tail, Instant::now(), rewritten, &mut ());
            self.received.extend_from_slice(self.rewritten.sent(&self.server_tail[..step.forward]));
            self.server_tail.drain(..step.forward);
            self.server_tail.drain(..step.dropped);
            if let Some(bytes) = &step.inject {
                self.received.extend_from_slice(bytes);
            }
            assert!(matches!(step.then, ServerThen::ReadOn), "the model is sound: {:?}", step.then);
            if step.inject.is_none() && step.dropped == 0 {
                return;
            }
        }
    }
}

/// Tells the story of a schedule that fails.
impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("----\n{}", self.said.join("\n"));
        }
    }
}

#[test]
fn clients_that_share_connections_see_what_their_own_would_answer() {
    let (mut opened, mut reused, mut unchanged, mut pinned) = (0, 0, 0, 0);
    each_seed_of(600, |rng| {
        let names = match rng.one_in(2) {
            true => StatementNames::OfClient,
            false => StatementNames::OfContent { statements_max: 1 + u32::from(rng.one_in(2)) * 100 },
        };
        let mut pool = Pool::new(names, Servers::Simple);
        let count = 2 + rng.below(3);
        let mut clients: Vec<Client> = (0..count)
            .map(|number| {
                let flights = flights(rng, number);
                Client::new(rng, flights, &pool)
            })
            .collect();
        for _ in 0..40 {
            let number = rng.below(count);
            clients[number].fly(rng, &mut pool);
        }
        opened += pool.opened;
        reused += pool.reused;
        unchanged += pool.unchanged;
        pinned += pool.pinned;
    });
    println!("{opened} opened, {reused} reused, {unchanged} unchanged, {pinned} check-ins pinned");
    assert!(reused > opened && pinned < reused, "too few schedules say anything");
}
