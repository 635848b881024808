//! All scenarios, one after the other or on several databases at once.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::dsn::Dsn;
use crate::play::play;
use crate::reasons::ReasonsCommand;
use crate::report::{CaseResult, TortureTable};
use crate::scenario::Scenario;
use crate::stage::{Prompter, Stage};
use crate::verdict::{Judged, TortureVerdict, fault_of_direct, judge};

/// Most databases played on at once.
pub const JOBS_MAX: usize = 16;
/// Longest wait for an answer on a direct connection, where none is missing: what is slow there is the machine.
const DIRECT_WAIT: Duration = Duration::from_secs(30);
/// The role that scenarios change to, where the login may make one.
pub const OTHER_ROLE: &str = "torture_other";

/// What is played, where, and with how much patience.
#[derive(Debug, Clone)]
pub struct TortureOptions {
    /// The pooler.
    pub pooler: Dsn,
    /// The server behind it.
    pub direct: Dsn,
    /// Only scenarios whose name contains one of these; all where there is none.
    pub only: Vec<String>,
    /// Longest wait of a client for the pooler's answer. A pooler that keeps its server connections for others is waited for twice.
    pub wait: Duration,
    /// How many databases are played on at once. One is the DSNs' own; for more, `DATABASE_torture_N` are made and dropped.
    pub jobs: usize,
    /// What tells why the pooler keeps server connections, asked after each step. It is of all databases: with one job only.
    pub reasons: Option<ReasonsCommand>,
    /// The pooler may read from standbys of the direct server: they are waited for before another client acts, who need not
    /// see at once what the one before wrote.
    pub standbys: bool,
}

/// Plays what `options` say; `progress` hears of each scenario that is done, from any thread.
///
/// # Errors
/// The server cannot be reached or prepared, or the options make no sense.
pub fn run(
    options: &TortureOptions,
    progress: &(dyn Fn(&CaseResult, usize) + Sync),
) -> anyhow::Result<TortureTable> {
    let started = Instant::now();
    let scenarios: Vec<Scenario> =
        crate::cases::all().into_iter().filter(|scenario| is_wanted(scenario, &options.only)).collect();
    if scenarios.is_empty() {
        bail!("no case has a name that contains {}", options.only.join(" or "));
    }
    if !(1..=JOBS_MAX).contains(&options.jobs) {
        bail!("{} jobs make no sense: 1 to {JOBS_MAX} do", options.jobs);
    }
    if options.jobs > 1 && options.reasons.is_some() {
        bail!("reasons can be asked for with one job only");
    }
    let databases = Databases::make(options)?;
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(scenarios.len()));
    let outcome = std::thread::scope(|scope| {
        let workers: Vec<_> = databases
            .dsns
            .iter()
            .map(|(direct, pooler)| {
                scope.spawn(|| -> anyhow::Result<()> {
                    let mut prompter = prepared(direct, pooler)?
                        .asking(options.reasons.clone())
                        .awaiting_standbys(options.standbys);
                    while let Some((at, scenario)) = take(&next, &scenarios) {
                        let result = one(scenario, &mut prompter, options.wait);
                        progress(&result, scenarios.len());
                        let mut results =
                            results.lock().map_err(|_| anyhow::anyhow!("another job has failed"))?;
                        results.push((at, result));
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("a job has panicked")),
        })
    });
    let dropped = databases.drop_all(options);
    outcome?;
    dropped?;
    let mut results = results.into_inner().context("a job has panicked")?;
    results.sort_by_key(|(at, _)| *at);
    let results = results.into_iter().map(|(_, result)| result).collect();
    Ok(TortureTable { results, took: started.elapsed() })
}

fn is_wanted(scenario: &Scenario, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|part| scenario.name.contains(part.as_str()))
}

fn take<'s>(next: &AtomicUsize, scenarios: &'s [Scenario]) -> Option<(usize, &'s Scenario)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    scenarios.get(at).map(|scenario| (at, scenario))
}

fn one(scenario: &Scenario, prompter: &mut Prompter, wait: Duration) -> CaseResult {
    let started = Instant::now();
    let (judged, kept) = compared(scenario, prompter, wait).unwrap_or_else(|error| {
        (Judged::void("beside the clients".to_owned(), format!("{error:#}")), BTreeSet::new())
    });
    CaseResult {
        name: scenario.name.clone(),
        about: scenario.about.clone(),
        judged,
        kept,
        took: started.elapsed(),
    }
}

/// The verdict, and why the pooler has kept server connections.
fn compared(
    scenario: &Scenario,
    prompter: &mut Prompter,
    wait: Duration,
) -> anyhow::Result<(Judged, BTreeSet<String>)> {
    if !prompter.has(scenario.need)? {
        return Ok((Judged::plain(TortureVerdict::Skipped), BTreeSet::new()));
    }
    let direct = play(scenario, Stage::Direct, prompter, wait.max(DIRECT_WAIT))?;
    if let Some(fault) = fault_of_direct(scenario, &direct) {
        return Ok((fault, BTreeSet::new()));
    }
    let pooled = play(scenario, Stage::Pooled, prompter, wait)?;
    Ok((judge(scenario, &direct, &pooled), pooled.kept))
}

/// A direct connection to a database in which schema `torture` has been made anew.
fn prepared(direct: &Dsn, pooler: &Dsn) -> anyhow::Result<Prompter> {
    let mut prompter = Prompter::connect(direct, pooler)?;
    prompter.run("SET client_min_messages = warning")?;
    for sql in crate::cases::fixture() {
        prompter.run(&sql).context("the schema torture could not be prepared")?;
    }
    Ok(prompter)
}

/// The databases that are played on.
struct Databases {
    dsns: Vec<(Dsn, Dsn)>,
    made: Vec<String>,
}

impl Databases {
    fn make(options: &TortureOptions) -> anyhow::Result<Self> {
        let mut prompter = Prompter::connect(&options.direct, &options.pooler)?;
        prompter.run("SET client_min_messages = warning")?;
        if prompter.has(crate::scenario::Need::Superuser)? {
            prompter.run(&format!(
                "DO $$ BEGIN CREATE ROLE {OTHER_ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            ))?;
        }
        if options.jobs == 1 {
            let dsns = vec![(options.direct.clone(), options.pooler.clone())];
            return Ok(Self { dsns, made: Vec::new() });
        }
        let mut databases = Self { dsns: Vec::new(), made: Vec::new() };
        for number in 1..=options.jobs {
            let name = format!("{}_torture_{number}", options.direct.database);
            prompter.run(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"))?;
            prompter.run(&format!("CREATE DATABASE \"{name}\""))?;
            databases.dsns.push((options.direct.to_database(&name), options.pooler.to_database(&name)));
            databases.made.push(name);
        }
        Ok(databases)
    }

    fn drop_all(&self, options: &TortureOptions) -> anyhow::Result<()> {
        let mut prompter = Prompter::connect(&options.direct, &options.pooler)?;
        for name in &self.made {
            prompter.run(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"))?;
        }
        Ok(())
    }
}
