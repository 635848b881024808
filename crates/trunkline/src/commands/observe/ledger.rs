//! Who was wrong for how long: pure.
//!
//! A formula's answer is a fact of the moment when it was asked, and so must be the proof that it is held against. The judge's
//! verdicts are of other moments, before and after:
//!
//! - a standby that was at most `hi` behind *before* the question was at most `hi` and the time since then behind at it;
//! - a standby that still lacks, *after* the question, what was written `lo` ago lacked it at the question, too, when that was
//!   so much younger.
//!
//! What neither proves is undecided, and nobody's fault.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::formula::{Answers, FORMULAS, Limits, Said};

/// Most answers that wait for the verdict after them.
const PENDING_MAX: usize = 4;

/// What the judge knew of a standby at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MomentVerdict {
    /// When the bounds hold.
    pub(super) at: Instant,
    /// When the standby was asked last.
    pub(super) asked_at: Option<Instant>,
    /// Whether it may be asked for data at all.
    pub(super) fitness: ObservedFitness,
    /// It was at least this far behind.
    pub(super) lo: Duration,
    /// It was at most this far behind, if that is known.
    pub(super) hi: Option<Duration>,
}

/// Whether a server may serve as far as its state goes, whatever its lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObservedFitness {
    /// Its lag says it.
    ByLag,
    /// DOWN or FENCED.
    Unfit,
    /// Nothing is known.
    Unknown,
}

/// What was proven of a standby at the moment of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// At most `max_lag` behind.
    Fresh,
    /// More than `max_lag` behind.
    Lagging,
    /// DOWN or FENCED.
    Unfit,
    /// None of these.
    Undecided,
}

/// How an answer stands against the proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// It said nothing, or nothing was proven.
    #[default]
    Undecided,
    /// It said what was proven.
    Right,
    /// It said lagging of a standby that was proven to be fresh.
    WronglyLagging,
    /// It said fresh of a standby that was proven to lag, or that was not to serve.
    WronglyFresh,
}

/// Answers to one question, and the verdict before it.
#[derive(Clone, Debug)]
pub(super) struct FormulaSample {
    /// When it was asked.
    pub(super) sent: Instant,
    /// When the answer was there.
    pub(super) received: Instant,
    /// The verdict when it was asked.
    pub(super) before: MomentVerdict,
    /// What the formulas gave.
    pub(super) answers: Answers,
}

/// A sample with its proof.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    /// What was asked, and answered.
    pub(super) sample: FormulaSample,
    /// What was proven.
    pub(super) proof: Proof,
    /// How each formula did.
    pub(super) marks: [Mark; FORMULAS],
}

/// How long a formula was right, and wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FormulaTally {
    pub(super) right: Duration,
    /// Said fresh, though proven to lag.
    pub(super) fresh_though_lagging: Duration,
    /// Said fresh, though DOWN or FENCED.
    pub(super) fresh_though_unfit: Duration,
    /// Said lagging, though proven to be fresh.
    pub(super) lagging_though_fresh: Duration,
    /// Said nothing.
    pub(super) silent: Duration,
}

/// How long what was proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProofTally {
    pub(super) fresh: Duration,
    pub(super) lagging: Duration,
    pub(super) unfit: Duration,
    pub(super) undecided: Duration,
}

/// The account of one standby.
#[derive(Debug)]
pub(super) struct FormulaLedger {
    limits: Limits,
    /// Longest that an answer stands: who slept does not know.
    stands_max: Duration,
    pending: VecDeque<(FormulaSample, Option<Duration>)>,
    /// By `Formula::ALL`.
    pub(super) formulas: [FormulaTally; FORMULAS],
    pub(super) proven: ProofTally,
}

impl FormulaLedger {
    /// An empty one, for questions every `tick`.
    pub(super) fn new(limits: Limits, tick: Duration) -> Self {
        FormulaLedger {
            limits,
            stands_max: tick * 2,
            pending: VecDeque::with_capacity(PENDING_MAX + 1),
            formulas: Default::default(),
            proven: ProofTally::default(),
        }
    }

