//! Ten thousand schedules of writes, reads, replay, questions, restarts and promotions, each made of a seed: whatever a session
//! reads on a standby shows all that it has written and the primary has.
//!
//! Sessions choose as `route = "statement"` does: by the floor, by what health has published, by what servers have told beside it, and
//! by the age of a connection. A failing seed is printed; `TRUNKLINE_SIMULATION_SEED=<seed>` runs it alone, and
//! `TRUNKLINE_SIMULATION_SCHEDULES=<count>` runs more of them.

use std::time::{Duration, Instant};

use fastrand::Rng;
use trunkline_codec::ids::Lsn;
use trunkline_routing::eligible::shows;
use trunkline_routing::{Floor, FloorPosition};
use trunkline_topology::testing::snapshot;
use trunkline_topology::{Role, ServerId, Snapshot, State};

const STEPS: usize = 120;
const SERVERS: usize = 3;
const SESSIONS: usize = 2;

/// Names the seed when a schedule panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing schedule: TRUNKLINE_SIMULATION_SEED={}", self.0);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A server as it is.
struct Server {
    role: Role,
    is_up: bool,
    /// How many entries of the log it shows, as a standby.
    replayed: usize,
    /// When the connection was begun that sessions have to it.
    connected: Option<Instant>,
}

