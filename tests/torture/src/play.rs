//! One run of one scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::client::{LoginFailure, TortureClient, is_silence};
use crate::flight::{self, Flight};
use crate::scenario::{Act, Player, Scenario, Until};
use crate::seen::{Seen, SeenEnd};
use crate::stage::{Prompter, Stage};

/// How often a statement is sent again until it shows what it waits for, within the wait of a step.
const ASK_AGAIN_INTERVAL: Duration = Duration::from_millis(5);

/// What all clients saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Played {
    /// One for each step that was played.
    pub steps: Vec<Seen>,
    /// Channel and payload of each notification.
    pub notifications: BTreeMap<Player, Vec<String>>,
    /// The last step was only answered when the other clients had gone: the pooler kept them, and let this one wait.
    pub waited: bool,
    /// Why the pooler has kept server connections, as it said after the steps.
    pub kept: BTreeSet<String>,
}

struct Playing<'a> {
    prompter: &'a mut Prompter,
    stage: Stage,
    wait: Duration,
    clients: BTreeMap<Player, TortureClient>,
    awaited: BTreeMap<Player, usize>,
    played: Played,
}

/// Plays `scenario`; no step waits for a client longer than `wait`, twice.
///
/// # Errors
/// What is beside the clients failed: the setup, the direct connection, the pooler before the first step.
pub fn play(
    scenario: &Scenario,
    stage: Stage,
    prompter: &mut Prompter,
    wait: Duration,
) -> anyhow::Result<Played> {
    prompter.clear(stage)?;
    for sql in &scenario.setup {
        prompter.run(sql)?;
    }
    let outcome = all_steps(scenario, stage, prompter, wait);
    for sql in &scenario.cleanup {
        // What it puts back may be back already.
        let _cleaned = prompter.run(sql);
    }
    outcome
}

fn all_steps(
    scenario: &Scenario,
    stage: Stage,
    prompter: &mut Prompter,
    wait: Duration,
) -> anyhow::Result<Played> {
    let mut playing = Playing {
        prompter,
        stage,
        wait,
        clients: BTreeMap::new(),
        awaited: BTreeMap::new(),
        played: Played::default(),
    };
    let mut last = None;
    for step in &scenario.steps {
        if last != Some(step.player) || matches!(step.act, Act::Beside(_)) {
            playing.prompter.await_standbys(stage)?;
        }
        last = (!matches!(step.act, Act::Beside(_))).then_some(step.player);
        let mut seen = playing.act(step.player, &step.act)?;
        if seen.end == SeenEnd::Silent && playing.rescue(step.player, &step.act, &mut seen) {
            playing.played.waited = true;
        }
        let is_over = seen.end != SeenEnd::Complete || playing.played.waited;
        playing.played.steps.push(seen);
        let reasons = playing.prompter.reasons(stage)?;
        playing.played.kept.extend(reasons);
        if is_over {
            break;
        }
    }
    let Playing { clients, mut played, .. } = playing;
    for (player, client) in clients {
        played.notifications.entry(player).or_default().extend(client.notifications);
    }
    Ok(played)
}

