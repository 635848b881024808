//! What happens in a schedule.

use std::time::Duration;

use trunkline_pool::{
    CheckIn, CheckedIn, CloseReason, ConnectionToken, Effects, GrantKind, Ticket, WaitState,
};

use crate::model::{SERVERS, Where};
use crate::world::{Client, World, settings};

impl World {
    pub(crate) fn event(&mut self) {
        match self.rng.usize(0..100) {
            0..70 => {
                let client = self.rng.usize(0..self.clients.len());
                self.client(client);
            }
            70..76 => self.fill(),
            76..82 => self.ends(),
            82..84 => self.retires(),
            84..86 => self.reloads(),
            86..88 => self.nonsense(),
            _time => self.now += Duration::from_millis(self.rng.u64(1..3_000)),
        }
    }

    fn client(&mut self, client: usize) {
        match std::mem::replace(&mut self.clients[client], Client::Away) {
            Client::Away => {
                let key = self.rng.usize(0..self.model.keys.len());
                let id = self.pools.join(&self.model.keys[key]).expect("few keys");
                self.model.clients[key] += 1;
                self.clients[client] = Client::Free(key, id);
            }
            Client::Free(key, id) => match self.rng.usize(0..6) {
                0 => {
                    assert!(self.pools.leave(id).is_empty());
                    self.model.clients[key] -= 1;
                }
                _ => self.asks(client, key, id),
            },
            Client::Waits(key, id, ticket) => {
                self.clients[client] = Client::Waits(key, id, ticket);
                match self.rng.usize(0..6) {
                    0 => {
                        self.cancels(ticket);
                        self.clients[client] = Client::Free(key, id);
                    }
                    1 => {
                        let mut candidates = self.model.waits[&ticket].candidates.clone();
                        self.rng.shuffle(&mut candidates);
                        let effects = self.pools.set_candidates(ticket, &candidates);
                        assert!(effects.is_empty(), "{effects:?}, and nothing has changed");
                        self.seen.note("unchanged");
                    }
                    2 => {
                        let candidates = self.candidates();
                        let effects = self.pools.set_candidates(ticket, &candidates);
                        self.model.waits.get_mut(&ticket).expect("it waits").candidates = candidates;
                        self.effects(&effects);
                    }
                    _ => self.takes(client, key, id, ticket),
                }
            }
            Client::Opens(key, id, opening) => {
                let at = (opening.place.server(), key);
                self.clients[client] = match self.rng.usize(0..5) {
                    0 => {
                        let effects = match self.rng.bool() {
                            true => self.pools.open_failed(opening.place, self.now),
                            false => self.pools.unused(opening.place),
                        };
                        self.model.give_place(at);
                        self.effects(&effects);
                        Client::Free(key, id)
                    }
                    _ => Client::Has(key, id, self.opened(opening, key)),
                };
            }
            Client::Has(key, id, token) => {
                self.clients[client] = Client::Free(key, id);
                match self.rng.usize(0..9) {
                    0 => self.closes(token),
                    3 => self.puts_back(token),
                    1 => {
                        self.pools.checked(token);
                        self.model.connections.get_mut(&token).expect("known").place = Where::Held;
                        self.clients[client] = Client::Has(key, id, token);
                    }
                    2 => {
                        let token = self.moves(token);
                        self.clients[client] = Client::Has(key, id, token);
                    }
                    _ => self.checks_in(token),
                }
            }
        }
    }

    /// A connection goes to another worker.
    fn moves(&mut self, token: ConnectionToken) -> ConnectionToken {
        let to = self.token();
        self.pools.rename(token, to);
        let known = self.model.connections.remove(&token).expect("known");
        self.model.connections.insert(to, known);
        assert!(self.pools.closed(token).is_empty(), "the old name is nobody's");
        to
    }

    /// A client that waits goes away.
    fn cancels(&mut self, ticket: Ticket) {
        let effects = self.pools.cancel(ticket, self.now);
        assert_eq!(self.pools.take(ticket, self.now), WaitState::Over);
        let waits = self.model.waits.remove(&ticket).expect("it waits");
        match waits.granted {
            None => {}
            Some(GrantKind::Open(server)) => self.model.give_place((server, waits.key)),
            Some(GrantKind::Idle(token)) => {
                let known = self.model.connections.get_mut(&token).expect("known");
                let Where::Granted(_, since) = known.place else { panic!("{known:?} is granted") };
                known.place = Where::Idle(since);
                self.seen.note("put back");
            }
        }
        self.effects(&effects);
    }

    /// A connection ends, and the pools are told.
    pub(crate) fn closes(&mut self, token: ConnectionToken) {
        let effects = self.pools.closed(token);
        let known = self.model.connections.remove(&token).expect("known");
        if let Where::Granted(ticket, _) = known.place {
            self.model.waits.get_mut(&ticket).expect("it waits").granted = None;
            self.seen.note("revoked");
        }
        self.seen.note(CloseReason::Ended.word());
        self.effects(&effects);
    }

