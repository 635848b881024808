//! One script on two sessions: one directly on a replica, the other moved about behind the endpoint.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_cluster::Cluster;
use trunkline_tests::{Message, ServerError};

use super::actions::IDLE_TIMEOUT;
use super::mover::{Mover, Outcome};
use super::script::{Move, Script, Step};
use super::side::{Said, Side};
use super::world::World;

/// The replica that the direct session is on; the endpoint does not know it, so that both may hold the same locks.
pub(crate) const DIRECT: usize = 2;
/// So long after a function was replaced the proxy may not have read it: its look of each second, and what it takes.
const READ_BY: Duration = Duration::from_secs(2);

/// What came of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Both said the same, to the end.
    Alike,
    /// The server was lost and the client was told so, by an error that the manual names.
    Announced,
    /// They said different things.
    Different(Difference),
}

/// Where two sessions part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Index of the step.
    pub(crate) at: usize,
    /// What both said, of that step only.
    pub(crate) text: String,
}

/// How many moves there were, and of what kind.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) left: usize,
    /// By what kept them.
    pub(crate) stayed: BTreeMap<String, usize>,
    pub(crate) lost: usize,
}

/// A worker: a database, an endpoint, and scripts one after the other.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) mover: Mover,
    pub(crate) counts: Counts,
}

impl Bench {
    pub(crate) fn start(cluster: &Arc<Cluster>, number: usize) -> Self {
        let world = World::create(cluster, number);
        let mover = Mover::start(Arc::clone(cluster));
        Self { world, mover, counts: Counts::default() }
    }

    /// Runs `script` in a world as it was at first.
    pub(crate) fn run(&mut self, script: &Script) -> Verdict {
        self.mover.settle();
        self.world.restore();
        let login = self.world.login(script);
        let direct = Side::login(&login, self.mover.cluster.replicas[DIRECT].port());
        let moved = Side::login(&login, self.mover.endpoint.reads());
        match (direct, moved) {
            (Ok(direct), Ok(moved)) => {
                let (is_lost, was_lost) = (false, false);
                Pair { direct, moved, is_lost, was_lost, replaced: None, is_unread: false }.run(self, script)
            }
            (Err(direct), Err(moved)) if (&direct.code, &direct.text) == (&moved.code, &moved.text) => {
                Verdict::Alike
            }
            (direct, moved) => different(0, "login", &refusal(direct.err()), &refusal(moved.err())),
        }
    }
}

fn refusal(error: Option<ServerError>) -> String {
    error.map_or_else(|| "welcome\n".to_owned(), |error| format!("{error:?}\n"))
}

/// The two sessions of a script.
#[derive(Debug)]
struct Pair {
    direct: Side,
    moved: Side,
    /// The server was lost since both last said the same.
    is_lost: bool,
    /// It was lost at any time.
    was_lost: bool,
    /// When a function or what calls one was replaced last.
    replaced: Option<Instant>,
    /// A server was lost so soon after that that nobody knows what its session had called: docs/moving.md, "What still
    /// differs from one server".
    is_unread: bool,
}

impl Pair {
    fn run(mut self, bench: &mut Bench, script: &Script) -> Verdict {
        for (at, step) in script.steps.iter().enumerate() {
            let step = bench.world.localized(step);
            let said = (self.direct.take(&step), self.moved.take(&step));
            self.befall(bench, &step);
            let (Some(direct), Some(moved)) = said else { continue };
            match self.judge(at, &step.to_string(), &direct, &moved) {
                Some(verdict) => return verdict,
                None if direct.is_over => return Verdict::Alike,
                None => {}
            }
        }
        let (direct, moved) = (self.direct.finish(), self.moved.finish());
        self.judge(script.steps.len(), "the end", &direct, &moved).unwrap_or(Verdict::Alike)
    }

    /// What happens beside the two connections.
    fn befall(&mut self, bench: &mut Bench, step: &Step) {
        match step {
            // A replica replays nothing beside a transaction that holds the table.
            Step::Ddl(sql) if self.direct.is_idle() => {
                // A server that is away may replay nothing.
                bench.mover.settle();
                bench.world.change(sql);
                // A function that is new is no such case: it pins until it was read.
                let replaces = ["OR REPLACE", "CREATE POLICY"].iter().any(|what| sql.contains(what));
                self.replaced = if replaces { Some(Instant::now()) } else { self.replaced };
            }
            Step::Ddl(_) => {}
            Step::Wait(ms) => std::thread::sleep(Duration::from_millis(u64::from(*ms))),
            Step::Kill => self.kill(bench),
            Step::Move(how) => self.make(*how, bench),
            // A session that has left a server and not come to another has nobody to end it.
            Step::Query(sql) if sql.starts_with(IDLE_TIMEOUT) => bench.mover.settle(),
            Step::Query(_)
            | Step::UnreadQuery(_)
            | Step::Parse { .. }
            | Step::Bind { .. }
            | Step::Describe(..)
            | Step::Execute { .. }
            | Step::Close(..)
            | Step::Flush
            | Step::Sync
            | Step::UnreadSync
            | Step::Call { .. } => {}
        }
    }

