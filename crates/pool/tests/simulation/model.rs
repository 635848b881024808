//! What must be so, from what the pools have answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use trunkline_pool::limits::NEAR_WAIT;
use trunkline_pool::{
    CarriedState, CheckFirst, CloseReason, ConnectionToken, Effects, Given, Grant, GrantKind, PoolBound,
    PoolCounts, PoolKey, PoolSettings, Ticket, ToClose,
};
use trunkline_topology::ServerId;

/// A pool: a server, and the number of a key.
pub(crate) type At = (ServerId, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    Idle(Instant),
    Granted(Ticket, Instant),
    Testing,
    Held,
}

#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) at: At,
    pub(crate) state: CarriedState,
    pub(crate) place: Where,
    pub(crate) retired: bool,
    pub(crate) opened: Instant,
    /// Since when it had been idle when its client got it.
    pub(crate) unused_since: Instant,
}

#[derive(Clone, Debug)]
pub(crate) struct Waits {
    pub(crate) key: usize,
    pub(crate) client: u64,
    pub(crate) worker: u16,
    pub(crate) since: Instant,
    pub(crate) candidates: Vec<ServerId>,
    pub(crate) granted: Option<GrantKind>,
    /// What was granted is a place, and its server was retired since.
    pub(crate) retired: bool,
    pub(crate) noticed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) settings: PoolSettings,
    pub(crate) keys: Vec<PoolKey>,
    /// Whether the database and the user of a key are the first ones.
    names: Vec<[bool; 2]>,
    /// The first key of the same database, user and bound.
    first_of: Vec<usize>,
    /// Clients of each key.
    pub(crate) clients: Vec<u64>,
    pub(crate) connections: BTreeMap<ConnectionToken, Known>,
    pub(crate) waits: BTreeMap<Ticket, Waits>,
    /// What there was at the last look.
    totals: Sums,
    idle: Sums,
    /// Places that were taken, granted ones among them.
    pub(crate) places: BTreeMap<At, u32>,
    /// What was too much after the last step.
    over: BTreeMap<(Limit, ServerId), u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Limit {
    /// Of the keys that the size bounds together: the first of them.
    Size(usize),
    /// What is idle of those that it does not bound.
    Idle(usize),
    /// Whether it is the first one.
    Database(bool),
    User(bool),
}

pub(crate) const SERVERS: [ServerId; SERVERS_MAX] = [ServerId(0), ServerId(1), ServerId(1 << 16 | 2)];
pub(crate) const DATABASES: [&str; 2] = ["app", "logs"];
pub(crate) const USERS: [&str; 2] = ["web", "batch"];

/// Servers and keys of a schedule, at most.
pub(crate) const SERVERS_MAX: usize = 3;
pub(crate) const KEYS_MAX: usize = 8;

/// A number for each pool.
type Sums = [[u32; KEYS_MAX]; SERVERS_MAX];

/// Marks that an idle connection has and an ask does not stand in its way.
pub(crate) fn fits(asked: &CarriedState, idle: &CarriedState) -> bool {
    idle.marks & !asked.marks == 0
}

impl Model {
    pub(crate) fn new(settings: PoolSettings, keys: Vec<PoolKey>) -> Self {
        let both = |key: &PoolKey, other: &PoolKey| {
            let names = |key: &PoolKey| (key.database().to_owned(), key.user().to_owned(), key.bound());
            names(key) == names(other)
        };
        let first = |key| keys.iter().position(|other| both(key, other)).expect("itself");
        let names = keys.iter().map(|key| [key.database() == DATABASES[0], key.user() == USERS[0]]).collect();
        let first_of = keys.iter().map(first).collect();
        Model { settings, clients: vec![0; keys.len()], keys, names, first_of, ..Model::default() }
    }

    pub(crate) fn idle_of(&self, at: At) -> impl Iterator<Item = (&ConnectionToken, &Known)> {
        let idle = self.connections.iter().filter(move |(_, known)| known.at == at);
        idle.filter(|(_, known)| matches!(known.place, Where::Idle(_)))
    }

    pub(crate) fn usual_size(&self, key: usize) -> u32 {
        self.settings.size_of(self.keys[key].user(), self.keys[key].database())
    }

