//! Scripts by seed: actions drawn at random, moves between any two steps, and questions at the end.

use std::collections::BTreeMap;

use super::actions::{ACTIONS, Action};
use super::questions;
use super::random::Random;
use super::script::{Move, Script, Step};

/// Most actions of a script.
const ACTIONS_MAX: usize = 12;

/// What actions write to.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) random: Random,
    steps: Vec<Step>,
    /// Chance of a move after each step, in percent.
    move_percent: usize,
    /// Moves that may still be made.
    moves_left: usize,
    moves: &'static [Move],
    /// What the statements can be given, by their names.
    pub(crate) arguments: BTreeMap<&'static str, Vec<&'static str>>,
}

impl Draft {
    /// One more step, and perhaps a move.
    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
        if self.random.chance(self.move_percent) {
            self.make_move();
        }
    }

    /// One more step, and no move behind it.
    pub(crate) fn push_alone(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// A simple query.
    pub(crate) fn query(&mut self, sql: impl Into<String>) {
        let sql = sql.into();
        if self.random.chance(5) {
            self.push(Step::UnreadQuery(sql));
        } else {
            self.push(Step::Query(sql));
        }
    }

    /// The end of a series.
    pub(crate) fn sync(&mut self) {
        if self.random.chance(10) {
            self.push(Step::Flush);
        }
        let step = if self.random.chance(8) { Step::UnreadSync } else { Step::Sync };
        self.push(step);
    }

    /// A move, here.
    pub(crate) fn make_move(&mut self) {
        if self.moves_left == 0 {
            return;
        }
        self.moves_left -= 1;
        let how = self.random.pick(self.moves);
        self.steps.push(Step::Move(how));
    }
}

/// How moves are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// By what takes milliseconds, as often as one likes.
    Quick,
    /// By what takes seconds and all servers, once or twice.
    Slow,
}

/// Scripts that leave out what pins a session: in most others it stays where it is.
const FREE_PERCENT: usize = 50;

/// Words of steps that pin a session for long.
const PINNING: [&str; 9] =
    ["advisory", "take_lock", "SEED", "setseed", "HOLD", "DO $$", "set_any", "prepare_it", "late_"];

/// Whether a step is likely to pin a session, so that it does not move.
fn pins(step: &str) -> bool {
    let is_followed = step.starts_with("query SELECT set_config('app.tenant', ");
    PINNING.iter().any(|word| step.contains(word)) || (step.contains("set_config") && !is_followed)
}

/// Most slow moves of a script.
const SLOW_MOVES_MAX: usize = 2;

/// The script of a seed.
pub(crate) fn script(seed: u64, pace: Pace) -> Script {
    let mut random = Random::seeded(seed);
    let moves: &'static [Move] = match (pace, random.below(5)) {
        (Pace::Slow, _) => &[Move::Crash, Move::Lag, Move::Spread],
        (Pace::Quick, 0) => &[Move::Lost],
        (Pace::Quick, 1) => &[Move::Drain, Move::Maint, Move::Lost],
        (Pace::Quick, _) => &[Move::Drain, Move::Drain, Move::Drain, Move::Maint],
    };
    let moves_left = if pace == Pace::Slow { SLOW_MOVES_MAX } else { usize::MAX };
    let user = if random.chance(15) { "super" } else { "app" }.to_owned();
    let startup = startup(&mut random);
    let move_percent = random.pick(&[4, 12, 30]);
    let count = 2 + random.below(ACTIONS_MAX - 1);
    let drawn: Vec<&Action> = drawn(&mut random, count);
    let mut draft =
        Draft { random, steps: Vec::new(), move_percent, moves_left, moves, arguments: BTreeMap::new() };
    for action in drawn {
        (action.write)(&mut draft);
    }
    questions::ask(&mut draft);
    let mut steps = draft.steps;
    if draft.random.chance(FREE_PERCENT) {
        steps.retain(|step| !pins(&step.to_string()));
    }
    Script { user, startup, steps }
}

/// A few kinds of actions in a script meet each other more often than many do.
fn drawn(random: &mut Random, count: usize) -> Vec<&'static Action> {
    let eligible: Vec<&Action> = ACTIONS.iter().copied().flatten().collect();
    let kinds = 1 + random.below(5);
    let themes: Vec<&Action> = (0..kinds).map(|_| weighted(random, &eligible)).collect();
    (0..count)
        .map(|_| if random.chance(75) { random.pick(&themes) } else { weighted(random, &eligible) })
        .collect()
}

fn weighted(random: &mut Random, actions: &[&'static Action]) -> &'static Action {
    let all: usize = actions.iter().map(|action| action.weight).sum();
    let mut at = random.below(all);
    for action in actions {
        if at < action.weight {
            return action;
        }
        at -= action.weight;
    }
    unreachable!("the weights add up")
}

fn startup(random: &mut Random) -> Vec<(String, String)> {
    let all = [
        ("options", "-c work_mem=5MB -c app.tenant=a"),
        ("DateStyle", "German"),
        ("TimeZone", "America/New_York"),
        ("client_encoding", "LATIN1"),
        ("application_name", "moves"),
        ("options", "-c search_path=two,public --statement-timeout=40s"),
    ];
    if !random.chance(25) {
        return Vec::new();
    }
    let (name, value) = random.pick(&all);
    vec![(name.to_owned(), value.to_owned())]
}
