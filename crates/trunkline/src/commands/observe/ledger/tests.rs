use super::*;
use crate::commands::observe::formula::{Formula, FormulaAnswer};

const TICK: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

/// A standby that is simulated: its true lag decides what the judge knows of it, asked in the middle between two questions.
struct Simulated {
    start: Instant,
    tick: u32,
    ledger: FormulaLedger,
    settled: Vec<Settled>,
    verdict: MomentVerdict,
}

/// What is so in one tick.
#[derive(Clone, Copy)]
struct Truth {
    lag: Duration,
    fitness: ObservedFitness,
    answers: Answers,
}

fn limits() -> Limits {
    Limits { max_lag: 2 * SECOND, lag_bytes: 100 }
}

fn truth(lag: Duration, answers: Answers) -> Truth {
    Truth { lag, fitness: ObservedFitness::ByLag, answers }
}

/// The replay age in seconds, in sync or not, both combined, and Patroni's bytes.
fn answers(age: f64, is_in_sync: FormulaAnswer, bytes: u64) -> Answers {
    let combined = if is_in_sync == FormulaAnswer::InSync { 0.0 } else { age };
    [FormulaAnswer::Seconds(age), is_in_sync, FormulaAnswer::Seconds(combined), FormulaAnswer::Bytes(bytes)]
}

impl Simulated {
    fn new() -> Self {
        let start = Instant::now();
        let verdict = MomentVerdict {
            at: start,
            asked_at: Some(start),
            fitness: ObservedFitness::ByLag,
            lo: Duration::ZERO,
            hi: Some(Duration::ZERO),
        };
        Self { start, tick: 0, ledger: FormulaLedger::new(limits(), TICK), settled: Vec::new(), verdict }
    }

    fn now(&self) -> Instant {
        self.start + TICK * self.tick
    }

    /// A question at each tick, and a probe half a tick later.
    fn run(&mut self, ticks: u32, truth: impl Fn(u32) -> Truth) {
        for number in 0..ticks {
            let Truth { lag, fitness, answers } = truth(number);
            let now = self.now();
            let sample =
                FormulaSample { sent: now, received: now + TICK / 100, before: self.verdict, answers };
            self.settled.extend(self.ledger.take(sample, self.verdict));
            let at = now + TICK / 2;
            // The judge sees the primary every tick, so that its bounds are a tick apart.
            let (lo, hi) = (lag.saturating_sub(TICK), Some(lag + TICK / 2));
            self.verdict = MomentVerdict { at, asked_at: Some(at), fitness, lo, hi };
            self.tick += 1;
        }
    }

    fn tally(&self, formula: Formula) -> FormulaTally {
        let at = Formula::ALL.iter().position(|known| *known == formula).expect("it is one of them");
        self.ledger.formulas[at]
    }
}

fn is_about(duration: Duration, seconds: f64) -> bool {
    (duration.as_secs_f64() - seconds).abs() <= 1.5
}

#[test]
fn an_idle_primary_makes_the_age_of_the_last_transaction_wrong() {
    let mut standby = Simulated::new();
    standby.run(120, |tick| truth(Duration::ZERO, answers(f64::from(tick) * 0.5, FormulaAnswer::InSync, 0)));
    let age = standby.tally(Formula::ReplayAge);
    // 60 s, of which it was within the limit for the first two.
    assert!(is_about(age.lagging_though_fresh, 58.0) && is_about(age.right, 2.0), "{age:?}");
    for formula in [Formula::InSync, Formula::Combined, Formula::PatroniLag] {
        let tally = standby.tally(formula);
        assert_eq!(tally.lagging_though_fresh + tally.fresh_though_lagging, Duration::ZERO, "{formula:?}");
        assert!(is_about(tally.right, 60.0), "{tally:?}");
    }
    assert!(is_about(standby.ledger.proven.fresh, 60.0), "{:?}", standby.ledger.proven);
}