    pub(crate) fn most(&self, key: usize) -> u32 {
        let reserve =
            if self.settings.reserve_pool_timeout.is_zero() { 0 } else { self.settings.reserve_pool_size };
        self.usual_size(key) + reserve
    }

    /// Whether both are pools of one server whose keys have the same database, user and bound.
    pub(crate) fn is_with(&self, one: At, other: At) -> bool {
        one.0 == other.0 && self.first_of[one.1] == self.first_of[other.1]
    }

    pub(crate) fn is_unlimited(&self, at: At) -> bool {
        self.keys[at.1].bound() == PoolBound::Unlimited
    }

    /// What there is now of all that the size of this pool counts, and how many of them are idle.
    pub(crate) fn of_both(&self, at: At) -> (u32, u32) {
        let places = self.places.iter().filter(|(other, _)| self.is_with(at, **other));
        let opening: u32 = places.map(|(_, places)| places).sum();
        let same = self.connections.values().filter(|known| self.is_with(at, known.at));
        same.fold((opening, 0), |(total, idle), known| {
            (total + 1, idle + u32::from(matches!(known.place, Where::Idle(_))))
        })
    }

    /// The same at the last look.
    fn had_both(&self, at: At) -> (u32, u32) {
        let server = at.0.index();
        let same = (0..self.keys.len()).filter(|key| self.is_with(at, (at.0, *key)));
        same.fold((0, 0), |sum, key| (sum.0 + self.totals[server][key], sum.1 + self.idle[server][key]))
    }

    /// The limits of this key, with the number of what they count.
    fn limits(&self, (server, key): At) -> [(u32, u32, u32); 2] {
        let sum = |sums: &Sums, is_same: &dyn Fn(&[bool; 2]) -> bool| -> u32 {
            let keys = self.names.iter().zip(sums[server.index()]);
            keys.filter(|(other, _)| is_same(other)).map(|(_, sum)| sum).sum()
        };
        let same_database = |other: &[bool; 2]| other[0] == self.names[key][0];
        let same_user = |other: &[bool; 2]| other[1] == self.names[key][1];
        [
            (
                self.settings.max_db_connections,
                sum(&self.totals, &same_database),
                sum(&self.idle, &same_database),
            ),
            (self.settings.max_user_connections, sum(&self.totals, &same_user), sum(&self.idle, &same_user)),
        ]
    }

    /// Looks again at what there is.
    pub(crate) fn sum_up(&mut self) {
        (self.totals, self.idle) = Default::default();
        for ((server, key), places) in &self.places {
            self.totals[server.index()][*key] += places;
        }
        for known in self.connections.values() {
            let (server, key) = known.at;
            self.totals[server.index()][key] += 1;
            self.idle[server.index()][key] += u32::from(matches!(known.place, Where::Idle(_)));
        }
    }

    /// Whether there was room for a client of this key on this server at the last look; `size` is what its pool may have.
    pub(crate) fn has_room(&self, at: At, size: u32) -> bool {
        let (total, idle) = self.had_both(at);
        if !self.is_unlimited(at) && total >= size {
            // Instead of one of them.
            return idle > 0;
        }
        self.limits(at).iter().all(|(limit, total, idle)| *limit == 0 || total < limit || *idle > 0)
    }

    pub(crate) fn got(&mut self, given: &Given, at: At, now: Instant) {
        let settings = &self.settings;
        let known = self.connections.get_mut(&given.token).expect("a connection that there is");
        let since = match known.place {
            Where::Idle(since) | Where::Granted(_, since) => since,
            Where::Testing | Where::Held => panic!("{given:?} is another client's"),
        };
        assert_eq!((known.at, known.state), (at, given.state));
        assert_eq!(given.server, at.0);
        let is_due = now - since >= settings.server_check_delay;
        assert_eq!(given.check == CheckFirst::Needed, is_due);
        known.place = if is_due { Where::Testing } else { Where::Held };
        known.unused_since = since;
    }

    pub(crate) fn take_place(&mut self, at: At) {
        *self.places.entry(at).or_default() += 1;
    }

    pub(crate) fn give_place(&mut self, at: At) {
        let places = self.places.get_mut(&at).expect("a place that was taken");
        *places = places.checked_sub(1).expect("a place that was taken");
    }

