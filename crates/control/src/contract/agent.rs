//! HAProxy's agent-check: one line per connection, state and weight.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::server::untold;
use trunkline_topology::{Role, ServerId, ServerStatus, Snapshot, State};

/// Weights are reported in steps of this many per cent ...
const STEP: u8 = 10;
/// ... and change only after a move of this many steps.
const STEPS_MIN: u8 = 2;
/// Below this share of `max_lag` the weight is whole.
const WHOLE_BELOW: f64 = 0.25;
/// The weight at `max_lag`, in per cent.
const WEIGHT_MIN: f64 = 10.0;
/// Longest description, in characters.
const DESCRIPTION_MAX: usize = 120;

/// Answers HAProxy's agent-check. Keeps what it said last per server, so that weights do not flap.
#[derive(Debug, Default)]
pub struct Agent {
    said: HashMap<ServerId, u8>,
}

impl Agent {
    /// The line for the server named by `words` (what `agent-send` sent), newline included.
    ///
    /// Always says `ready` first: only the agent can undo what the agent said before. A space comes before
    /// `#`, or HAProxy takes both for one unknown word and ignores it.
    #[must_use]
    pub fn answer(&mut self, snapshot: &Snapshot, words: &str, now: Instant) -> String {
        let Some(server) = words.split_ascii_whitespace().next().and_then(|name| snapshot.by_name(name))
        else {
            return line("ready down", "no such server");
        };
        if let Some(why) = untold(snapshot, now) {
            return line("ready down", why);
        }
        if !server.state.keeps_old() {
            return line("ready down", &server.reason);
        }
        if server.state == State::Lagging {
            return line("ready up 0%", &format!("lagging: {}", server.reason));
        }
        if !server.state.takes_new() {
            return line("ready up 0%", &server.reason);
        }
        if server.saturated {
            return line("ready up 0%", "it accepts no further connections");
        }
        let weight = self.steady(server.id, weight(snapshot, server));
        line(&format!("ready up {weight}%"), &server.reason)
    }

    fn steady(&mut self, id: ServerId, weight: u8) -> u8 {
        let said = self.said.entry(id).or_insert(weight);
        if said.abs_diff(weight) >= STEP * STEPS_MIN {
            *said = weight;
        }
        *said
    }
}

/// Per cent of the server line's weight: whole for a fresh standby, falling linearly up to `max_lag`.
fn weight(snapshot: &Snapshot, server: &ServerStatus) -> u8 {
    let Some(lag) = server.lag else {
        return if server.role == Role::Primary { 100 } else { STEP };
    };
    let share = ratio(lag.est, snapshot.max_lag);
    let whole = 100.0 - (share - WHOLE_BELOW).max(0.0) / (1.0 - WHOLE_BELOW) * (100.0 - WEIGHT_MIN);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10")]
    let steps = (whole.clamp(WEIGHT_MIN, 100.0) / f64::from(STEP)).round() as u8;
    steps * STEP
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 1.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

fn line(words: &str, description: &str) -> String {
    let description: String =
        description.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DESCRIPTION_MAX).collect();
    format!("{words} # {description}\n")
}
