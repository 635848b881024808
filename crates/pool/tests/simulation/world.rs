//! Clients, servers and a clock around the pools.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use trunkline_pool::{
    CarriedState, CheckIn, CheckOut, CheckedIn, CloseReason, ConnectionToken, Due, Effects, Grant, PoolAsk,
    PoolBound, PoolId, PoolKey, PoolOverride, PoolSettings, Pools, ReservedPlace, Taken, Ticket, WaitState,
};
use trunkline_topology::ServerId;

use crate::model::{At, DATABASES, Model, SERVERS, USERS, Waits, Where, fits};

const CLIENTS: usize = 12;

/// A connection that is being opened.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) place: ReservedPlace,
    /// Its server was retired since.
    pub(crate) retired: bool,
}

/// What a client does.
#[derive(Debug)]
pub(crate) enum Client {
    Away,
    Free(usize, PoolId),
    Waits(usize, PoolId, Ticket),
    Opens(usize, PoolId, Opening),
    Has(usize, PoolId, ConnectionToken),
}

/// How often the schedules have got to what they are about.
#[derive(Debug, Default)]
pub(crate) struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Seen) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    pub(crate) fn has_all(&self) -> bool {
        let reasons = CloseReason::COUNTED.map(CloseReason::word);
        let events =
            ["idle", "open", "wait", "given", "granted", "revoked", "expired", "notice", "fill", "put back"];
        let of_keys = ["of another key", "beyond the size", "spare", "untouched", "unchanged"];
        reasons
            .into_iter()
            .chain(events)
            .chain(of_keys)
            .all(|what| self.0.get(what).is_some_and(|times| *times > 100))
    }
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Instant,
    pub(crate) pools: Pools,
    pub(crate) model: Model,
    pub(crate) clients: Vec<Client>,
    pub(crate) fills: Vec<(Opening, usize)>,
    pub(crate) seen: Seen,
    /// How many of the servers this schedule has.
    servers: usize,
    /// Names given.
    opened: u32,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let settings = settings(&mut rng);
        let mut keys = Vec::new();
        for database in DATABASES {
            for user in USERS {
                keys.push(PoolKey::new(database, user, PoolBound::Sized, 1, b"plain"));
            }
        }
        // The same digest, and still others.
        for (bound, rest) in [
            (PoolBound::Sized, b"other"),
            (PoolBound::Sized, b"third"),
            (PoolBound::Unlimited, b"other"),
            (PoolBound::Unlimited, b"third"),
        ] {
            keys.push(PoolKey::new(DATABASES[0], USERS[0], bound, 1, rest));
        }
        rng.shuffle(&mut keys);
        keys.truncate(rng.usize(1..=keys.len()));
        let servers = rng.usize(1..=SERVERS.len());
        World {
            rng,
            now: Instant::now(),
            pools: Pools::new(settings.clone()),
            model: Model::new(settings, keys),
            servers,
            clients: (0..CLIENTS).map(|_| Client::Away).collect(),
            fills: Vec::new(),
            seen: Seen::default(),
            opened: 0,
        }
    }

    pub(crate) fn step(&mut self) {
        self.event();
        self.look();
    }

    /// Does what is due, and looks whether everything is as it must be.
    pub(crate) fn look(&mut self) {
        if self.pools.next_due(self.now).is_some_and(|at| at <= self.now) {
            let due = self.pools.due(self.now);
            self.due(due);
            let next = self.pools.next_due(self.now);
            assert!(next.is_none_or(|at| at > self.now), "due again at once");
        }
        self.model.sum_up();
        self.model.check_limits();
        self.model.check_waits(self.now);
        self.model.check_counts(self.pools.counts(self.now), self.now);
    }

    fn due(&mut self, due: Due) {
        for wait in &due.expired {
            let timeout = self.model.settings.query_wait_timeout;
            let waits = self.model.waits.remove(&wait.ticket).expect("it waits");
            assert!(waits.granted.is_none() && !timeout.is_zero() && wait.waited >= timeout, "{wait:?}");
            assert_eq!((waits.client, waits.worker), (wait.client, wait.worker));
            let Client::Waits(key, id, ticket) = self.clients[wait.client as usize] else {
                panic!("{wait:?} does not wait")
            };
            assert_eq!(ticket, wait.ticket);
            self.clients[wait.client as usize] = Client::Free(key, id);
            assert_eq!(self.pools.take(ticket, self.now), WaitState::Over);
            self.seen.note("expired");
        }
        for wait in &due.notices {
            let waits = self.model.waits.get_mut(&wait.ticket).expect("it waits");
            assert!(!std::mem::replace(&mut waits.noticed, true), "told twice");
            assert!(wait.waited >= Duration::from_secs(5));
            self.seen.note("notice");
        }
        self.effects(&due.effects);
        for (place, key) in due.open {
            let named = self.pools.key_of(key).expect("it is known");
            let key = self.model.keys.iter().position(|known| known == named).expect("a key that was joined");
            let at = (place.server(), key);
            self.model.take_place(at);
            assert!(
                self.model.of_both(at).0 <= self.model.settings.min_pool_size,
                "filled beyond what is asked"
            );
            self.fills.push((Opening { place, retired: false }, key));
            self.seen.note("fill");
        }
        self.check_ends();
    }

    /// Nobody waits, and nothing is idle, for longer than it may.
    fn check_ends(&self) {
        let settings = &self.model.settings;
        for waits in self.model.waits.values().filter(|waits| waits.granted.is_none()) {
            let waited = self.now - waits.since;
            assert!(settings.query_wait_timeout.is_zero() || waited < settings.query_wait_timeout);
            assert!(waited < Duration::from_secs(5) || waits.noticed);
        }
        for known in self.model.connections.values() {
            let Where::Idle(since) = known.place else { continue };
            assert!(!self.model.must_close(known, self.now), "{known:?} is too old");
            let is_spare = self.model.of_both(known.at).0 > settings.min_pool_size;
            let timeout = settings.server_idle_timeout;
            assert!(
                timeout.is_zero() || !is_spare || self.now - since < timeout,
                "{known:?} is idle too long, one of {} {settings:?} {:?}",
                self.model.of_both(known.at).0,
                self.now
            );
        }
    }

    pub(crate) fn effects(&mut self, effects: &Effects) {
        for close in &effects.close {
            self.seen.note(close.reason.word());
        }
        for _ in &effects.grants {
            self.seen.note("granted");
        }
        self.model.apply(effects);
    }

    pub(crate) fn candidates(&mut self) -> Vec<ServerId> {
        let mut servers = SERVERS[..self.servers].to_vec();
        self.rng.shuffle(&mut servers);
        let count = self.rng.usize(0..=12).min(servers.len());
        servers.truncate(count);
        servers
    }

    pub(crate) fn state(&mut self) -> CarriedState {
        CarriedState { fingerprint: self.rng.u64(0..3), marks: self.rng.u64(0..4) & self.rng.u64(0..4) }
    }

    pub(crate) fn asks(&mut self, client: usize, key: usize, id: PoolId) {
        let (candidates, state) = (self.candidates(), self.state());
        let worker = self.rng.u16(0..2);
        let ask = PoolAsk { key: id, candidates: &candidates, state, fits, worker, client: client as u64 };
        let got = self.pools.check_out(&ask, self.now);
        let size = self.model.usual_size(key);
        let first = candidates.iter().find(|server| {
            let at = (**server, key);
            self.model.idle_of(at).next().is_some() || self.model.has_room(at, size)
        });
        self.clients[client] = match got {
            CheckOut::Idle(given) => {
                let at = (given.server, key);
                assert_eq!(Some(&given.server), first, "not the best candidate");
                self.check_choice(at, &ask, given.token);
                self.model.got(&given, at, self.now);
                self.seen.note("idle");
                Client::Has(key, id, given.token)
            }
            CheckOut::Open { place, effects } => {
                let at = (place.server(), key);
                assert_eq!(Some(&place.server()), first, "not the best candidate");
                let mut idle = self.model.idle_of(at);
                assert!(
                    !idle.any(|(_, known)| may_serve(&state, &known.state)),
                    "opened beside one that fits"
                );
                drop(idle);
                self.check_evicted(at, &effects);
                self.model.take_place(at);
                self.effects(&effects);
                self.seen.note("open");
                Client::Opens(key, id, Opening { place, retired: false })
            }
            CheckOut::Wait(ticket) => {
                assert_eq!(None, first, "waits beside something");
                let waits = Waits {
                    key,
                    client: client as u64,
                    worker,
                    since: self.now,
                    candidates,
                    granted: None,
                    retired: false,
                    noticed: false,
                };
                self.model.waits.insert(ticket, waits);
                self.seen.note("wait");
                Client::Waits(key, id, ticket)
            }
            CheckOut::Refused(refusal) => panic!("{refusal}"),
        };
    }

    /// Where the size is reached, the one that was idle longest of all keys that it bounds is closed, and no other.
    fn check_evicted(&mut self, at: At, effects: &Effects) {
        let key = &self.model.keys[at.1];
        if key.bound() == PoolBound::Unlimited {
            if self.model.of_both(at).0 >= self.model.usual_size(at.1) {
                self.seen.note("beyond the size");
            }
            return;
        }
        if self.model.of_both(at).0 < self.model.usual_size(at.1) {
            return;
        }
        let [close] = effects.close[..] else { panic!("{effects:?} instead of one of {key:?}") };
        let closed = &self.model.connections[&close.token];
        assert!(self.model.is_with(closed.at, at), "{close:?} is none of {key:?}");
        let since = |known: &crate::model::Known| match known.place {
            Where::Idle(since) => Some(since),
            Where::Granted(..) | Where::Testing | Where::Held => None,
        };
        let idle = self.model.connections.values().filter(|known| self.model.is_with(known.at, at));
        assert_eq!(since(closed), idle.filter_map(since).min(), "{close:?} is not the one idle longest");
        if closed.at != at {
            self.seen.note("of another key");
        }
    }

    /// Of those that fit, the one in the state that is asked for, then the one with its marks, then the one of the worker, then
    /// the one used last.
    fn check_choice(&self, at: At, ask: &PoolAsk<'_>, token: ConnectionToken) {
        let cost = |token: &ConnectionToken, state: &CarriedState, since: Instant| {
            let is_other = state.fingerprint != ask.state.fingerprint;
            let has_other_marks = is_other && state.marks != ask.state.marks;
            (is_other, has_other_marks, token.worker != ask.worker, self.now - since)
        };
        let fitting = self.model.idle_of(at).filter(|(_, known)| may_serve(&ask.state, &known.state));
        let costs = fitting.map(|(other, known)| {
            let Where::Idle(since) = known.place else { panic!("{known:?} is idle") };
            (*other == token, cost(other, &known.state, since))
        });
        let costs: Vec<_> = costs.collect();
        let own = costs.iter().find(|(is_it, _)| *is_it).expect("one that fits");
        assert!(costs.iter().all(|(_, other)| own.1 <= *other), "not the best one: {costs:?}");
    }

    /// A name that no connection has had.
    pub(crate) fn token(&mut self) -> ConnectionToken {
        self.opened += 1;
        ConnectionToken { worker: self.rng.u16(0..2), slot: self.opened % 7, generation: self.opened }
    }

    pub(crate) fn opened(&mut self, opening: Opening, key: usize) -> ConnectionToken {
        let token = self.token();
        let at = (opening.place.server(), key);
        let effects = self.pools.opened(opening.place, token, self.now);
        self.model.give_place(at);
        let known = crate::model::Known {
            at,
            state: CarriedState::default(),
            place: Where::Held,
            retired: opening.retired,
            opened: self.now,
            unused_since: self.now,
        };
        self.model.connections.insert(token, known);
        self.effects(&effects);
        token
    }

    pub(crate) fn checks_in(&mut self, token: ConnectionToken) {
        let state = self.state();
        let back = self.pools.check_in(token, state, self.now);
        self.comes_back(token, back, state, self.now);
    }

    /// A client gives back what it has not used.
    pub(crate) fn puts_back(&mut self, token: ConnectionToken) {
        let back = self.pools.put_back(token, self.now);
        let known = &self.model.connections[&token];
        let (state, since) = (known.state, known.unused_since);
        self.seen.note("untouched");
        self.comes_back(token, back, state, since);
    }

    fn comes_back(&mut self, token: ConnectionToken, back: CheckIn, state: CarriedState, since: Instant) {
        let CheckIn { fate, effects } = back;
        let known = self.model.connections[&token].clone();
        let must_close = self.model.must_close(&known, self.now);
        match fate {
            CheckedIn::Close(reason) => {
                assert!(self.model.closes_rightly(&known, reason, self.now), "{known:?}: {reason:?}");
                if reason == CloseReason::PoolSize && self.model.is_unlimited(known.at) {
                    self.seen.note("spare");
                }
                self.model.connections.remove(&token);
                self.seen.note(reason.word());
                self.effects(&effects);
            }
            CheckedIn::Idle | CheckedIn::GivenTo(_) => {
                assert!(!must_close, "{known:?} must close");
                let known = self.model.connections.get_mut(&token).expect("known");
                (known.state, known.place) = (state, Where::Idle(since));
                self.effects(&effects);
                if let CheckedIn::GivenTo(grant) = fate {
                    self.given(&grant);
                }
            }
        }
    }

    fn given(&mut self, grant: &Grant) {
        self.model.grant(grant);
        self.seen.note("given");
    }

    pub(crate) fn takes(&mut self, client: usize, key: usize, id: PoolId, ticket: Ticket) {
        let taken = self.pools.take(ticket, self.now);
        if self.model.waits[&ticket].granted.is_none() {
            assert_eq!(taken, WaitState::Waiting);
            return;
        }
        let retired = self.model.waits.remove(&ticket).is_some_and(|waits| waits.retired);
        let WaitState::Ready(taken) = taken else { panic!("{taken:?} is not what was granted") };
        assert_eq!(self.pools.take(ticket, self.now), WaitState::Over);
        self.clients[client] = match taken {
            Taken::Idle(given) => {
                self.model.got(&given, (given.server, key), self.now);
                Client::Has(key, id, given.token)
            }
            Taken::Open(place) => Client::Opens(key, id, Opening { place, retired }),
        };
    }
}