    pub(crate) fn apply(&mut self, effects: &Effects) {
        for close in &effects.close {
            self.close(close);
        }
        for grant in &effects.grants {
            self.grant(grant);
        }
    }

    fn close(&mut self, close: &ToClose) {
        let known = self.connections.remove(&close.token).expect("a connection that there is");
        assert!(matches!(known.place, Where::Idle(_) | Where::Granted(..)), "{close:?} has a client");
        assert_eq!(known.at.0, close.server);
        assert_ne!(close.reason, CloseReason::Ended);
    }

    pub(crate) fn grant(&mut self, grant: &Grant) {
        let waits = self.waits.get(&grant.ticket).expect("a client that waits").clone();
        assert_eq!(waits.granted, None, "{grant:?} is a second one");
        assert_eq!((waits.worker, waits.client), (grant.worker, grant.client));
        let mut is_near = false;
        let server = match grant.what {
            GrantKind::Open(server) => {
                self.take_place((server, waits.key));
                server
            }
            GrantKind::Idle(token) => {
                let known = self.connections.get_mut(&token).expect("a connection that there is");
                let Where::Idle(since) = known.place else { panic!("{grant:?} is not idle: {known:?}") };
                assert_eq!(known.at.1, waits.key);
                known.place = Where::Granted(grant.ticket, since);
                is_near = token.worker == grant.worker;
                known.at.0
            }
        };
        assert!(waits.candidates.contains(&server), "{grant:?} is no candidate");
        let may_pass =
            |other: &Waits| is_near && other.worker != waits.worker && waits.since <= other.since + NEAR_WAIT;
        let older = self.waits.range(..grant.ticket).find(|(_, other)| {
            other.granted.is_none()
                && other.key == waits.key
                && other.candidates.contains(&server)
                && !may_pass(other)
        });
        assert!(older.is_none(), "{grant:?} has overtaken {older:?}");
        self.waits.get_mut(&grant.ticket).expect("it waits").granted = Some(grant.what);
    }

    /// What was checked in is closed or kept for a reason.
    pub(crate) fn closes_rightly(&self, known: &Known, reason: CloseReason, now: Instant) -> bool {
        let lifetime = self.settings.server_lifetime;
        match reason {
            CloseReason::Retired => known.retired,
            CloseReason::Lifetime => !lifetime.is_zero() && now - known.opened >= lifetime * 9 / 10,
            CloseReason::PoolSize if self.is_unlimited(known.at) => {
                self.of_both(known.at).1 >= self.usual_size(known.at.1)
            }
            CloseReason::PoolSize => self.of_both(known.at).0 > self.most(known.at.1),
            CloseReason::Limit => {
                self.limits(known.at).iter().any(|(limit, total, _)| *limit > 0 && total > limit)
            }
            // Its place was for one whose turn it was.
            CloseReason::Evicted => self.waits.values().any(|waits| waits.granted.is_none()),
            CloseReason::IdleTimeout | CloseReason::Ended | CloseReason::Left | CloseReason::Unknown => false,
        }
    }

    pub(crate) fn must_close(&self, known: &Known, now: Instant) -> bool {
        let lifetime = self.settings.server_lifetime;
        known.retired || (!lifetime.is_zero() && now - known.opened >= lifetime)
    }

    /// What is counted against a limit.
    fn counted(&self, at: At) -> [(Limit, u32, u32); 3] {
        let (key, none) = (&self.keys[at.1], u32::MAX);
        let [database, user] =
            self.limits(at).map(|(limit, total, _)| (total, if limit == 0 { none } else { limit }));
        let (first, (total, idle)) = (self.first_of[at.1], self.had_both(at));
        let size = match key.bound() {
            PoolBound::Sized => (Limit::Size(first), total, self.most(at.1)),
            PoolBound::Unlimited => (Limit::Idle(first), idle, self.usual_size(at.1)),
            PoolBound::Own => panic!("there are no such keys"),
        };
        [
            size,
            (Limit::Database(key.database() == DATABASES[0]), database.0, database.1),
            (Limit::User(key.user() == USERS[0]), user.0, user.1),
        ]
    }

