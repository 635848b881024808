//! The loads.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::{JoinSet, LocalSet};

use super::{Client, Endpoint, Mode, cpu_time};

/// Logins under way at once while sessions are opened to be held.
const LOGINS_AT_ONCE: usize = 64;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where clients connect.
    pub endpoint: Endpoint,
    /// How many.
    pub clients: usize,
    /// How they ask.
    pub mode: Mode,
    /// What they ask.
    pub sql: String,
    /// How long before the measured window.
    pub warm_up: Duration,
    /// The measured window.
    pub window: Duration,
    /// Processes whose processor time counts.
    pub pids: Vec<u32>,
}

/// What happened in the measured window.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Queries, connections or answers.
    pub count: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// Length of the window.
    pub elapsed: Duration,
    /// Processor time of the measured processes in it.
    pub cpu: Duration,
    /// Of each query, in nanoseconds; sorted.
    pub latencies: Vec<u32>,
}

impl Figures {
    /// As JSON, in microseconds.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let count = self.count.max(1) as f64;
        let at = |share: f64| {
            let index = (self.latencies.len() as f64 * share) as usize;
            self.latencies.get(index).map(|ns| f64::from(*ns) / 1000.0)
        };
        json!({
            "count": self.count,
            "bytes": self.bytes,
            "seconds": self.elapsed.as_secs_f64(),
            "per_second": count / self.elapsed.as_secs_f64(),
            "cpu_us": self.cpu.as_secs_f64() * 1e6 / count,
            "cpu_seconds": self.cpu.as_secs_f64(),
            "p50_us": at(0.5), "p95_us": at(0.95), "p99_us": at(0.99), "p999_us": at(0.999),
        })
    }
}

/// What the clients of one run share.
#[derive(Default)]
struct Tally {
    is_over: Cell<bool>,
    is_counting: Cell<bool>,
    count: Cell<u64>,
    bytes: Cell<u64>,
    latencies: RefCell<Vec<u32>>,
}

impl Tally {
    fn note(&self, began: Instant, bytes: u64) {
        if self.is_counting.get() {
            self.count.set(self.count.get() + 1);
            self.bytes.set(self.bytes.get() + bytes);
            let nanoseconds = u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX);
            self.latencies.borrow_mut().push(nanoseconds);
        }
    }
}

/// Measures `plan.clients` sessions that ask again and again.
///
/// # Errors
/// The first error of any client.
pub async fn closed_loop(plan: &Plan) -> io::Result<Figures> {
    let mut clients = Vec::with_capacity(plan.clients);
    for _ in 0..plan.clients {
        clients.push(Client::connect(&plan.endpoint, plan.mode, &plan.sql).await?);
    }
    measured(plan, clients, |mut client, tally| async move {
        while !tally.is_over.get() {
            let began = Instant::now();
            let bytes = client.query().await?;
            tally.note(began, bytes);
        }
        client.terminate().await
    })
    .await
}

/// Measures clients that log in, ask once and leave, again and again.
///
/// # Errors
/// The first error of any client.
pub async fn reconnect(plan: &Plan) -> io::Result<Figures> {
    let turns = vec![(plan.endpoint.clone(), plan.mode, plan.sql.clone()); plan.clients];
    measured(plan, turns, |(endpoint, mode, sql), tally| async move {
        while !tally.is_over.get() {
            let began = Instant::now();
            let mut client = Client::connect(&endpoint, mode, &sql).await?;
            let bytes = client.query().await?;
            client.terminate().await?;
            tally.note(began, bytes);
        }
        Ok(())
    })
    .await
}

/// Measures one session that asks `times` times, without a window: for large answers.
///
/// # Errors
/// The client's.
pub async fn bulk(plan: &Plan, times: u32) -> io::Result<Figures> {
    let mut client = Client::connect(&plan.endpoint, plan.mode, &plan.sql).await?;
    let (began, cpu_before) = (Instant::now(), cpu_time(&plan.pids));
    let mut bytes = 0;
    for _ in 0..times {
        bytes += client.query().await?;
    }
    let cpu = cpu_time(&plan.pids).saturating_sub(cpu_before);
    let figures =
        Figures { count: times.into(), bytes, elapsed: began.elapsed(), cpu, latencies: Vec::new() };
    client.terminate().await?;
    Ok(figures)
}

/// Opens `plan.clients` sessions that have asked once.
///
/// # Errors
/// The first error of any client.
pub async fn hold(plan: &Plan) -> io::Result<Vec<Client>> {
    let mut held = Vec::with_capacity(plan.clients);
    let mut opening = JoinSet::new();
    for _ in 0..plan.clients {
        if opening.len() == LOGINS_AT_ONCE {
            held.extend(opening.join_next().await.transpose().map_err(io::Error::other)?.transpose()?);
        }
        let (endpoint, mode, sql) = (plan.endpoint.clone(), plan.mode, plan.sql.clone());
        opening.spawn(async move {
            let mut client = Client::connect(&endpoint, mode, &sql).await?;
            client.query().await?;
            io::Result::Ok(client)
        });
    }
    while let Some(client) = opening.join_next().await {
        held.push(client.map_err(io::Error::other)??);
    }
    Ok(held)
}

async fn measured<C, F>(plan: &Plan, clients: Vec<C>, work: impl Fn(C, Rc<Tally>) -> F) -> io::Result<Figures>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let tally = Rc::new(Tally::default());
    let local = LocalSet::new();
    let mut works = JoinSet::new();
    for client in clients {
        works.spawn_local_on(work(client, Rc::clone(&tally)), &local);
    }
    let (elapsed, cpu) = local
        .run_until(async {
            tokio::time::sleep(plan.warm_up).await;
            let (began, cpu_before) = (Instant::now(), cpu_time(&plan.pids));
            tally.is_counting.set(true);
            tokio::time::sleep(plan.window).await;
            tally.is_counting.set(false);
            let figures = (began.elapsed(), cpu_time(&plan.pids).saturating_sub(cpu_before));
            tally.is_over.set(true);
            figures
        })
        .await;
    local
        .run_until(async {
            while let Some(worked) = works.join_next().await {
                worked.map_err(io::Error::other)??;
            }
            io::Result::Ok(())
        })
        .await?;
    let mut latencies = tally.latencies.take();
    latencies.sort_unstable();
    Ok(Figures { count: tally.count.get(), bytes: tally.bytes.get(), elapsed, cpu, latencies })
}