    /// Takes a sample, with the verdict of now, and settles those that it decides.
    pub(super) fn take(&mut self, sample: FormulaSample, now: MomentVerdict) -> Vec<Settled> {
        if let Some((last, lasted)) = self.pending.back_mut() {
            let until = sample.sent.saturating_duration_since(last.sent);
            *lasted = Some(until.min(self.stands_max));
        }
        self.pending.push_back((sample, None));
        let mut settled = Vec::new();
        while let Some((first, Some(lasted))) = self.pending.front() {
            let is_decided = now.asked_at.is_some_and(|asked| asked >= first.received)
                || now.fitness != ObservedFitness::ByLag
                || self.pending.len() > PENDING_MAX;
            if !is_decided {
                break;
            }
            let lasted = *lasted;
            let Some((sample, _)) = self.pending.pop_front() else { break };
            settled.push(self.settle(sample, lasted, now));
        }
        settled
    }

    fn settle(&mut self, sample: FormulaSample, lasted: Duration, after: MomentVerdict) -> Settled {
        let proof = proof(&sample, after, self.limits.max_lag);
        let share = match proof {
            Proof::Fresh => &mut self.proven.fresh,
            Proof::Lagging => &mut self.proven.lagging,
            Proof::Unfit => &mut self.proven.unfit,
            Proof::Undecided => &mut self.proven.undecided,
        };
        *share += lasted;
        let said = sample.answers.map(|answer| answer.said(self.limits));
        let mut marks = [Mark::Undecided; FORMULAS];
        for ((mark, tally), said) in marks.iter_mut().zip(&mut self.formulas).zip(said) {
            *mark = tally.count(said, proof, lasted);
        }
        Settled { sample, proof, marks }
    }
}

impl FormulaTally {
    fn count(&mut self, said: Said, proof: Proof, lasted: Duration) -> Mark {
        let (time, mark) = match (said, proof) {
            (Said::Nothing, _) => (&mut self.silent, Mark::Undecided),
            (_, Proof::Undecided) => return Mark::Undecided,
            (Said::Fresh, Proof::Fresh) | (Said::Lagging, Proof::Lagging | Proof::Unfit) => {
                (&mut self.right, Mark::Right)
            }
            (Said::Fresh, Proof::Lagging) => (&mut self.fresh_though_lagging, Mark::WronglyFresh),
            (Said::Fresh, Proof::Unfit) => (&mut self.fresh_though_unfit, Mark::WronglyFresh),
            (Said::Lagging, Proof::Fresh) => (&mut self.lagging_though_fresh, Mark::WronglyLagging),
        };
        *time += lasted;
        mark
    }
}

/// What the verdicts on both sides prove of the moment between them.
fn proof(sample: &FormulaSample, after: MomentVerdict, max_lag: Duration) -> Proof {
    let before = sample.before;
    if (before.fitness, after.fitness) == (ObservedFitness::Unfit, ObservedFitness::Unfit) {
        return Proof::Unfit;
    }
    if before.fitness != ObservedFitness::ByLag || after.fitness != ObservedFitness::ByLag {
        return Proof::Undecided;
    }
    let since = sample.received.saturating_duration_since(before.at);
    let is_fresh = before.hi.is_some_and(|hi| hi.saturating_add(since) <= max_lag);
    let is_later = after.asked_at.is_some_and(|asked| asked >= sample.received);
    let until = after.at.saturating_duration_since(sample.sent);
    let is_lagging = is_later && after.lo.saturating_sub(until) > max_lag;
    match (is_fresh, is_lagging) {
        (true, false) => Proof::Fresh,
        (false, true) => Proof::Lagging,
        // Both, where a failover changed what lag is measured against.
        (true, true) | (false, false) => Proof::Undecided,
    }
}

#[cfg(test)]
mod tests;