    fn everywhere(&self) -> impl Iterator<Item = At> + use<> {
        let keys = self.keys.len();
        SERVERS.into_iter().flat_map(move |server| (0..keys).map(move |key| (server, key)))
    }

    /// No limit is exceeded; where a reload has left too much, it becomes less.
    pub(crate) fn check_limits(&mut self) {
        let mut over = BTreeMap::new();
        for at in self.everywhere() {
            for (limit, total, most) in self.counted(at).into_iter().filter(|(_, total, most)| total > most) {
                let before = self.over.get(&(limit, at.0));
                assert!(before.is_some_and(|before| total <= *before), "{limit:?} {at:?}: {total} > {most}");
                over.insert((limit, at.0), total);
            }
        }
        self.over = over;
    }

    /// After a reload: where there is too much, nothing is idle.
    pub(crate) fn check_shrunk(&self) {
        for at in self.everywhere() {
            let (total, idle) = self.had_both(at);
            match self.is_unlimited(at) {
                true => assert!(idle <= self.usual_size(at.1), "{at:?}: {idle} idle"),
                false => assert!(total <= self.most(at.1) || idle == 0, "{at:?}: {total}, {idle} idle"),
            }
            for (limit, total, idle) in self.limits(at) {
                assert!(limit == 0 || total <= limit || idle == 0, "{at:?}: {total} > {limit}, {idle} idle");
            }
        }
    }

    /// Before a reload: what there is may be too much by its end.
    pub(crate) fn may_be_over(&mut self) {
        for at in self.everywhere() {
            for (limit, total, _) in self.counted(at) {
                self.over.insert((limit, at.0), total);
            }
        }
    }

    /// Nobody waits while there is something for it.
    pub(crate) fn check_waits(&self, now: Instant) {
        for (ticket, waits) in self.waits.iter().filter(|(_, waits)| waits.granted.is_none()) {
            let timeout = self.settings.reserve_pool_timeout;
            let may_use_reserve = !timeout.is_zero() && now - waits.since >= timeout;
            let size = if may_use_reserve { self.most(waits.key) } else { self.usual_size(waits.key) };
            for server in &waits.candidates {
                let at = (*server, waits.key);
                assert!(self.idle[at.0.index()][at.1] == 0, "{ticket:?} {waits:?} waits beside an idle one");
                assert!(!self.has_room(at, size), "{ticket:?} {waits:?} waits beside room");
            }
        }
    }

    /// What is shown is what there is.
    pub(crate) fn check_counts<'a>(
        &self,
        shown: impl Iterator<Item = (Option<ServerId>, &'a PoolKey, PoolCounts)>,
        now: Instant,
    ) {
        let mut pools: BTreeMap<At, PoolCounts> = BTreeMap::new();
        for known in self.connections.values() {
            let counts = pools.entry(known.at).or_default();
            match known.place {
                Where::Idle(since) if now - since >= self.settings.server_check_delay => counts.sv_used += 1,
                Where::Idle(_) => counts.sv_idle += 1,
                Where::Testing => counts.sv_tested += 1,
                Where::Held | Where::Granted(..) => counts.sv_active += 1,
            }
        }
        for (at, places) in &self.places {
            pools.entry(*at).or_default().sv_login += u64::from(*places);
        }
        let mut clients = self.clients.clone();
        for (server, key, counts) in shown {
            let key = self.keys.iter().position(|known| known == key).expect("a key that was joined");
            match server {
                Some(server) => {
                    assert_eq!(pools.remove(&(server, key)).unwrap_or_default(), counts, "{server:?} {key}");
                }
                None => {
                    let waiting = || self.waits.values().filter(|w| w.key == key && w.granted.is_none());
                    let maxwait = waiting().map(|w| now - w.since).max().unwrap_or(Duration::ZERO);
                    let total = std::mem::take(&mut clients[key]);
                    assert_eq!(counts.cl_waiting, waiting().count() as u64);
                    assert_eq!(counts.cl_active + counts.cl_waiting, total);
                    assert_eq!(counts.maxwait, maxwait);
                }
            }
        }
        pools.retain(|_, counts| *counts != PoolCounts::default());
        assert!(pools.is_empty(), "not shown: {pools:?}");
        assert!(clients.iter().all(|clients| *clients == 0), "not shown: {clients:?}");
    }
}