#[test]
fn a_standby_that_is_cut_off_is_wrongly_in_sync() {
    let mut standby = Simulated::new();
    standby.run(20, |_| truth(Duration::ZERO, answers(0.0, FormulaAnswer::InSync, 0)));
    // From here on it gets nothing: all that it has is replayed.
    standby.run(120, |tick| {
        truth(TICK * tick, answers(f64::from(tick) * 0.5, FormulaAnswer::InSync, u64::from(tick)))
    });
    let (age, in_sync) = (standby.tally(Formula::ReplayAge), standby.tally(Formula::InSync));
    assert!(is_about(in_sync.fresh_though_lagging, 57.0), "{in_sync:?}");
    assert_eq!(standby.tally(Formula::Combined).fresh_though_lagging, in_sync.fresh_though_lagging);
    assert_eq!(age.fresh_though_lagging, Duration::ZERO, "{age:?}");
    let patroni = standby.tally(Formula::PatroniLag);
    assert!(patroni.fresh_though_lagging > 40 * SECOND && patroni.right > 8 * SECOND, "{patroni:?}");
    assert_eq!(
        standby.settled.iter().filter(|settled| settled.marks[1] == Mark::WronglyFresh).count() as u128,
        in_sync.fresh_though_lagging.as_millis() / TICK.as_millis()
    );
}

#[test]
fn near_the_limit_nothing_is_held_against_anybody() {
    let mut standby = Simulated::new();
    standby.run(50, |_| truth(limits().max_lag, answers(60.0, FormulaAnswer::InSync, 0)));
    let proven = standby.ledger.proven;
    assert!(is_about(proven.undecided, 25.0) && proven.lagging == Duration::ZERO, "{proven:?}");
    let wrong = |tally: FormulaTally| tally.fresh_though_lagging + tally.lagging_though_fresh;
    for formula in Formula::ALL {
        assert!(wrong(standby.tally(formula)) <= SECOND, "{formula:?}: {:?}", standby.tally(formula));
    }
}

#[test]
fn a_fenced_server_that_calls_itself_fresh_is_wrong_in_its_own_column() {
    let mut standby = Simulated::new();
    standby.run(40, |_| Truth {
        fitness: ObservedFitness::Unfit,
        ..truth(Duration::ZERO, answers(0.0, FormulaAnswer::InSync, 0))
    });
    let tally = standby.tally(Formula::InSync);
    assert!(
        is_about(tally.fresh_though_unfit, 20.0) && tally.fresh_though_lagging == Duration::ZERO,
        "{tally:?}"
    );
}

#[test]
fn silence_is_counted_and_is_not_wrong() {
    let mut standby = Simulated::new();
    standby.run(20, |_| truth(10 * SECOND, Answers::default()));
    let tally = standby.tally(Formula::Combined);
    assert!(is_about(tally.silent, 10.0), "{tally:?}");
    assert_eq!(tally, FormulaTally { silent: tally.silent, ..FormulaTally::default() });
}

#[test]
fn who_slept_does_not_know_what_was_meanwhile() {
    let mut standby = Simulated::new();
    standby.run(4, |_| truth(Duration::ZERO, answers(0.0, FormulaAnswer::InSync, 0)));
    standby.tick += 7200;
    standby.run(4, |_| truth(Duration::ZERO, answers(0.0, FormulaAnswer::InSync, 0)));
    let proven = standby.ledger.proven;
    assert!(proven.fresh + proven.undecided <= 6 * SECOND, "{proven:?}");
}

#[test]
fn few_answers_wait_when_no_probe_comes() {
    let mut ledger = FormulaLedger::new(limits(), TICK);
    let start = Instant::now();
    let frozen = MomentVerdict {
        at: start,
        asked_at: None,
        fitness: ObservedFitness::ByLag,
        lo: 9 * SECOND,
        hi: None,
    };
    let mut settled = 0;
    for tick in 0..1000 {
        let now = start + TICK * tick;
        let sample = FormulaSample {
            sent: now,
            received: now,
            before: frozen,
            answers: answers(0.0, FormulaAnswer::InSync, 0),
        };
        settled += ledger.take(sample, frozen).len();
        assert!(ledger.pending.len() <= PENDING_MAX, "{tick}");
    }
    assert_eq!(settled, 1000 - PENDING_MAX);
    assert_eq!(ledger.proven.lagging, Duration::ZERO, "an old proof proves nothing of now");
}
