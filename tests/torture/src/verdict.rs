//! What two runs of a scenario say together.

use std::fmt;

use crate::play::Played;
use crate::scenario::{Mark, Scenario, ScenarioStep};
use crate::seen::{Seen, SeenEnd};

/// What a client can tell; the worst comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TortureVerdict {
    /// The server or the role lacks what the scenario needs.
    Skipped,
    /// No difference.
    Same,
    /// No difference but that a client waited until the others had gone: all server connections were kept for them.
    Waits,
    /// Another answer.
    Differs,
    /// The pooler refuses what the server does not, or ends the connection.
    Refused,
    /// An answer that never comes.
    Hang,
    /// A client misses state of its own.
    Lost,
    /// A client sees state of another.
    Leak,
    /// The direct run does not show what the scenario is about, or something beside the clients failed.
    Void,
}

impl TortureVerdict {
    /// All of them, in the order of the totals.
    pub const ALL: [Self; 9] = [
        Self::Same,
        Self::Waits,
        Self::Differs,
        Self::Refused,
        Self::Hang,
        Self::Lost,
        Self::Leak,
        Self::Void,
        Self::Skipped,
    ];

    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Same => "same",
            Self::Waits => "waits",
            Self::Differs => "differs",
            Self::Refused => "refused",
            Self::Hang => "hang",
            Self::Lost => "lost",
            Self::Leak => "leak",
            Self::Void => "void",
        }
    }
}

impl fmt::Display for TortureVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A verdict with the step it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub verdict: TortureVerdict,
    /// Who did what in that step; empty where there is no difference.
    pub step: String,
    /// What was seen there on a direct connection.
    pub direct: String,
    /// What was seen there through the pooler.
    pub pooled: String,
}

impl Judged {
    /// Nothing to tell.
    #[must_use]
    pub fn plain(verdict: TortureVerdict) -> Self {
        Self { verdict, step: String::new(), direct: String::new(), pooled: String::new() }
    }

    /// The scenario says nothing, and why.
    #[must_use]
    pub fn void(step: String, why: String) -> Self {
        Self { verdict: TortureVerdict::Void, step, direct: why, pooled: String::new() }
    }
}

/// Why the direct run does not show what the scenario is about.
#[must_use]
pub fn fault_of_direct(scenario: &Scenario, direct: &Played) -> Option<Judged> {
    for (step, seen) in scenario.steps.iter().zip(&direct.steps) {
        let wrong = step.marks.iter().find(|mark| match mark {
            Mark::Shows(text) => !seen.contains(text),
            Mark::Hides(text) => seen.contains(text),
        });
        if let Some(mark) = wrong {
            return Some(Judged::void(step.label(), format!("{mark:?} is wrong: {seen}")));
        }
        if seen.end != SeenEnd::Complete {
            return Some(Judged::void(step.label(), seen.to_string()));
        }
    }
    None
}

/// The worst difference between the two runs.
#[must_use]
pub fn judge(scenario: &Scenario, direct: &Played, pooled: &Played) -> Judged {
    if let Some(fault) = fault_of_direct(scenario, direct) {
        return fault;
    }
    let mut worst = Judged::plain(TortureVerdict::Same);
    let last = pooled.steps.len().saturating_sub(1);
    for (at, ((step, own), theirs)) in scenario.steps.iter().zip(&direct.steps).zip(&pooled.steps).enumerate()
    {
        let verdict = match judge_step(step, own, theirs) {
            TortureVerdict::Leak => TortureVerdict::Leak,
            // The others have gone, with their locks and cursors: another answer is right.
            _ if pooled.waited && at == last => TortureVerdict::Waits,
            verdict => verdict,
        };
        if verdict > worst.verdict {
            let (direct, pooled) = (own.to_string(), theirs.to_string());
            worst = Judged { verdict, step: step.label(), direct, pooled };
        }
    }
    if pooled.steps.len() == direct.steps.len() && !pooled.waited {
        let notified = judge_notifications(direct, pooled);
        if notified.verdict > worst.verdict {
            return notified;
        }
    }
    worst
}

