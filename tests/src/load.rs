//! Clients that read and write all the time, and check every answer.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Login, ServerError, Wire};

/// How long a client thinks between two requests.
const PAUSE: Duration = Duration::from_millis(20);
/// Rows of the table that is read, see [`ClientLoad::TABLES`].
const ROWS: u64 = 1000;
/// Every so manieth reader connects anew for each of its reads.
const FRESH_EVERY: usize = 4;

/// What a client was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadKind {
    /// A read, its connection included.
    Read,
    /// An insert.
    Write,
    /// A connection of a writer.
    Connect,
}

/// What went wrong for a client.
#[derive(Debug, Clone)]
pub struct LoadError {
    /// Which client; readers and writers are counted on their own.
    pub client: usize,
    /// What it was doing.
    pub kind: LoadKind,
    /// What it was told. A wrong answer has the SQLSTATE `WRONG`.
    pub error: ServerError,
}

/// What happened between two looks at a [`ClientLoad`].
#[derive(Debug, Clone, Default)]
pub struct LoadShare {
    /// Reads that were answered rightly.
    pub reads: u64,
    /// Inserts that were acknowledged.
    pub writes: u64,
    /// The longest that a read took, its connection included.
    pub longest_read: Duration,
    /// The longest that an insert took.
    pub longest_write: Duration,
    /// All that went wrong.
    pub errors: Vec<LoadError>,
}

impl LoadShare {
    /// Errors of one kind.
    pub fn errors_of(&self, kind: LoadKind) -> impl Iterator<Item = &LoadError> {
        self.errors.iter().filter(move |error| error.kind == kind)
    }
}

/// Readers and writers, until it is dropped or ended.
#[derive(Debug)]
pub struct ClientLoad {
    tally: Arc<LoadTally>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct LoadTally {
    reads_port: u16,
    writes_port: u16,
    is_over: AtomicBool,
    requests: AtomicU64,
    share: Mutex<LoadShare>,
    /// Writer and number of each insert that was acknowledged.
    acknowledged: Mutex<Vec<(usize, u64)>>,
}

impl ClientLoad {
    /// SQL of the tables that it needs.
    pub const TABLES: &str = "CREATE TABLE numbers AS SELECT i FROM generate_series(0, 999) AS i;
        CREATE TABLE written (writer int, number bigint, PRIMARY KEY (writer, number));";

    /// Starts so many `readers` at one port of 127.0.0.1, and at another the writers of these numbers, which are no other
    /// load's on the same tables.
    #[must_use]
    pub fn start((reads_port, readers): (u16, usize), (writes_port, writers): (u16, Range<usize>)) -> Self {
        let tally = Arc::new(LoadTally {
            reads_port,
            writes_port,
            is_over: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            share: Mutex::default(),
            acknowledged: Mutex::default(),
        });
        let reading = (0..readers).map(|number| {
            let tally = Arc::clone(&tally);
            std::thread::spawn(move || tally.read(number))
        });
        let mut clients: Vec<_> = reading.collect();
        clients.extend(writers.map(|number| {
            let tally = Arc::clone(&tally);
            std::thread::spawn(move || tally.write(number))
        }));
        Self { tally, clients }
    }

    /// What has happened since the last look.
    #[must_use]
    pub fn take(&self) -> LoadShare {
        std::mem::take(&mut *lock(&self.tally.share))
    }

    /// How many requests have ended, well or not.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.tally.requests.load(Ordering::Relaxed)
    }

    /// Lets every client end what it has begun. Gives the last share, and writer and number of every insert that was
    /// acknowledged, in their order.
    ///
    /// # Panics
    /// When a client has.
    #[must_use]
    pub fn end(mut self) -> (LoadShare, Vec<(usize, u64)>) {
        self.tally.is_over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("no client panics");
        }
        let mut acknowledged = std::mem::take(&mut *lock(&self.tally.acknowledged));
        acknowledged.sort_unstable();
        (self.take(), acknowledged)
    }
}

impl Drop for ClientLoad {
    fn drop(&mut self) {
        self.tally.is_over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // One that has panicked has said so; this is the way out of a test that failed for another reason.
            let _ended = client.join();
        }
    }
}

impl LoadTally {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn read(&self, client: usize) {
        let mut wire = None;
        let mut number = u64::try_from(client).expect("clients are few");
        while self.goes_on() {
            number = (number + 7) % ROWS;
            let began = Instant::now();
            let outcome = self.one_read(&mut wire, number);
            let took = began.elapsed();
            let mut share = lock(&self.share);
            share.longest_read = share.longest_read.max(took);
            match outcome {
                Ok(()) => share.reads += 1,
                Err(error) => {
                    share.errors.push(LoadError { client, kind: LoadKind::Read, error });
                    wire = None;
                }
            }
            drop(share);
            if client.is_multiple_of(FRESH_EVERY) {
                wire = None;
            }
            self.rest();
        }
    }

    fn one_read(&self, wire: &mut Option<Wire>, number: u64) -> Result<(), ServerError> {
        if wire.is_none() {
            *wire = Some(Login::default().try_connect(self.reads_port)?);
        }
        let wire = wire.as_mut().expect("it was connected just now");
        let answer = wire.query(&format!("SELECT i, i * 2 FROM numbers WHERE i = {number}"));
        if let Some(error) = answer.error {
            return Err(error);
        }
        let wanted = vec![vec![Some(number.to_string()), Some((number * 2).to_string())]];
        if answer.rows == wanted { Ok(()) } else { Err(wrong(&format!("{:?}, not {wanted:?}", answer.rows))) }
    }

    fn write(&self, client: usize) {
        let mut wire = None;
        for number in 0_u64.. {
            while wire.is_none() && self.goes_on() {
                match Login::default().try_connect(self.writes_port) {
                    Ok(connected) => wire = Some(connected),
                    Err(error) => {
                        lock(&self.share).errors.push(LoadError { client, kind: LoadKind::Connect, error });
                        self.rest();
                    }
                }
            }
            let Some(connected) = wire.as_mut().filter(|_| self.goes_on()) else { return };
            let began = Instant::now();
            let answer = connected.query(&format!("INSERT INTO written VALUES ({client}, {number})"));
            let took = began.elapsed();
            let ends_with_ready = answer.messages.last().is_some_and(|message| message.tag == b'Z');
            let mut share = lock(&self.share);
            share.longest_write = share.longest_write.max(took);
            match answer.error {
                None => {
                    share.writes += 1;
                    lock(&self.acknowledged).push((client, number));
                }
                Some(error) => share.errors.push(LoadError { client, kind: LoadKind::Write, error }),
            }
            drop(share);
            if !ends_with_ready {
                wire = None;
            }
            self.rest();
        }
    }

    fn rest(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
}

fn wrong(what: &str) -> ServerError {
    ServerError { severity: "ERROR".to_owned(), code: "WRONG".to_owned(), text: what.to_owned() }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
