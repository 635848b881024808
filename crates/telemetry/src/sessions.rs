//! The sessions as an operator sees them: counted and listed on demand.
//!
//! Nothing is kept for this while queries run. Each worker asks its sessions, they answer when they are next polled,
//! and that is at once: whoever is asked is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use trunkline_codec::ids::ProcessId;
use trunkline_session::PinReason;
use trunkline_tls::Negotiated;
use trunkline_topology::ClientAddress;

use crate::limits::SESSIONS_ANSWER_TIMEOUT;
use crate::metrics::{ActivityLabel, Label, PinnedBy};

/// A session's number: from 1 on, in the order of their logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The next one of the process.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        SessionId(NEXT.fetch_add(1, Relaxed))
    }
}

/// The names that a session goes by. Many have the same.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SessionNames {
    /// The role it logged in as.
    pub user: Box<str>,
    /// Its database.
    pub database: Box<str>,
    /// The name of the listener that it came by.
    pub listener: Box<str>,
}

impl SessionNames {
    /// User and database, as the session has logged in.
    #[must_use]
    pub fn of_login(&self) -> [&str; 2] {
        [&self.user, &self.database]
    }
}

/// Who a session is, for logs.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Its number in logs and listings; no two sessions of a process have the same.
    pub id: SessionId,
    /// The process id that the client got at login: that of its first server. Sessions of two servers may share one.
    pub process_id: Option<ProcessId>,
    /// Its user, database and listener.
    pub names: Arc<SessionNames>,
    /// The client's address.
    pub client: ClientAddress,
    /// TLS of the client's connection.
    pub tls: Option<Negotiated>,
    /// When it was logged in.
    pub since: Instant,
}

/// Which sessions are to be listed; all are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFilter {
    /// None.
    None,
    /// Up to so many of them.
    All(usize),
    /// Up to so many of those that cannot leave their server.
    Pinned(usize),
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It owes its client nothing.
    Idle,
    /// A request is being answered.
    Active,
    /// It is in a transaction, and its client's turn.
    InTransaction,
    /// It is being given a server.
    TakingServer,
    /// It is on no server until its client speaks.
    WithoutServer,
    /// The same, because its pool has the server connection between its transactions.
    Pooled,
}

/// So much is used of something that may be limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How much of it.
    pub used: usize,
    /// At most; `None` where there is no limit.
    pub max: Option<usize>,
}

/// How much of the limits on clients is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Sessions past their startup packet.
    pub sessions: Usage,
    /// Connections before it.
    pub startups: Usage,
    /// Sessions of the user who has most.
    pub one_user: Usage,
    /// Sessions from the address that has most.
    pub one_address: Usage,
}

impl From<Activity> for ActivityLabel {
    fn from(activity: Activity) -> Self {
        match activity {
            Activity::Active => ActivityLabel::Active,
            // Its client has said nothing that needs a server.
            Activity::Idle | Activity::WithoutServer | Activity::Pooled => ActivityLabel::Idle,
            Activity::InTransaction => ActivityLabel::InTransaction,
            Activity::TakingServer => ActivityLabel::Waiting,
        }
    }
}

impl Activity {
    fn word(self) -> &'static str {
        match self {
            Activity::Idle => "idle",
            Activity::Active => "active",
            Activity::InTransaction => "in transaction",
            Activity::TakingServer => "taking a server",
            Activity::WithoutServer => "without server",
            Activity::Pooled => "idle (pooled)",
        }
    }
}

/// One session.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Who it is.
    pub info: SessionInfo,
    /// The server it is on.
    pub server: Option<Arc<str>>,
    /// TLS of the connection to that server.
    pub server_tls: Option<Negotiated>,
    /// What it is doing.
    pub activity: Activity,
    /// Why it cannot leave that server; `None` when it can.
    pub pinned: Option<PinReason>,
}

/// What was counted and listed.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    movable: u64,
    pinned: [u64; PinnedBy::COUNT],
    doing: [u64; ActivityLabel::COUNT],
    occupancy: Option<Occupancy>,
    rows: Vec<SessionRow>,
    /// Workers that did not answer in time.
    unheard: usize,
}

