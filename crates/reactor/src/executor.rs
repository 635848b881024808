//! A thread's tasks: woken tasks are polled in the order of their wake-ups, then epoll is polled again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

use crate::driver::{Driver, Wait};

thread_local! {
    static LOCAL: RefCell<Option<Rc<LocalExecutor>>> = const { RefCell::new(None) };
    /// What tells this thread's executor from others, and its queue of woken tasks: separate from `LOCAL` because wakers
    /// need only these.
    static ITS_REMOTE: Cell<*const RemoteWakeups> = const { Cell::new(std::ptr::null()) };
    static WOKEN: RefCell<VecDeque<TaskKey>> = const { RefCell::new(VecDeque::new()) };
}

/// The executor of a thread, for use by its own tasks.
#[derive(Debug)]
struct LocalExecutor {
    id: u64,
    driver: Rc<Driver>,
    /// The place of a task is empty while it is polled.
    tasks: RefCell<Slab<Option<TaskBody>>>,
    made: Cell<u32>,
    /// Polls of epoll so far.
    rounds: Cell<u64>,
    /// Tasks made since the last one was polled.
    spawned: Cell<usize>,
    remote: Arc<RemoteWakeups>,
}

/// The queue through which other threads wake tasks of an executor.
#[derive(Debug)]
struct RemoteWakeups {
    /// `None` once the executor has ended: nothing would drain the queue, and each header keeps it alive.
    woken: Mutex<Option<Vec<Arc<TaskHeader>>>>,
    waker: mio::Waker,
}

/// Identifies a task for its lifetime; the generation `made` keeps keys of earlier tasks from matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TaskKey {
    slot: u32,
    made: u32,
}

/// Most tasks spawned during a round that also start in it. The rest wait for the next round, after a poll of epoll.
const BEGIN_IN_A_ROUND_MAX: usize = 64;

/// The future that `block_on` was given: not among the tasks.
const MAIN: TaskKey = TaskKey { slot: u32::MAX, made: 0 };

/// What a task's wakers share.
#[derive(Debug)]
struct TaskHeader {
    key: TaskKey,
    /// Whether it is in its thread's queue. Only that thread reads this.
    is_woken: AtomicBool,
    /// Whether it is in the queue of wake-ups from other threads. Accessed only under that queue's lock.
    is_queued_remotely: AtomicBool,
    /// That of its executor, which no other has while there is one of its headers.
    remote: Arc<RemoteWakeups>,
}

struct TaskBody {
    future: Pin<Box<dyn Future<Output = ()>>>,
    header: Arc<TaskHeader>,
    waker: Waker,
}

impl std::fmt::Debug for TaskBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("header", &self.header).finish_non_exhaustive()
    }
}

/// A task that was spawned. Dropping this leaves it running.
#[derive(Debug)]
pub struct Task {
    key: TaskKey,
    executor: u64,
}

impl Task {
    /// Ends it where it waits. Without effect on one that has ended, from within itself, and on another thread.
    pub fn abort(&self) {
        if let Some(local) = local().filter(|local| local.id == self.executor) {
            local.remove(self.key);
        }
    }
}

impl Wake for TaskHeader {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        if std::ptr::eq(ITS_REMOTE.get(), Arc::as_ptr(&self.remote)) {
            if !self.is_woken.load(Relaxed) {
                self.is_woken.store(true, Relaxed);
                WOKEN.with_borrow_mut(|woken| woken.push_back(self.key));
            }
        } else {
            self.wake_remotely();
        }
    }
}

impl TaskHeader {
    /// A wake-up from another thread.
    #[cold]
    fn wake_remotely(self: &Arc<Self>) {
        let is_first = {
            let mut woken = self.remote.lock();
            let Some(woken) = woken.as_mut() else { return };
            if self.is_queued_remotely.swap(true, Relaxed) {
                return;
            }
            woken.push(Arc::clone(self));
            woken.len() == 1
        };
        if is_first && let Err(error) = self.remote.waker.wake() {
            tracing::error!(%error, "could not wake a worker");
        }
    }
}

impl RemoteWakeups {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Arc<TaskHeader>>>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the tasks that other threads woke to the local queue.
    fn answer(&self) {
        let woken = {
            let mut woken = self.lock();
            let woken = woken.as_mut().map(std::mem::take).unwrap_or_default();
            woken.iter().for_each(|header| header.is_queued_remotely.store(false, Relaxed));
            woken
        };
        woken.iter().for_each(Wake::wake_by_ref);
    }
}

impl LocalExecutor {
    fn header(&self, key: TaskKey) -> Arc<TaskHeader> {
        let (is_woken, is_queued_remotely) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(TaskHeader { key, is_woken, is_queued_remotely, remote: Arc::clone(&self.remote) })
    }

    fn insert(&self, future: Pin<Box<dyn Future<Output = ()>>>) -> TaskKey {
        let mut tasks = self.tasks.borrow_mut();
        let place = tasks.vacant_entry();
        let made = self.made.get().wrapping_add(1);
        self.made.set(made);
        let slot = u32::try_from(place.key()).expect("a descriptor each, so fewer than descriptors");
        let key = TaskKey { slot, made };
        let header = self.header(key);
        let waker = Waker::from(Arc::clone(&header));
        place.insert(Some(TaskBody { future, header: Arc::clone(&header), waker }));
        drop(tasks);
        header.wake_by_ref();
        self.spawned.set(self.spawned.get() + 1);
        key
    }

