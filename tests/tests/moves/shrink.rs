//! The least script that still shows a difference.

use std::time::{Duration, Instant};

use super::compare::{Bench, Difference, Verdict};
use super::script::Script;

/// How long one script is worked on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Leaves out steps, half of them at a time at first, as long as the sessions still differ.
pub(crate) fn shrink(bench: &mut Bench, script: &Script, first: Difference) -> (Script, Difference) {
    let deadline = Instant::now() + PATIENCE;
    let (mut least, mut difference) = (script.clone(), first);
    least.steps.truncate(difference.at + 1);
    let mut length = least.steps.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        let mut has_shrunk = false;
        while from < least.steps.len() && Instant::now() < deadline {
            let mut shorter = least.clone();
            shorter.steps.drain(from..(from + length).min(least.steps.len()));
            match bench.run(&shorter) {
                Verdict::Different(still) => {
                    (least, difference, has_shrunk) = (shorter, still, true);
                }
                Verdict::Alike | Verdict::Announced => from += length,
            }
        }
        if Instant::now() >= deadline || (length == 1 && !has_shrunk) {
            return (least, difference);
        }
        length = (length / 2).max(1);
    }
}
