//! The task that owns the cache and the source.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use trunkline_health::Health;
use trunkline_telemetry::log_rate::LogRate;

use super::cache::{Cache, CachedSecret};
use super::file::FileSecrets;
use super::query::QuerySource;
use super::secret::{Secret, Stored};
use super::userlist::UsersFileError;
use super::waiting::{Acquaintance, BATCH_MAX, Waiting};
use super::{LOOKUPS_WAITING_MAX, LookupError, REFRESHES_PER_SECOND_MAX, SecretSettings, SecretSource};

/// After a failure, requests are answered with it for so long before the servers are tried again.
const FAILURE_HOLD: Duration = Duration::from_millis(500);

/// What the store is asked.
#[derive(Debug)]
pub(super) enum StoreRequest {
    Lookup {
        user: Box<str>,
        freshness: Freshness,
        asked_at: Instant,
        reply: Reply,
    },
    /// The configuration was reloaded.
    Reload {
        cache_ttl: Duration,
    },
    /// A server has refused what is cached of this user.
    Distrust {
        user: Box<str>,
    },
}

type LookupResult = Result<Secret, LookupError>;
type Reply = oneshot::Sender<LookupResult>;

/// How old the secret may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Read after the request, unless the servers are troubled enough.
    Current,
    /// Within the time to live.
    Lately,
}

/// Where secrets come from.
#[derive(Debug)]
pub(super) enum SourceReader {
    Query(Box<QuerySource>),
    File(Arc<FileSecrets>),
}

impl SourceReader {
    pub(super) fn open(settings: &SecretSettings, health: Health) -> Result<SourceReader, UsersFileError> {
        match &settings.source {
            SecretSource::Query(custom) => {
                Ok(SourceReader::Query(Box::new(QuerySource::new(health, custom.clone()))))
            }
            SecretSource::File(path) => Ok(SourceReader::File(Arc::new(FileSecrets::read(path)?))),
        }
    }

    /// What whoever asks may look in itself.
    pub(super) fn file(&self) -> Option<&Arc<FileSecrets>> {
        match self {
            SourceReader::Query(_) => None,
            SourceReader::File(file) => Some(file),
        }
    }

    async fn fetch(&mut self, users: &[Box<str>]) -> Result<Vec<Result<Stored, LookupError>>, LookupError> {
        match self {
            SourceReader::Query(query) => query.fetch(users).await,
            SourceReader::File(file) => Ok(users.iter().map(|user| Ok(file.stored(user))).collect()),
        }
    }
}

/// Serves requests until the last handle is gone.
pub(super) async fn run(mut source: SourceReader, ttl: Duration, mut received: mpsc::Receiver<StoreRequest>) {
    if let SourceReader::File(file) = &source {
        tokio::spawn(Arc::clone(file).make_ahead());
    }
    let mut store = Store::new(ttl);
    let mut waiting = Waiting::default();
    loop {
        if waiting.is_empty() {
            let Some(request) = received.recv().await else { return };
            store.keep_waiting(&mut waiting, request);
        }
        for _ in 0..LOOKUPS_WAITING_MAX {
            let Ok(request) = received.try_recv() else { break };
            store.keep_waiting(&mut waiting, request);
        }
        let missing = store.serve(waiting.take_batch());
        if missing.is_empty() {
            continue;
        }
        let (users, replies): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
        let began = Instant::now();
        store.fetches.note(users.len(), began);
        let fetched = {
            let mut fetch = pin!(source.fetch(&users));
            loop {
                // A server that hangs delays only logins whose secrets are not cached. Every request is taken at once,
                // so that a flood of unknown names is refused here and not in front of the known ones.
                tokio::select! {
                    fetched = &mut fetch => break fetched,
                    Some(request) = received.recv() => {
                        let trouble = if waiting.len() < BATCH_MAX { Trouble::No } else { Trouble::Enough };
                        if let Some(request) = store.answer(request, trouble) {
                            store.keep_waiting(&mut waiting, request);
                        }
                    }
                }
            }
        };
        store.settle(users, replies, fetched, began).await;
    }
}

/// Who waits for which user.
type Missing = HashMap<Box<str>, Vec<Reply>>;

/// Whether the servers have enough to do for the store already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    No,
    Enough,
}

/// Secrets fetched within the second at hand.
#[derive(Debug, Default)]
struct Fetches {
    second: Option<Instant>,
    number: usize,
}

impl Fetches {
    fn note(&mut self, fetched: usize, now: Instant) {
        if !self.is_of(now) {
            *self = Fetches { second: Some(now), number: 0 };
        }
        self.number += fetched;
    }

    fn trouble(&self, now: Instant) -> Trouble {
        if self.is_of(now) && self.number >= REFRESHES_PER_SECOND_MAX { Trouble::Enough } else { Trouble::No }
    }

    /// Whether `now` is in the second that is counted.
    fn is_of(&self, now: Instant) -> bool {
        self.second.is_some_and(|began| now.saturating_duration_since(began) < Duration::from_secs(1))
    }
}

