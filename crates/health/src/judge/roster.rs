//! Servers that come and go while the others are judged.
//!
//! A server is the one at its place, a host and a port. A place that is wanted under another name is the same server,
//! renamed; a name that is wanted at another place is another server, and the one before leaves. One that leaves takes no
//! new sessions and is forgotten when its last one has gone: [`Judge::forget`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Judge;
use super::server::JudgedServer;
use crate::SERVERS_MAX;
use trunkline_topology::{ServerId, ServerSpec};

/// A slot rests for so long after its server was forgotten: who still holds that server's number must not meet another.
const SLOT_REST: Duration = Duration::from_secs(5);

/// What a new set of servers has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RosterChange {
    /// Servers that were not there before, or at another place.
    pub came: Vec<(ServerId, ServerSpec)>,
    /// Servers that are to leave, under the names they have now.
    pub leaving: Vec<(ServerId, Arc<str>)>,
    /// Servers that were leaving, and stay.
    pub stayed: Vec<(ServerId, Arc<str>)>,
    /// Names of those for which there is no slot: [`SERVERS_MAX`] are watched, those that leave included.
    pub refused: Vec<String>,
}

/// The numbers of servers: who has which slot, and which are free.
#[derive(Debug, Default)]
pub(super) struct ServerSlots {
    /// How many servers each slot has had.
    holders: Vec<u16>,
    /// Slots given back, the one longest ago first.
    resting: VecDeque<(u16, Instant)>,
}

impl ServerSlots {
    /// A number that no other server has or had lately; `None` while all slots are taken.
    pub(super) fn take(&mut self, now: Instant) -> Option<ServerId> {
        let is_rested = |at: Instant| now.saturating_duration_since(at) >= SLOT_REST;
        if let Some(&(slot, at)) = self.resting.front()
            && is_rested(at)
        {
            self.resting.pop_front();
            let holders = self.holders.get_mut(usize::from(slot))?;
            *holders = holders.wrapping_add(1);
            return Some(ServerId::new(slot, *holders));
        }
        let slot = u16::try_from(self.holders.len()).ok().filter(|slot| usize::from(*slot) < SERVERS_MAX)?;
        self.holders.push(0);
        Some(ServerId::new(slot, 0))
    }

    fn give_back(&mut self, id: ServerId, now: Instant) {
        self.resting.push_back((id.slot(), now));
    }
}

impl Judge {
    /// The servers that are wanted from now on. Those that are there and are not among them leave.
    pub fn set_servers(&mut self, wanted: Vec<ServerSpec>, now: Instant) -> RosterChange {
        let mut change = RosterChange::default();
        let mut is_kept = vec![false; self.servers.len()];
        let mut new = Vec::new();
        for spec in wanted {
            let is_there =
                |server: &JudgedServer| server.spec.host == spec.host && server.spec.port == spec.port;
            match self.servers.iter().position(is_there).filter(|&at| !is_kept[at]) {
                Some(at) => {
                    is_kept[at] = true;
                    let server = &mut self.servers[at];
                    if std::mem::take(&mut server.is_leaving) {
                        change.stayed.push((server.id, spec.name.as_str().into()));
                    }
                    server.respecify(spec);
                }
                None => new.push(spec),
            }
        }
        for (server, is_kept) in self.servers.iter_mut().zip(is_kept) {
            if !is_kept && !server.is_leaving {
                server.is_leaving = true;
                change.leaving.push((server.id, Arc::clone(&server.name)));
            }
        }
        for spec in new {
            match self.slots.take(now) {
                Some(id) => {
                    change.came.push((id, spec.clone()));
                    self.servers.push(JudgedServer::new(id, spec, now));
                }
                None => change.refused.push(spec.name),
            }
        }
        self.tell_names_apart();
        for (id, name) in &mut change.leaving {
            if let Some(server) = self.server(*id) {
                *name = Arc::clone(&server.name);
            }
        }
        self.generation += 1;
        self.refresh(now);
        change
    }

    /// Forgets a server that leaves; whoever stays is not forgotten. Whether it was.
    pub fn forget(&mut self, id: ServerId, now: Instant) -> bool {
        let Some(at) = self.servers.iter().position(|server| server.id == id && server.is_leaving) else {
            return false;
        };
        self.servers.remove(at);
        self.slots.give_back(id, now);
        if let Some(epoch) = &mut self.epoch
            && epoch.is_held_by(id)
        {
            epoch.holder = None;
        }
        self.update_lost(now);
        self.generation += 1;
        self.refresh(now);
        true
    }

    /// The servers, as they are wanted now.
    pub(crate) fn specs(&self) -> impl Iterator<Item = (ServerId, &ServerSpec)> {
        self.servers.iter().map(|server| (server.id, &server.spec))
    }

    /// Where a server is in the list.
    pub(super) fn position(&self, id: ServerId) -> Option<usize> {
        let in_place = self.servers.get(id.index()).filter(|server| server.id == id);
        match in_place {
            Some(_) => Some(id.index()),
            None => self.servers.iter().position(|server| server.id == id),
        }
    }

    pub(super) fn server(&self, id: ServerId) -> Option<&JudgedServer> {
        self.position(id).and_then(|at| self.servers.get(at))
    }

    /// A server that leaves gives up its name where another one is wanted under it: names are labels in metrics.
    fn tell_names_apart(&mut self) {
        let staying = |servers: &[JudgedServer], name: &str| {
            servers.iter().any(|server| !server.is_leaving && *server.name == *name)
        };
        for at in 0..self.servers.len() {
            let server = &self.servers[at];
            if server.is_leaving && staying(&self.servers, &server.name) {
                let name = format!("{}@{}:{}", server.spec.name, server.spec.host, server.spec.port);
                self.servers[at].name = name.into();
            }
        }
    }
}
