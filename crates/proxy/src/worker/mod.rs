//! A worker thread: its listeners, its sessions, and the reactor they run on.
//!
//! A query is relayed without leaving its thread. Connections are accepted on any thread and placed on the one
//! with the fewest (`accept`); health changes and shutdown reach sessions through their slots.

mod accept;
mod pools;
mod rebalance;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use trunkline_net::LINGER;
use trunkline_reactor::block_on;
use trunkline_reactor::timer::{self, Ticker};

#[cfg(test)]
pub(crate) use self::accept::serve;
#[cfg(test)]
pub(crate) use self::pools::read_mail;
#[cfg(test)]
pub(crate) use self::pools::tick as tick_pools;
use crate::certificates;
use crate::context::{Inbox, OpenedSocket, Order, RunPhase, Shared, Worker};
use crate::limits::{REBALANCE_INTERVAL, TICK};
use crate::net::Connector;
use trunkline_telemetry::sessions::SessionsQuery;

/// Starts the thread of worker `index` with its own set of listening sockets; returns when it runs.
pub(crate) fn spawn(
    index: usize,
    shared: Arc<Shared>,
    sockets: Vec<OpenedSocket>,
    inbox: Inbox,
    phase: watch::Receiver<RunPhase>,
    aside: Handle,
) -> io::Result<std::thread::JoinHandle<()>> {
    let (started, has_started) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        if certificates::are_there_any(&shared) {
            trunkline_tls::warm_up();
        }
        // Long calculations run on the control runtime.
        let _aside = aside.enter();
        let begun = started.clone();
        let ended = block_on(async move {
            begun.send(Ok(())).expect("the starting thread waits for this");
            run(index, shared, sockets, inbox, phase).await;
        });
        if let Err(error) = ended {
            tracing::error!(worker = index, %error, "a worker cannot wait for its sockets");
            // The starting thread may still wait for this; later nobody does.
            let _nobody = started.try_send(Err(error));
        }
    })?;
    has_started.recv().map_err(io::Error::other)??;
    Ok(thread)
}

async fn run(
    index: usize,
    shared: Arc<Shared>,
    sockets: Vec<OpenedSocket>,
    inbox: Inbox,
    mut phase: watch::Receiver<RunPhase>,
) {
    let worker = Worker::new(index, shared, Connector::Network, phase.clone());
    let mut accepting = accept::Accepting::default();
    accepting.open(&worker, sockets);
    let mut health = worker.shared.health.changed();
    let mut tick = Ticker::every(TICK);
    let mut rebalance = Ticker::every(REBALANCE_INTERVAL);
    let Inbox { mut handoffs, questions, mut listeners, pool_mail } = inbox;
    trunkline_reactor::spawn(pools::read_mail(Rc::clone(&worker), pool_mail));
    trunkline_reactor::spawn(answer(Rc::clone(&worker), questions));
    loop {
        tokio::select! {
            handoff = handoffs.recv() => match handoff {
                Some(handoff) => accept::take_over(&worker, handoff),
                None => return,
            },
            Some(change) = listeners.recv() => accepting.change(&worker, change),
            changed = health.changed() => match changed {
                Ok(()) => {
                    pools::look(&worker);
                    worker.slots.order_all(Order::Recheck);
                }
                Err(_gone) => return,
            },
            () = tick.tick() => {
                pools::tick(&worker);
                worker.slots.wake_due(Instant::now());
            }
            () = rebalance.tick() => rebalance::round(&worker),
            changed = phase.changed() => {
                if changed.is_err() { return }
                if *phase.borrow_and_update() != RunPhase::Running { break }
                // A reload: sessions look at the settings again.
                worker.slots.order_all(Order::Recheck);
            }
        }
    }
    drop(accepting);
    drop(handoffs);
    wind_down(&worker, phase.clone()).await;
    pools::close_all(&worker);
    last_words(&worker, &phase).await;
}

/// Answers queries about the sessions in a task of its own, because sessions may take a while to answer.
async fn answer(worker: Rc<Worker>, mut questions: mpsc::Receiver<SessionsQuery>) {
    while let Some(asked) = questions.recv().await {
        if !asked.answer.is_closed() {
            // The asker may have stopped waiting.
            let _gone = asked.answer.send(worker.slots.ask_all(asked.listed).await);
        }
    }
}

/// Waits for connections that are still being closed, including those in the middle of a login.
async fn last_words(worker: &Worker, phase: &watch::Receiver<RunPhase>) {
    let connections = &worker.shared.workers[worker.index].connections;
    let all_told = async {
        while connections.load(Relaxed) > 0 {
            timer::sleep(LAST_WORDS_CHECK).await;
        }
    };
    let _ = timer::timeout(patience(phase), all_told).await;
}

fn patience(phase: &watch::Receiver<RunPhase>) -> Duration {
    match *phase.borrow() {
        RunPhase::Running | RunPhase::Draining { .. } => LINGER,
        RunPhase::Stopped => STOP_PATIENCE,
    }
}

/// Ends every session: at its idle point until the deadline, then in whatever state it is.
async fn wind_down(worker: &Rc<Worker>, mut phase: watch::Receiver<RunPhase>) {
    worker.slots.order_all(Order::Drain);
    let mut health = worker.shared.health.changed();
    let mut tick = Ticker::every(TICK);
    while !worker.slots.is_empty() {
        let deadline = match *phase.borrow_and_update() {
            RunPhase::Running => return,
            RunPhase::Draining { deadline } => deadline,
            RunPhase::Stopped => break,
        };
        tokio::select! {
            () = worker.slots.emptied() => {}
            () = timer::sleep_until(deadline) => break,
            // A drain may take a while, and servers may hang or fail over meanwhile.
            () = tick.tick() => worker.slots.wake_due(Instant::now()),
            Ok(()) = health.changed() => worker.slots.order_all(Order::Recheck),
            changed = phase.changed() => if changed.is_err() { break },
        }
    }
    worker.slots.order_all(Order::Kill);
    let all_gone = async {
        while !worker.slots.is_empty() {
            worker.slots.emptied().await;
        }
    };
    if timer::timeout(patience(&phase), all_gone).await.is_err() {
        tracing::debug!(
            worker = worker.index,
            "sessions were closed although their clients had not read everything"
        );
    }
}

/// How long sessions may take to tell their clients when the process ends at once.
const STOP_PATIENCE: Duration = Duration::from_millis(200);

/// How often a worker about to end looks whether its last connections have gone.
const LAST_WORDS_CHECK: Duration = Duration::from_millis(10);