    /// Ends a task. It is dropped behind the borrow, for it may end or spawn others.
    fn remove(&self, key: TaskKey) {
        let mut tasks = self.tasks.borrow_mut();
        let is_there = tasks.get(key.slot as usize).is_some_and(|task| is_of(task.as_ref(), key));
        let removed = is_there.then(|| tasks.remove(key.slot as usize));
        drop(tasks);
        drop(removed);
    }

    /// Takes a task from its place to be polled.
    fn take(&self, key: TaskKey) -> Option<TaskBody> {
        let mut tasks = self.tasks.borrow_mut();
        let task = tasks.get_mut(key.slot as usize).filter(|task| is_of(task.as_ref(), key))?;
        task.take()
    }

    fn poll(&self, key: TaskKey) {
        let Some(mut body) = self.take(key) else { return };
        body.header.is_woken.store(false, Relaxed);
        let polled = body.future.as_mut().poll(&mut Context::from_waker(&body.waker));
        let mut tasks = self.tasks.borrow_mut();
        match polled {
            Poll::Pending => tasks[key.slot as usize] = Some(body),
            Poll::Ready(()) => {
                tasks.remove(key.slot as usize);
                drop(tasks);
                drop(body);
            }
        }
    }
}

/// Whether a task that is not being polled is the one of this key.
#[inline]
fn is_of(task: Option<&TaskBody>, key: TaskKey) -> bool {
    task.is_some_and(|task| task.header.key == key)
}

fn local() -> Option<Rc<LocalExecutor>> {
    LOCAL.with_borrow(|local| local.as_ref().map(Rc::clone))
}

/// The driver of this thread, if `block_on` runs here.
pub(crate) fn driver() -> io::Result<Rc<Driver>> {
    LOCAL
        .with_borrow(|local| local.as_ref().map(|local| Rc::clone(&local.driver)))
        .ok_or_else(|| io::Error::other("a reactor socket is used on a thread without a reactor"))
}

/// Runs `future` on this thread beside everything else.
///
/// # Panics
/// Outside of [`block_on`](crate::block_on).
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Task {
    let local = local().expect("tasks are spawned where block_on runs");
    Task { key: local.insert(Box::pin(future)), executor: local.id }
}

/// Which round this thread is in: how often it has polled epoll. 0 where no [`block_on`](crate::block_on) runs.
#[must_use]
pub fn round() -> u64 {
    LOCAL.with_borrow(|local| local.as_ref().map_or(0, |local| local.rounds.get()))
}

static EXECUTORS: AtomicU64 = AtomicU64::new(1);

/// Runs `main` on this thread to its end, and what it spawns for as long; without timers.
///
/// # Errors
/// What the kernel says when it is asked for an epoll descriptor, or refuses to wait.
///
/// # Panics
/// Within another `block_on`.
pub(crate) fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    assert!(ITS_REMOTE.get().is_null(), "one executor a thread");
    let (driver, waker) = Driver::new()?;
    let local = Rc::new(LocalExecutor {
        id: EXECUTORS.fetch_add(1, Relaxed),
        driver: Rc::new(driver),
        tasks: RefCell::default(),
        made: Cell::new(0),
        rounds: Cell::new(0),
        spawned: Cell::new(0),
        remote: Arc::new(RemoteWakeups { woken: Mutex::new(Some(Vec::new())), waker }),
    });
    ITS_REMOTE.set(Arc::as_ptr(&local.remote));
    LOCAL.set(Some(Rc::clone(&local)));
    let _leave = Leave;
    run(&local, main)
}

fn run<F: Future>(local: &LocalExecutor, main: F) -> io::Result<F::Output> {
    let mut main = pin!(main);
    let header = local.header(MAIN);
    let waker = Waker::from(Arc::clone(&header));
    header.wake_by_ref();
    loop {
        // Those woken meanwhile are for the next round, behind whoever the kernel wakes.
        let mut left = WOKEN.with_borrow(VecDeque::len);
        local.spawned.set(0);
        let mut may_begin = BEGIN_IN_A_ROUND_MAX;
        while left > 0 {
            let Some(key) = WOKEN.with_borrow_mut(VecDeque::pop_front) else { break };
            left -= 1;
            if key != MAIN {
                local.poll(key);
            } else {
                header.is_woken.store(false, Relaxed);
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Ok(output);
                }
            }
            let begin = local.spawned.take().min(may_begin);
            may_begin -= begin;
            left += begin;
        }
        local.rounds.set(local.rounds.get() + 1);
        let is_idle = WOKEN.with_borrow(VecDeque::is_empty);
        if local.driver.wait(if is_idle { Wait::ForEvents } else { Wait::Not })? {
            local.remote.answer();
        }
    }
}

/// Takes the executor from its thread, with all tasks, when dropped.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(local) = local() {
            // While the thread still has its executor: what they drop may look for it.
            while !local.tasks.borrow().is_empty() {
                drop(local.tasks.take());
            }
            let _late = local.remote.lock().take();
        }
        LOCAL.set(None);
        ITS_REMOTE.set(std::ptr::null());
        WOKEN.set(VecDeque::new());
    }
}

#[cfg(test)]
pub(crate) mod tests;