fn judge_step(step: &ScenarioStep, direct: &Seen, pooled: &Seen) -> TortureVerdict {
    if direct == pooled {
        return TortureVerdict::Same;
    }
    let hidden = |mark: &Mark| matches!(mark, Mark::Hides(text) if pooled.contains(text));
    let missing = |mark: &Mark| matches!(mark, Mark::Shows(text) if !pooled.contains(text));
    if step.marks.iter().any(hidden) {
        return TortureVerdict::Leak;
    }
    match pooled.end {
        SeenEnd::Silent => TortureVerdict::Hang,
        SeenEnd::Refused | SeenEnd::Closed => TortureVerdict::Refused,
        SeenEnd::Complete if step.marks.iter().any(missing) => TortureVerdict::Lost,
        SeenEnd::Complete => TortureVerdict::Differs,
    }
}

fn judge_notifications(direct: &Played, pooled: &Played) -> Judged {
    for (player, own) in &direct.notifications {
        let theirs = pooled.notifications.get(player).cloned().unwrap_or_default();
        if *own != theirs {
            let is_foreign = theirs.iter().any(|text| !own.contains(text));
            let verdict = if is_foreign { TortureVerdict::Leak } else { TortureVerdict::Lost };
            let step = format!("all notifications of {}", player.letter());
            return Judged { verdict, step, direct: own.join(" "), pooled: theirs.join(" ") };
        }
    }
    Judged::plain(TortureVerdict::Same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Player;

    fn scenario() -> Scenario {
        Scenario::new("s", "s").a("SET x = 1").b("SHOW x").hides("D(1)").a("SHOW x").shows("D(1)")
    }

    fn played(steps: [&str; 3]) -> Played {
        let seen = |text: &str| Seen::ended(SeenEnd::Complete, text.to_owned());
        Played { steps: steps.map(seen).to_vec(), ..Played::default() }
    }

    fn verdict(pooled: &Played) -> TortureVerdict {
        judge(&scenario(), &played(["C", "D(0)", "D(1)"]), pooled).verdict
    }

    #[test]
    fn a_difference_means_what_its_step_is_about() {
        assert_eq!(verdict(&played(["C", "D(0)", "D(1)"])), TortureVerdict::Same);
        assert_eq!(verdict(&played(["C", "D(1)", "D(1)"])), TortureVerdict::Leak);
        assert_eq!(verdict(&played(["C", "D(0)", "D(0)"])), TortureVerdict::Lost);
        assert_eq!(verdict(&played(["C", "D(1)", "D(0)"])), TortureVerdict::Leak);
        assert_eq!(verdict(&played(["E", "D(0)", "D(1)"])), TortureVerdict::Differs);
        assert_eq!(verdict(&played(["C", "D(7)", "D(1)"])), TortureVerdict::Differs);
    }

    #[test]
    fn a_direct_run_without_the_effect_is_void() {
        let same = played(["C", "D(0)", "D(0)"]);
        assert_eq!(judge(&scenario(), &same, &same).verdict, TortureVerdict::Void);
    }

    #[test]
    fn a_wait_is_told_from_an_answer_that_never_comes() {
        let mut waited = played(["C", "D(0)", "D(1)"]);
        waited.steps.pop();
        waited.waited = true;
        assert_eq!(verdict(&waited), TortureVerdict::Waits);
        waited.steps[1] = Seen::ended(SeenEnd::Complete, "D(7)".to_owned());
        assert_eq!(verdict(&waited), TortureVerdict::Waits);
        waited.steps[1] = Seen::ended(SeenEnd::Complete, "D(1)".to_owned());
        assert_eq!(verdict(&waited), TortureVerdict::Leak);
        waited.waited = false;
        waited.steps[1] = Seen::ended(SeenEnd::Silent, String::new());
        assert_eq!(verdict(&waited), TortureVerdict::Hang);
    }

    #[test]
    fn a_notification_of_another_is_a_leak_and_a_missing_one_is_lost() {
        let with = |texts: &[&str]| {
            let mut played = played(["C", "D(0)", "D(1)"]);
            let texts = texts.iter().map(|&text| text.to_owned()).collect();
            played.notifications.insert(Player::A, texts);
            played
        };
        let verdict = |pooled: &[&str]| judge(&scenario(), &with(&["c=1"]), &with(pooled)).verdict;
        assert_eq!(verdict(&["c=1"]), TortureVerdict::Same);
        assert_eq!(verdict(&[]), TortureVerdict::Lost);
        assert_eq!(verdict(&["c=1", "d=2"]), TortureVerdict::Leak);
    }
}