impl Sessions {
    /// Sessions that could go to another server, those with a request in flight included.
    #[must_use]
    pub fn movable(&self) -> u64 {
        self.movable
    }

    /// Sessions that cannot leave their server for this reason.
    #[must_use]
    pub fn pinned(&self, by: PinnedBy) -> u64 {
        self.pinned[by.index()]
    }

    /// Sessions that do this.
    #[must_use]
    pub fn doing(&self, what: ActivityLabel) -> u64 {
        self.doing[what.index()]
    }

    /// How much of the limits is used, where that was asked, too.
    #[must_use]
    pub fn occupancy(&self) -> Option<&Occupancy> {
        self.occupancy.as_ref()
    }

    /// The same with how much of the limits is used.
    #[must_use]
    pub fn with_occupancy(mut self, occupancy: Occupancy) -> Self {
        self.occupancy = Some(occupancy);
        self
    }

    /// Workers that did not answer in time.
    #[must_use]
    pub fn unheard(&self) -> usize {
        self.unheard
    }

    /// Counts a session, and lists it if it is one of those asked for.
    pub fn count(&mut self, row: SessionRow, listed: SessionFilter) {
        self.doing[ActivityLabel::from(row.activity).index()] += 1;
        match row.pinned {
            None => self.movable += 1,
            Some(reason) => self.pinned[PinnedBy::from(reason).index()] += 1,
        }
        let most = match listed {
            SessionFilter::None => 0,
            SessionFilter::All(most) => most,
            SessionFilter::Pinned(most) => {
                if row.pinned.is_some() {
                    most
                } else {
                    0
                }
            }
        };
        if most == 0 {
            return;
        }
        self.rows.push(row);
        // Those longest here are listed, and more than twice as many are never held.
        if self.rows.len() >= 2 * most {
            self.rows.sort_by_key(|row| row.info.since);
            self.rows.truncate(most);
        }
    }

    fn add(&mut self, other: Sessions) {
        self.movable += other.movable;
        self.pinned.iter_mut().zip(other.pinned).for_each(|(sum, n)| *sum += n);
        self.doing.iter_mut().zip(other.doing).for_each(|(sum, n)| *sum += n);
        self.rows.extend(other.rows);
    }

    /// The counts alone, without names.
    pub fn counts(&self) -> Map<String, Value> {
        let all = self.movable + self.pinned.iter().sum::<u64>();
        let pinned = PinnedBy::ALL.iter().filter(|by| self.pinned(**by) > 0);
        let pinned: Map<String, Value> =
            pinned.map(|by| (by.word().to_owned(), self.pinned(*by).into())).collect();
        let counts = json!({
            "all": all, "movable": self.movable, "pinned": pinned, "workers_unheard": self.unheard,
        });
        match counts {
            Value::Object(counts) => counts,
            _ => Map::new(),
        }
    }

    /// Counts, and the rows, those longest here first.
    pub fn listing(&self, now: Instant, most: usize) -> Value {
        let mut rows: Vec<&SessionRow> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.info.since);
        rows.truncate(most);
        let mut listing = self.counts();
        listing.insert("sessions".to_owned(), rows.into_iter().map(|row| told(row, now)).collect());
        Value::Object(listing)
    }
}

fn told(row: &SessionRow, now: Instant) -> Value {
    let SessionRow { info, server, server_tls, activity, pinned } = row;
    let tls = |of: &Option<Negotiated>| of.map(|tls| tls.to_string());
    json!({
        "id": info.id.0,
        "pid": info.process_id.map(|id| id.0),
        "client": info.client.to_string(),
        "user": &*info.names.user,
        "database": &*info.names.database,
        "listener": &*info.names.listener,
        "server": server.as_deref(),
        "tls": { "client": tls(&info.tls), "server": tls(server_tls) },
        "state": activity.word(),
        "pinned": pinned.map(|reason| reason.to_string()),
        "age_seconds": now.saturating_duration_since(info.since).as_secs(),
    })
}