/// A question that a server was asked.
struct Question {
    server: usize,
    asked: Instant,
    answer: Option<(Role, Lsn)>,
    asker: Asker,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asker {
    Health,
    Session,
}

#[derive(Default)]
struct Session {
    floor: Floor,
    writes: Vec<u64>,
}

/// How often what happened.
#[derive(Debug, Default)]
struct Seen {
    on_standby: u64,
    behind: u64,
    young: u64,
    on_promoted: u64,
    promotions: u64,
    restarts: u64,
}

struct World {
    rng: Rng,
    now: Instant,
    /// What the primary has, or the last one had: the number of each write.
    log: Vec<u64>,
    written: u64,
    servers: Vec<Server>,
    primary: Option<usize>,
    /// What health has published.
    snapshot: Snapshot,
    questions: Vec<Question>,
    /// What servers have told beside health, and when they were asked.
    told: [Option<(Instant, Lsn)>; SERVERS],
    sessions: [Session; SESSIONS],
    seen: Seen,
}

fn id(server: usize) -> ServerId {
    ServerId(u32::try_from(server).expect("few"))
}

fn position(entries: usize) -> Lsn {
    Lsn(8 * entries as u64)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut snapshot = snapshot();
        for server in &mut snapshot.servers {
            (server.replay_lsn, server.insert_lsn, server.asked_at) = (None, None, None);
        }
        let roles = [Role::Primary, Role::Standby, Role::Standby];
        let server = |role| Server { role, is_up: true, replayed: 0, connected: None };
        World {
            rng: Rng::with_seed(seed),
            now: snapshot.taken_at,
            log: Vec::new(),
            written: 0,
            servers: roles.map(server).into(),
            primary: Some(0),
            snapshot,
            questions: Vec::new(),
            told: [None; SERVERS],
            sessions: Default::default(),
            seen: Seen::default(),
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_micros(self.rng.u64(0..3));
        match self.rng.usize(0..100) {
            0..15 => self.write(),
            15..35 => self.read(),
            35..55 => self.replay(),
            55..70 => self.ask(),
            70..82 => self.answer(),
            82..94 => self.publish(),
            94..96 => self.restart(),
            96..97 => self.lose_primary(),
            97..99 => self.promote(),
            _ => self.rebuild(),
        }
    }

    fn session(&mut self) -> usize {
        self.rng.usize(0..SESSIONS)
    }

    /// A session or somebody else writes on the primary, if there is one.
    fn write(&mut self) {
        if self.primary.is_none() {
            return;
        }
        self.written += 1;
        self.log.push(self.written);
        if self.rng.bool() {
            return;
        }
        let session = self.session();
        self.sessions[session].writes.push(self.written);
        // Others may have written before the answer comes.
        if self.rng.bool() {
            self.written += 1;
            self.log.push(self.written);
        }
        self.now += Duration::from_micros(self.rng.u64(0..2));
        self.sessions[session].floor.raise(&self.snapshot, self.now);
    }

    fn replay(&mut self) {
        let server = self.rng.usize(0..SERVERS);
        let most = self.rng.usize(1..6);
        let server = &mut self.servers[server];
        if server.is_up && server.role == Role::Standby {
            server.replayed = (server.replayed + most).min(self.log.len());
        }
    }

    fn ask(&mut self) {
        let server = self.rng.usize(0..SERVERS);
        let asker = if self.rng.bool() { Asker::Health } else { Asker::Session };
        // One question at a time.
        if !self.questions.iter().any(|question| question.server == server && question.asker == asker) {
            self.questions.push(Question { server, asked: self.now, answer: None, asker });
        }
    }

    fn answer(&mut self) {
        if self.questions.is_empty() {
            return;
        }
        let at = self.rng.usize(0..self.questions.len());
        let server = &self.servers[self.questions[at].server];
        if self.questions[at].answer.is_some() {
        } else if server.is_up {
            let shown = if server.role == Role::Primary { self.log.len() } else { server.replayed };
            self.questions[at].answer = Some((server.role, position(shown)));
        } else {
            let lost = self.questions.swap_remove(at);
            if lost.asker == Asker::Health {
                self.is_down(lost.server);
            }
        }
    }

    fn is_down(&mut self, server: usize) {
        self.snapshot.servers[server].state = State::Down;
        if self.snapshot.primary == Some(id(server)) {
            self.snapshot.primary = None;
        }
    }

    /// An answer arrives.
    fn publish(&mut self) {
        let Some(at) = self.questions.iter().position(|question| question.answer.is_some()) else { return };
        let Question { server, asked, answer, asker } = self.questions.swap_remove(at);
        let Some((role, lsn)) = answer else { return };
        if asker == Asker::Session {
            self.told[server] = Some((asked, lsn));
            return;
        }
        let status = &mut self.snapshot.servers[server];
        (status.role, status.state, status.asked_at) = (role, State::Up, Some(asked));
        status.replay_lsn = (role == Role::Standby).then_some(lsn);
        status.insert_lsn = (role == Role::Primary).then_some(lsn);
        if role == Role::Primary {
            self.snapshot.primary = Some(id(server));
        } else if self.snapshot.primary == Some(id(server)) {
            self.snapshot.primary = None;
        }
    }

    /// A standby that was killed shows less at first than it did.
    fn restart(&mut self) {
        let server = self.rng.usize(0..SERVERS);
        if !self.servers[server].is_up || self.servers[server].role == Role::Primary {
            return;
        }
        let replayed = self.servers[server].replayed;
        self.servers[server].replayed = replayed - self.rng.usize(0..=replayed.min(5));
        self.servers[server].connected = None;
        self.questions.retain(|question| question.server != server || question.answer.is_some());
        self.seen.restarts += 1;
    }

    fn lose_primary(&mut self) {
        if let Some(primary) = self.primary.take() {
            self.servers[primary].is_up = false;
            self.servers[primary].connected = None;
        }
    }

    /// A standby becomes the primary with what it has. Who has more is not this cluster's any more.
    fn promote(&mut self) {
        let server = self.rng.usize(0..SERVERS);
        if self.primary.is_some() || !self.servers[server].is_up {
            return;
        }
        self.log.truncate(self.servers[server].replayed);
        // The end of its recovery is in its WAL.
        self.log.push(0);
        self.servers[server].role = Role::Primary;
        self.primary = Some(server);
        for other in self.servers.iter_mut().filter(|other| other.role == Role::Standby) {
            if other.replayed >= self.log.len() {
                other.is_up = false;
                other.connected = None;
            }
        }
        self.seen.promotions += 1;
    }

    /// A server that is gone comes back as a standby, made anew.
    fn rebuild(&mut self) {
        let server = self.rng.usize(0..SERVERS);
        if !self.servers[server].is_up && self.primary.is_some() {
            let replayed = self.rng.usize(0..=self.log.len());
            self.servers[server] = Server { role: Role::Standby, is_up: true, replayed, connected: None };
        }
    }

    /// A session reads: on a standby where that is known to show enough.
    fn read(&mut self) {
        let session = self.session();
        let Some((server, at_least)) = self.chosen(session) else {
            self.seen.behind += 1;
            return;
        };
        if !self.servers[server].is_up {
            return;
        }
        let connected = *self.servers[server].connected.get_or_insert(self.now);
        if self.known_at(server, at_least).is_none_or(|known| connected > known) {
            self.seen.young += 1;
            return;
        }
        if self.servers[server].role == Role::Primary {
            self.seen.on_promoted += 1;
            return;
        }
        self.seen.on_standby += 1;
        let shown = &self.log[..self.servers[server].replayed];
        for write in &self.sessions[session].writes {
            assert!(
                shown.contains(write) || !self.log.contains(write),
                "server {server} at {at_least} does not show write {write}"
            );
        }
    }

    /// The standby that this session reads on, and what it has to show; none where the primary has to answer.
    fn chosen(&mut self, session: usize) -> Option<(usize, Lsn)> {
        let floor = &mut self.sessions[session].floor;
        if let Some(primary) = self.snapshot.primary
            && let Some((asked, lsn)) = self.told[primary.index()]
        {
            floor.told(primary, asked, lsn);
        }
        let at_least = match floor.position(&self.snapshot, self.now) {
            FloorPosition::Any => Lsn(0),
            FloorPosition::At(lsn) => lsn,
            FloorPosition::Unknown => return None,
        };
        let is_standby = |server: &usize| {
            let status = &self.snapshot.servers[*server];
            status.role == Role::Standby && status.state.takes_new()
        };
        let enough: Vec<usize> = (0..SERVERS)
            .filter(is_standby)
            .filter(|server| self.known_at(*server, at_least).is_some())
            .collect();
        let at = self.rng.usize(0..enough.len().max(1));
        enough.get(at).map(|server| (*server, at_least))
    }

    /// When the server was asked that is known to show this.
    fn known_at(&self, server: usize, at_least: Lsn) -> Option<Instant> {
        let status = &self.snapshot.servers[server];
        let looked = status.asked_at.filter(|_| shows(&self.snapshot, status, at_least));
        let told = self.told[server].filter(|(_, lsn)| *lsn >= at_least);
        looked.max(told.map(|(asked, _)| asked))
    }
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.on_standby += other.on_standby;
        self.behind += other.behind;
        self.young += other.young;
        self.on_promoted += other.on_promoted;
        self.promotions += other.promotions;
        self.restarts += other.restarts;
    }

    fn has_all(&self) -> bool {
        let Seen { on_standby, behind, young, on_promoted, promotions, restarts } = *self;
        [on_standby, behind, young, on_promoted, promotions, restarts].iter().all(|count| *count > 100)
    }
}

#[test]
fn what_a_session_has_written_it_reads() {
    let count = number("TRUNKLINE_SIMULATION_SCHEDULES").unwrap_or(10_000);
    let one = number("TRUNKLINE_SIMULATION_SEED");
    let mut seen = Seen::default();
    for seed in one.map_or(0..count, |seed| seed..seed + 1) {
        let named = Named(seed);
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        seen.add(&world.seen);
        drop(named);
    }
    // Schedules that never get there prove nothing.
    assert!(one.is_some() || count < 1000 || seen.has_all(), "{seen:?}");
}