struct Store {
    cache: Cache,
    failure: Option<(Instant, LookupError)>,
    fetches: Fetches,
    /// How often failures, of all and of one user, are logged.
    failures: [LogRate; 2],
}

impl Store {
    fn new(ttl: Duration) -> Self {
        let failures = Default::default();
        Store { cache: Cache::new(ttl), failure: None, fetches: Fetches::default(), failures }
    }

    /// Answers what can be answered; the rest is to be fetched.
    fn serve(&mut self, batch: impl IntoIterator<Item = StoreRequest>) -> Missing {
        let mut missing = Missing::new();
        for request in batch {
            let request = self.answer(request, self.fetches.trouble(Instant::now()));
            if let Some(StoreRequest::Lookup { user, reply, .. }) = request {
                missing.entry(user).or_default().push(reply);
            }
        }
        missing
    }

    /// Believes nothing that is cached, a failure included, until it has been read anew.
    fn reloaded(&mut self, cache_ttl: Duration) {
        self.cache.believe_for(cache_ttl);
        self.cache.distrust_all();
        self.failure = None;
    }

    /// Puts a request in its queue, or does at once what needs no queue.
    fn keep_waiting(&mut self, waiting: &mut Waiting, request: StoreRequest) {
        let acquaintance = match &request {
            StoreRequest::Distrust { user } => return self.cache.distrust(user),
            StoreRequest::Reload { cache_ttl } => return self.reloaded(*cache_ttl),
            StoreRequest::Lookup { user, .. } if !self.cache.knows(user) => Acquaintance::Stranger,
            StoreRequest::Lookup { .. } => Acquaintance::Known,
        };
        waiting.push(request, acquaintance);
    }

    /// Does what a request wants, or gives it back when that needs the source.
    fn answer(&mut self, request: StoreRequest, trouble: Trouble) -> Option<StoreRequest> {
        match request {
            // The login that asked has ended.
            StoreRequest::Lookup { reply, .. } if reply.is_closed() => None,
            StoreRequest::Lookup { user, freshness, asked_at, reply } => {
                let oldest = match (freshness, trouble) {
                    (Freshness::Current, Trouble::No) => Freshness::Current,
                    (Freshness::Current, Trouble::Enough) | (Freshness::Lately, _) => Freshness::Lately,
                };
                let Some(answer) = self.at_hand(&user, oldest, asked_at, Instant::now()) else {
                    return Some(StoreRequest::Lookup { user, freshness, asked_at, reply });
                };
                drop(reply.send(answer));
                None
            }
            StoreRequest::Distrust { user } => {
                self.cache.distrust(&user);
                None
            }
            StoreRequest::Reload { cache_ttl } => {
                self.reloaded(cache_ttl);
                None
            }
        }
    }

    /// The answer that needs no fetching.
    fn at_hand(
        &self,
        user: &str,
        freshness: Freshness,
        asked_at: Instant,
        now: Instant,
    ) -> Option<LookupResult> {
        if let Some(entry) = self.cache.newest(user) {
            let will_do = match freshness {
                Freshness::Current => false,
                Freshness::Lately => self.cache.get(user, now).is_some(),
            };
            // Read since it was asked for: as fresh as it can be, also when nothing is to be kept.
            if will_do || (entry.read_at >= asked_at && !entry.is_distrusted) {
                return Some(Ok(entry.secret.clone()));
            }
        }
        let (failed_at, error) = self.failure.as_ref()?;
        let is_held = now.saturating_duration_since(*failed_at) < FAILURE_HOLD || *failed_at >= asked_at;
        is_held.then(|| Err(error.clone()))
    }

    /// Answers the waiting logins, and caches the answers.
    async fn settle(
        &mut self,
        users: Vec<Box<str>>,
        replies: Vec<Vec<Reply>>,
        fetched: Result<Vec<Result<Stored, LookupError>>, LookupError>,
        began: Instant,
    ) {
        let stored = match fetched {
            Ok(stored) => stored,
            Err(error) => {
                if let Some(more) = self.failures[0].note() {
                    tracing::warn!(%error, users = users.len(), more, "could not read stored secrets");
                }
                replies.into_iter().flatten().for_each(|reply| drop(reply.send(Err(error.clone()))));
                self.failure = Some((Instant::now(), error));
                return;
            }
        };
        self.failure = None;
        let known = &self.cache;
        let answers = join_all(users.iter().zip(stored).map(async |(user, stored)| {
            Ok(stored?.derive(known.newest(user).map(|entry: &CachedSecret| &entry.secret)).await)
        }));
        let answers: Vec<LookupResult> = answers.await;
        for ((user, replies), answer) in users.into_iter().zip(replies).zip(answers) {
            for reply in replies {
                drop(reply.send(answer.clone()));
            }
            match answer {
                Ok(secret) => self.cache.insert(user, secret, began),
                Err(error) => {
                    if let Some(more) = self.failures[1].note() {
                        tracing::warn!(db.user = %user, %error, more, "could not read a user's stored secret");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