/// A worker is asked for its sessions.
#[derive(Debug)]
pub struct SessionsQuery {
    /// Which of them are to be listed.
    pub listed: SessionFilter,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Sessions>,
}

/// Asks every worker by its queue of questions, and adds what they answer in time.
pub async fn ask(
    workers: impl IntoIterator<Item = &mpsc::Sender<SessionsQuery>>,
    listed: SessionFilter,
) -> Sessions {
    let answers: Vec<_> = workers.into_iter().map(|questions| put(questions, listed)).collect();
    let deadline = Instant::now() + SESSIONS_ANSWER_TIMEOUT;
    let mut all = Sessions::default();
    for answer in answers {
        let heard = match answer {
            Some(answer) => tokio::time::timeout_at(deadline.into(), answer).await.ok().and_then(Result::ok),
            None => None,
        };
        match heard {
            Some(sessions) => all.add(sessions),
            None => all.unheard += 1,
        }
    }
    all
}

/// `None` when the worker has too many questions to answer already, or has ended.
fn put(
    questions: &mpsc::Sender<SessionsQuery>,
    listed: SessionFilter,
) -> Option<oneshot::Receiver<Sessions>> {
    let (answer, answered) = oneshot::channel();
    questions.try_send(SessionsQuery { listed, answer }).ok().map(|()| answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SESSIONS_QUESTIONS_MAX;

    fn row(id: u64, pinned: Option<PinReason>) -> SessionRow {
        let info = SessionInfo {
            id: SessionId(id),
            process_id: Some(ProcessId(42)),
            names: Arc::new(SessionNames {
                user: "u".into(),
                database: "d".into(),
                listener: "reads".into(),
            }),
            client: std::net::SocketAddr::from(([192, 0, 2, 1], 7)).into(),
            tls: None,
            since: Instant::now(),
        };
        SessionRow { info, server: None, server_tls: None, activity: Activity::Idle, pinned }
    }

    fn counted(listed: SessionFilter) -> Sessions {
        let mut sessions = Sessions::default();
        for (id, pinned) in
            [None, Some(PinReason::Listen), None, Some(PinReason::Copy)].into_iter().enumerate()
        {
            sessions.count(row(id as u64, pinned), listed);
        }
        sessions
    }

    fn ids(listing: &Value) -> Vec<i64> {
        let rows = listing["sessions"].as_array().expect("a list");
        rows.iter().filter_map(|row| row["id"].as_i64()).collect()
    }

    #[test]
    fn all_are_counted_and_no_more_than_asked_for_are_listed() {
        let now = Instant::now();
        for (listed, most, expected) in [
            (SessionFilter::None, 9, &[][..]),
            (SessionFilter::All(3), 3, &[0, 1, 2]),
            (SessionFilter::All(9), 2, &[0, 1]),
            (SessionFilter::Pinned(9), 9, &[1, 3]),
            (SessionFilter::Pinned(1), 1, &[1]),
        ] {
            let sessions = counted(listed);
            assert_eq!((sessions.movable(), sessions.pinned(PinnedBy::Listen)), (2, 1), "{listed:?}");
            assert_eq!(ids(&sessions.listing(now, most)), expected, "{listed:?}");
        }
    }

    #[tokio::test]
    async fn a_worker_that_cannot_answer_is_left_out_and_said_to_be() {
        let (busy, _inbox) = mpsc::channel(SESSIONS_QUESTIONS_MAX);
        let waiting: Vec<_> =
            (0..SESSIONS_QUESTIONS_MAX).filter_map(|_| put(&busy, SessionFilter::None)).collect();
        assert_eq!(waiting.len(), SESSIONS_QUESTIONS_MAX, "so many wait");
        let (gone, inbox) = mpsc::channel(1);
        drop(inbox);
        let sessions = ask([&busy, &gone], SessionFilter::None).await;
        assert_eq!(sessions.counts()["workers_unheard"], 2);
    }
}