    fn make(&mut self, how: Move, bench: &mut Bench) {
        let outcome = bench.mover.make(how, &mut bench.world, self.moved.port());
        match (outcome, how) {
            (Outcome::Nowhere, _) => {}
            (_, Move::Lost | Move::Crash) => {
                (self.is_lost, self.was_lost) = (true, true);
                self.is_unread |= self.replaced.is_some_and(|at| at.elapsed() < READ_BY);
                bench.counts.lost += 1;
            }
            (Outcome::Left, _) => bench.counts.left += 1,
            (Outcome::Stayed(why), _) => *bench.counts.stayed.entry(why).or_default() += 1,
        }
    }

    /// Ends both sessions' processes, as `pg_terminate_backend` does.
    fn kill(&mut self, bench: &mut Bench) {
        let mut backends = bench.mover.backends(&mut bench.world, self.moved.port());
        // A session without a server has no process to end.
        if backends.is_empty() {
            return;
        }
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND client_port = {}",
            bench.world.database(),
            self.direct.port()
        );
        let direct = bench.world.ask(DIRECT, &sql);
        backends.extend(direct.into_iter().filter_map(|row| Some((DIRECT, row.into_iter().next()??))));
        let end = |world: &mut World, backends: Vec<(usize, String)>| {
            for (replica, pid) in backends {
                world.ask(replica, &format!("SELECT pg_terminate_backend({pid}, 5000)"));
            }
        };
        end(&mut bench.world, backends);
        // It may have left for another server at that moment.
        let missed = bench.mover.backends(&mut bench.world, self.moved.port());
        end(&mut bench.world, missed);
    }

    fn judge(&mut self, at: usize, step: &str, direct: &Said, moved: &Said) -> Option<Verdict> {
        if direct.is_like(moved) {
            // What was said without one may have come before the loss.
            self.is_lost &= direct.messages.last().is_none_or(|last| last.tag != b'Z');
            return None;
        }
        // A statement whose shape nobody had asked for yet is unknown once its server is lost; the unnamed one is gone.
        let is_unknown =
            self.was_lost && moved.codes().any(|code| ["0A000", "26000"].contains(&code.as_str()));
        if is_unknown
            || self.is_unread
            || (self.is_lost && is_announced(moved))
            || has_other_error(direct, moved)
        {
            return Some(Verdict::Announced);
        }
        Some(different(at, step, &told(direct, moved), &told(moved, direct)))
    }
}

/// The statement was run with too few parameters, and cannot be prepared any more: the other of two errors comes, as
/// docs/moving.md lists.
fn has_other_error(direct: &Said, moved: &Said) -> bool {
    let tags = |said: &Said| said.messages.iter().map(|message| message.tag).collect::<Vec<_>>();
    direct.errors().any(|error| error.text.contains("wrong number of parameters for prepared statement"))
        && tags(direct) == tags(moved)
}

/// The client was told by an error of class 08 or by the server's farewell that its server is gone.
fn is_announced(said: &Said) -> bool {
    said.is_over || said.codes().any(|code| ["08006", "57P01", "57P02"].contains(&code.as_str()))
}

fn different(at: usize, step: &str, direct: &str, moved: &str) -> Verdict {
    Verdict::Different(Difference { at, text: format!("after: {step}\ndirect:\n{direct}moved:\n{moved}") })
}

/// A reply in a reader's words: what `other` does not have.
fn told(said: &Said, other: &Said) -> String {
    let mut text = String::new();
    for message in said.messages.iter().filter(|message| !other.has(message)) {
        let _infallible = writeln!(text, "  {}", readable(message));
    }
    for (name, value) in &said.parameters {
        if other.parameters.get(name) != Some(value) {
            let _infallible = writeln!(text, "  was told {name} = {value}");
        }
    }
    let tags: String = said.messages.iter().map(|message| char::from(message.tag)).collect();
    if tags.len() < 60 {
        let _infallible = writeln!(text, "  all: {tags}");
    }
    if said.is_over {
        text.push_str("  the connection has ended\n");
    }
    text
}

fn readable(message: &Message) -> String {
    let letter = char::from(message.tag);
    if message.tag == b'E' || message.tag == b'N' {
        let error = ServerError::parse(&message.body);
        return format!("{letter} {} {} {}", error.severity, error.code, error.text.replace('\n', " / "));
    }
    let body = String::from_utf8_lossy(&message.body);
    let body: String = body.chars().map(|c| if c.is_control() { '.' } else { c }).collect();
    format!("{letter} {body}")
}