impl Playing<'_> {
    fn act(&mut self, player: Player, act: &Act) -> anyhow::Result<Seen> {
        Ok(match act {
            Act::Connect(parameters) => self.connect(player, parameters),
            Act::Send(flight) => self.with(player, |client, _| send(client, flight)),
            Act::Read(until) => self.with(player, |client, deadline| {
                let mut seen = Seen::nothing();
                client.read(&mut seen, *until, deadline);
                seen
            }),
            Act::Ask(flight, until) => {
                self.with(player, |client, deadline| ask(client, flight, *until, deadline))
            }
            Act::AskUntil(flight, text) => {
                self.with(player, |client, deadline| ask_until(client, flight, text, deadline))
            }
            Act::AwaitNotification => {
                let known = self.awaited.get(&player).copied().unwrap_or_default();
                self.awaited.insert(player, known + 1);
                self.with(player, |client, deadline| client.await_notification(known, deadline))
            }
            Act::Cancel => self.with(player, |client, _| match client.cancel() {
                Ok(()) => Seen::nothing(),
                Err(error) => Seen::ended(SeenEnd::Refused, error.to_string()),
            }),
            Act::Terminate => {
                let seen = self.with(player, |client, _| send(client, &flight::terminate()));
                self.leave(player);
                seen
            }
            Act::Vanish => {
                self.leave(player);
                Seen::nothing()
            }
            Act::Beside(sql) => {
                self.prompter.run(sql)?;
                Seen::nothing()
            }
            Act::AwaitActive(text) => {
                if self.prompter.await_active(text, self.wait)? {
                    Seen::nothing()
                } else {
                    Seen::ended(SeenEnd::Silent, "no server process runs it".to_owned())
                }
            }
        })
    }

    /// The client's connection is closed; what it was notified of stays.
    fn leave(&mut self, player: Player) {
        if let Some(client) = self.clients.remove(&player) {
            self.played.notifications.entry(player).or_default().extend(client.notifications);
        }
    }

    fn connect(&mut self, player: Player, parameters: &[(String, String)]) -> Seen {
        self.leave(player);
        match TortureClient::connect(self.prompter.dsn(self.stage), parameters, self.wait) {
            Ok(client) => {
                self.prompter.let_settle(self.stage);
                self.clients.insert(player, client);
                Seen::nothing()
            }
            Err(LoginFailure::Refused(error)) => Seen::ended(SeenEnd::Refused, error),
            Err(LoginFailure::Broken(error)) if is_silence(&error) => {
                Seen::ended(SeenEnd::Silent, "the login".to_owned())
            }
            Err(LoginFailure::Broken(error)) => Seen::ended(SeenEnd::Refused, error.to_string()),
        }
    }

    /// Does something with a client, which logs in first if it has not yet.
    fn with(&mut self, player: Player, act: impl FnOnce(&mut TortureClient, Instant) -> Seen) -> Seen {
        if !self.clients.contains_key(&player) {
            let seen = self.connect(player, &[]);
            if seen.end != SeenEnd::Complete {
                return seen;
            }
        }
        let deadline = Instant::now() + self.wait;
        match self.clients.get_mut(&player) {
            Some(client) => act(client, deadline),
            None => Seen::ended(SeenEnd::Refused, "there is no connection".to_owned()),
        }
    }

    /// Nothing came: perhaps all server connections are kept by the other clients, which then go, so that a wait is told
    /// from an answer that never comes. Says whether the answer came.
    fn rescue(&mut self, player: Player, act: &Act, seen: &mut Seen) -> bool {
        let others: Vec<Player> = self.clients.keys().copied().filter(|other| *other != player).collect();
        if others.is_empty() || self.stage == Stage::Direct {
            return false;
        }
        for other in others {
            self.leave(other);
        }
        let is_logged_in = self.clients.contains_key(&player);
        match act {
            Act::Connect(parameters) => *seen = self.connect(player, parameters),
            Act::Ask(flight, until) if !is_logged_in => {
                *seen = self.with(player, |client, deadline| ask(client, flight, *until, deadline));
            }
            Act::Send(flight) if !is_logged_in => *seen = self.with(player, |client, _| send(client, flight)),
            Act::Ask(_, until) | Act::Read(until) => {
                let mut more = seen.clone();
                *seen = self.with(player, |client, deadline| {
                    client.read(&mut more, *until, deadline);
                    more
                });
            }
            Act::AskUntil(flight, text) => {
                *seen = self.with(player, |client, deadline| ask_until(client, flight, text, deadline));
            }
            // The statement that was to run has been answered before it is looked for again.
            Act::AwaitActive(_) => {
                *seen = self.with(player, |client, deadline| {
                    let mut answer = Seen::nothing();
                    client.read(&mut answer, Until::Ready(1), deadline);
                    answer
                });
                seen.lines.clear();
            }
            Act::Send(_)
            | Act::AwaitNotification
            | Act::Cancel
            | Act::Terminate
            | Act::Vanish
            | Act::Beside(_) => {}
        }
        seen.end == SeenEnd::Complete
    }
}

fn send(client: &mut TortureClient, flight: &Flight) -> Seen {
    match client.send(&flight.bytes) {
        Ok(()) => Seen::nothing(),
        Err(error) => Seen::ended(SeenEnd::Closed, error.kind().to_string()),
    }
}

fn ask(client: &mut TortureClient, flight: &Flight, until: Until, deadline: Instant) -> Seen {
    let mut seen = send(client, flight);
    if seen.end == SeenEnd::Complete {
        client.read(&mut seen, until, deadline);
    }
    seen
}

fn ask_until(client: &mut TortureClient, flight: &Flight, text: &str, deadline: Instant) -> Seen {
    loop {
        let seen = ask(client, flight, Until::Ready(flight.readies), deadline);
        if seen.end != SeenEnd::Complete
            || seen.contains(text)
            || Instant::now() + ASK_AGAIN_INTERVAL > deadline
        {
            return seen;
        }
        std::thread::sleep(ASK_AGAIN_INTERVAL);
    }
}