fn may_serve(asked: &CarriedState, idle: &CarriedState) -> bool {
    asked.fingerprint == idle.fingerprint || fits(asked, idle)
}

/// Small numbers, so that every limit is reached.
pub(crate) fn settings(rng: &mut Rng) -> PoolSettings {
    let mut seconds = |most: u64| Duration::from_secs(rng.u64(0..=most));
    let (reserve_pool_timeout, query_wait_timeout) = (seconds(2), seconds(12));
    let (server_idle_timeout, server_lifetime, server_check_delay) = (seconds(9), seconds(30), seconds(5));
    let batch =
        PoolOverride { user: Some(USERS[1].to_owned()), pool_size: Some(1), ..PoolOverride::default() };
    // Without any as often as with them.
    let limits = if rng.bool() { [0, 0] } else { [rng.u32(0..=4), rng.u32(0..=4)] };
    PoolSettings {
        pool_size: rng.u32(1..=3),
        min_pool_size: rng.u32(0..=2),
        reserve_pool_size: rng.u32(0..=2),
        reserve_pool_timeout,
        max_db_connections: limits[0],
        max_user_connections: limits[1],
        query_wait_timeout,
        server_idle_timeout,
        server_lifetime,
        server_check_delay,
        overrides: if rng.bool() { vec![batch] } else { Vec::new() },
        ..PoolSettings::default()
    }
}