    /// A server ends a connection that no client has.
    fn ends(&mut self) {
        let idle = self.model.connections.iter();
        let idle = idle.filter(|(_, known)| matches!(known.place, Where::Idle(_) | Where::Granted(..)));
        let idle: Vec<_> = idle.map(|(token, _)| *token).collect();
        if let Some(token) = self.rng.choice(idle) {
            self.closes(token);
        }
    }

    fn fill(&mut self) {
        if let Some((opening, key)) = self.fills.pop() {
            if self.rng.usize(0..4) == 0 {
                let at = (opening.place.server(), key);
                let effects = self.pools.open_failed(opening.place, self.now);
                self.model.give_place(at);
                self.effects(&effects);
            } else {
                let token = self.opened(opening, key);
                self.checks_in(token);
            }
        }
    }

    fn retires(&mut self) {
        let server = SERVERS[self.rng.usize(0..SERVERS.len())];
        let effects = self.pools.retire(server);
        for known in self.model.connections.values_mut().filter(|known| known.at.0 == server) {
            known.retired = true;
        }
        for client in &mut self.clients {
            if let Client::Opens(_, _, opening) = client {
                opening.retired |= opening.place.server() == server;
            }
        }
        for (opening, _) in &mut self.fills {
            opening.retired |= opening.place.server() == server;
        }
        for waits in self.model.waits.values_mut() {
            waits.retired |= waits.granted == Some(GrantKind::Open(server));
        }
        self.effects(&effects);
        let idle = SERVERS.iter().filter(|known| **known == server);
        let keys = 0..self.model.keys.len();
        let idle = idle.flat_map(|server| keys.clone().flat_map(|key| self.model.idle_of((*server, key))));
        assert_eq!(idle.count(), 0, "idle on a retired server");
    }

    fn reloads(&mut self) {
        let settings = settings(&mut self.rng);
        self.model.may_be_over();
        self.model.settings = settings.clone();
        let effects = self.pools.reconfigure(settings);
        self.effects(&effects);
        self.model.sum_up();
        self.model.check_shrunk();
    }

    /// What a caller tells too late, or twice, changes nothing.
    fn nonsense(&mut self) {
        let token = ConnectionToken { worker: 9, slot: 9, generation: 9 };
        let state = self.state();
        assert_eq!(self.pools.closed(token), Effects::default());
        let CheckIn { fate, effects } = self.pools.check_in(token, state, self.now);
        assert_eq!((fate, effects.is_empty()), (CheckedIn::Close(CloseReason::Unknown), true));
        let idle = self.model.connections.iter().find(|(_, known)| matches!(known.place, Where::Idle(_)));
        if let Some(token) = idle.map(|(token, _)| *token) {
            assert_eq!(self.pools.check_in(token, state, self.now).fate, CheckedIn::Idle);
        }
    }

    /// Everyone finishes what it does and is served; then everyone goes, and all is forgotten.
    pub(crate) fn finish(&mut self) {
        for _round in 0..200 {
            if self.model.waits.values().all(|waits| waits.candidates.is_empty()) {
                break;
            }
            for client in 0..self.clients.len() {
                self.finish_client(client);
                self.look();
            }
            while !self.fills.is_empty() {
                self.fill();
                self.look();
            }
        }
        let starved = self.model.waits.values().find(|waits| !waits.candidates.is_empty());
        assert!(starved.is_none(), "{starved:?} is starved");
        self.leave();
    }

    /// One goes on to its next idle point, and asks for nothing more.
    fn finish_client(&mut self, client: usize) {
        match std::mem::replace(&mut self.clients[client], Client::Away) {
            Client::Waits(key, id, ticket) => {
                self.clients[client] = Client::Waits(key, id, ticket);
                self.takes(client, key, id, ticket);
            }
            Client::Opens(key, id, opening) => {
                self.clients[client] = Client::Has(key, id, self.opened(opening, key));
            }
            Client::Has(key, id, token) => {
                self.clients[client] = Client::Free(key, id);
                self.checks_in(token);
            }
            other @ (Client::Away | Client::Free(..)) => self.clients[client] = other,
        }
    }

    fn leave(&mut self) {
        for client in 0..self.clients.len() {
            if let Client::Waits(key, id, ticket) = self.clients[client] {
                self.cancels(ticket);
                self.clients[client] = Client::Free(key, id);
            }
            for _ in 0..3 {
                self.finish_client(client);
            }
            if let Client::Free(key, id) = std::mem::replace(&mut self.clients[client], Client::Away) {
                assert!(self.pools.leave(id).is_empty());
                self.model.clients[key] -= 1;
            }
            self.look();
        }
        for token in self.model.connections.keys().copied().collect::<Vec<_>>() {
            self.closes(token);
        }
        while !self.fills.is_empty() {
            self.fill();
        }
        for token in self.model.connections.keys().copied().collect::<Vec<_>>() {
            self.closes(token);
        }
        assert_eq!(self.pools.counts(self.now).count(), 0, "something is left");
    }
}
