//! The faults of a schedule: servers die, cancel, refuse and are left.

use std::time::Instant;

use trunkline_health::Sighting;
use trunkline_model::Rng;
use trunkline_topology::{Postmaster, ServerId, State};

use super::Journey;
use crate::relay::simulation::world::SERVERS;
use crate::testing::address;

/// What servers refuse logins with: about the user, the database, a privilege, or their own room.
const REFUSALS: [&str; 5] = ["28P01", "28000", "42501", "3D000", "53300"];

fn some_server(rng: &mut Rng) -> ServerId {
    ServerId(rng.below(SERVERS as usize) as u32)
}

impl Journey {
    /// A fault or a planned move happens.
    pub(super) fn inject(&mut self, rng: &mut Rng) {
        let attached = self.world.attached();
        match rng.below(11) {
            10 => {
                let state = rng.pick(&[State::Down, State::Lagging, State::Up, State::Up]);
                self.world.stage.set_state(some_server(rng), state);
                // It may be given up with what is in flight there.
                self.tally.deaths += usize::from(state == State::Down);
            }
            0 => {
                if let Some(number) = self.world.connection() {
                    let own = self.world.servers.number(number);
                    own.model.has_conflict |= own.is_serving();
                }
            }
            1 | 8 | 9 => {
                self.all_fit();
                if let Some(on) = attached {
                    self.refuse(rng);
                    let state = rng.pick(&[State::Drain, State::Lagging, State::Maint]);
                    self.world.stage.set_state(on, state);
                }
            }
            2 => {
                if let Some(on) = attached {
                    self.world.stage.worker.slots.order_moves((0, on), 1);
                }
            }
            3 => {
                self.world.stage.network.set_down(&address(some_server(rng)), true);
            }
            4 => {
                if let Some(number) = self.world.connection() {
                    let own = self.world.servers.number(number);
                    if own.is_open() {
                        own.die(rng);
                        self.tally.deaths += 1;
                    }
                }
            }
            _death => {
                if let Some(newest) = self.world.servers.newest().filter(|newest| newest.is_open()) {
                    newest.die(rng);
                    self.tally.deaths += 1;
                    self.tally.deaths_in_login += usize::from(attached.is_none());
                }
            }
        }
    }

    /// Some servers refuse logins: all of them, or those that have yet to replay a role while others have.
    fn refuse(&mut self, rng: &mut Rng) {
        let code = rng.pick(&REFUSALS);
        let are_alike = rng.one_in(2);
        let all_refuse = rng.one_in(2);
        for id in (0..SERVERS).map(ServerId) {
            if if are_alike { all_refuse } else { rng.one_in(2) } {
                self.world.servers.refuse(id, code);
            }
        }
    }

    /// All servers accept connections again, and the verdicts say so.
    pub(super) fn all_fit(&mut self) {
        self.world.servers.let_in();
        // Where a session was terminated, the inquiry finds another postmaster: the server had been restarted.
        let met = Postmaster { system_identifier: None, started_us: 0 };
        let sighting = Sighting { address: None, postmaster: Ok(met), at: Instant::now() };
        for id in (0..SERVERS).map(ServerId) {
            self.world.stage.network.set_down(&address(id), false);
            self.world.stage.verdicts.answer_inquiries(id, &sighting);
        }
        self.world.stage.publish(|snapshot| {
            snapshot.servers.iter_mut().for_each(|server| server.state = State::Up);
        });
    }
}
