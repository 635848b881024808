//! Cancel keys, and the delivery of CancelRequests.
//!
//! A client's key is the process ID of its session's first server connection, and a secret made by the proxy. It
//! identifies the session, not that process: a request goes to the server that runs the session's query now.

mod random;

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use bytes::BytesMut;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::startup::{CancelRequest, ProtocolVersion};
use trunkline_reactor::{spawn, timer};
use trunkline_topology::Address;

use self::random::{made_up_process, new_secret};
use crate::limits::{CANCEL_PAUSE, CANCEL_TIMEOUT, CANCELS_MAX};
use crate::net::{Connector, ServerPlace, TlsPlace};
use trunkline_telemetry::metrics::CancelResult;

/// Which session a cancel key belongs to; one for the process.
#[derive(Debug, Default)]
pub(crate) struct CancelRegistry {
    /// By process ID and secret: processes of two hosts may share an ID, and so may a session that has left its
    /// first server and a newer one. Each request costs one lookup, however many sessions share the ID.
    sessions: DashMap<KeyedTarget, ()>,
    under_way: AtomicUsize,
}

/// The key that a client gets at its login, and sends to have its query canceled.
///
/// The hash has a random key and secrets are compared in constant time: the time of a failed lookup reveals
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CancelKey {
    process_id: ProcessId,
    secret: SecretKey,
}

/// One session as a target of cancel requests.
#[derive(Debug, Default)]
struct CancelTarget {
    /// `None` for a client that got no key.
    key: Option<CancelKey>,
    state: Mutex<CancelState>,
}

/// A session, found by its key. Within the session it is written once: in the table beside it each client had it twice, and
/// a table is up to half empty.
#[derive(Clone, Debug)]
struct KeyedTarget(Arc<CancelTarget>);

impl Borrow<Option<CancelKey>> for KeyedTarget {
    fn borrow(&self) -> &Option<CancelKey> {
        &self.0.key
    }
}

impl PartialEq for KeyedTarget {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for KeyedTarget {}

impl Hash for KeyedTarget {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

#[derive(Debug, Default)]
struct CancelState {
    server: Option<Arc<ServerCancelKey>>,
    /// A second request while one is being delivered adds nothing.
    is_delivering: bool,
    /// A request to this server was given up, and may still reach it.
    is_in_doubt: bool,
    wait: QueryWait,
    /// Wakes the session of a query that waits. Within the state it would take eight bytes more of each client.
    session: Option<Waker>,
}

/// What a cancel request finds of a session that has no server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum QueryWait {
    /// No query is under way.
    #[default]
    None,
    /// A query waits for a server.
    Waiting,
    /// It is to wait no longer.
    Canceled,
}

/// When a session may give its server connection to others, as far as cancel requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    Now,
    /// A request is being delivered.
    Later,
    /// A request was given up half-way.
    Never,
}

/// Which process ID a client is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShownProcess {
    /// That of its first server process, which it may look up in `pg_stat_activity`.
    Servers,
    /// One that no process has: where sessions share server connections, none belongs to one client.
    MadeUp,
}

/// The key of a server process, for a CancelRequest.
#[derive(Clone, Debug)]
pub(crate) struct ServerCancelKey {
    pub(crate) address: Address,
    pub(crate) tls: Option<Arc<TlsPlace>>,
    pub(crate) process_id: ProcessId,
    pub(crate) key: SecretKey,
}

/// A session's entry in the registry, gone when dropped.
#[derive(Debug)]
pub(crate) struct CancelHandle {
    registry: Arc<CancelRegistry>,
    target: KeyedTarget,
}

impl CancelRegistry {
    /// Registers a session whose first server process is `server.process_id`, and makes its secret, for a client of
    /// protocol `version`, which is shown this process ID or another.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub(crate) fn register(
        self: &Arc<Self>,
        version: ProtocolVersion,
        server: Arc<ServerCancelKey>,
        shown: ShownProcess,
    ) -> Result<CancelHandle, getrandom::Error> {
        loop {
            let process_id = match shown {
                ShownProcess::Servers => server.process_id,
                ShownProcess::MadeUp => made_up_process()?,
            };
            let key = Some(CancelKey { process_id, secret: new_secret(version)? });
            let state = CancelState { server: Some(Arc::clone(&server)), ..Default::default() };
            let target = KeyedTarget(Arc::new(CancelTarget { key, state: Mutex::new(state) }));
            if let Entry::Vacant(vacant) = self.sessions.entry(target.clone()) {
                vacant.insert(());
                return Ok(CancelHandle { registry: Arc::clone(self), target });
            }
        }
    }

    /// For a session on a server that sends no key: its queries cannot be canceled.
    pub(crate) fn without_key(self: &Arc<Self>) -> CancelHandle {
        CancelHandle { registry: Arc::clone(self), target: KeyedTarget(Arc::default()) }
    }

    /// Delivers a client's CancelRequest and waits until the server has received it.
    pub(crate) async fn deliver(&self, connector: &Connector, request: &CancelRequest) -> CancelResult {
        let key = Some(CancelKey { process_id: request.process_id, secret: request.secret_key.clone() });
        let Some(KeyedTarget(target)) = self.sessions.get(&key).map(|known| known.key().clone()) else {
            return CancelResult::Unknown;
        };
        let Some(_place) = DeliveryPermit::take(&self.under_way) else { return CancelResult::Coalesced };
        match target.begin() {
            DeliveryStart::Deliver(server) => {
                let mut delivering = DeliveryGuard { target: &target, is_certain: false };
                let outcome = send(connector, &server).await;
                delivering.is_certain = outcome == CancelResult::Delivered;
                outcome
            }
            DeliveryStart::NoServer => CancelResult::Unknown,
            DeliveryStart::EndedWait => CancelResult::Delivered,
            DeliveryStart::UnderWay => CancelResult::Coalesced,
        }
    }
}

impl CancelRegistry {
    /// Cancels what a server process works on, which no session has any more: waits for a place among the deliveries.
    pub(crate) async fn cancel(&self, connector: &Connector, server: &ServerCancelKey) -> CancelResult {
        let deliver = async {
            let _place = loop {
                match DeliveryPermit::take(&self.under_way) {
                    Some(place) => break place,
                    None => timer::sleep(CANCEL_PAUSE).await,
                }
            };
            send(connector, server).await
        };
        timer::timeout(CANCEL_TIMEOUT, deliver).await.unwrap_or(CancelResult::Failed)
    }
}

/// One of [`CANCELS_MAX`] deliveries, given back when dropped: the time limit of a login may end one early.
struct DeliveryPermit<'a>(&'a AtomicUsize);

impl<'a> DeliveryPermit<'a> {
    fn take(under_way: &'a AtomicUsize) -> Option<Self> {
        let taken = under_way.fetch_update(Relaxed, Relaxed, |n| (n < CANCELS_MAX).then_some(n + 1));
        taken.is_ok().then(|| DeliveryPermit(under_way))
    }
}

impl Drop for DeliveryPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Marks a session as having a cancel request in delivery until dropped.
struct DeliveryGuard<'a> {
    target: &'a CancelTarget,
    /// Whether the server has received it.
    is_certain: bool,
}

impl Drop for DeliveryGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.target.lock();
        state.is_delivering = false;
        state.is_in_doubt |= !self.is_certain;
    }
}

enum DeliveryStart {
    Deliver(Arc<ServerCancelKey>),
    NoServer,
    /// The query has waited for a server, and was not sent to any yet.
    EndedWait,
    UnderWay,
}

impl CancelState {
    /// No query waits any more.
    #[inline]
    fn wait_ended(&mut self) {
        self.wait = QueryWait::None;
        self.session = None;
    }
}

impl CancelTarget {
    fn begin(&self) -> DeliveryStart {
        let mut state = self.lock();
        if state.is_delivering {
            return DeliveryStart::UnderWay;
        }
        if state.wait == QueryWait::Waiting {
            state.wait = QueryWait::Canceled;
            if let Some(session) = state.session.take() {
                session.wake();
            }
            return DeliveryStart::EndedWait;
        }
        let Some(server) = state.server.clone() else { return DeliveryStart::NoServer };
        state.is_delivering = true;
        DeliveryStart::Deliver(server)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CancelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CancelHandle {
    /// The process ID and the secret that the client gets.
    pub(crate) fn key(&self) -> Option<(ProcessId, &SecretKey)> {
        self.target.0.key.as_ref().map(|key| (key.process_id, &key.secret))
    }

    /// Cancel requests go to this server from now on; `None` while the session has no server.
    pub(crate) fn set_server(&self, server: Option<Arc<ServerCancelKey>>) {
        let mut state = self.target.0.lock();
        state.server = server;
        state.is_in_doubt = false;
        state.wait_ended();
    }

    /// A query waits for a server: a cancel request wakes the session, and ends the wait. Whether one has come.
    pub(crate) fn waits(&self, session: &Waker) -> bool {
        let mut state = self.target.0.lock();
        if state.wait == QueryWait::Canceled {
            return true;
        }
        state.wait = QueryWait::Waiting;
        if !state.session.as_ref().is_some_and(|known| known.will_wake(session)) {
            state.session = Some(session.clone());
        }
        false
    }

    /// No query waits any more.
    pub(crate) fn wait_ended(&self) {
        self.target.0.lock().wait_ended();
    }

    /// Takes the server away from cancel requests, and says what becomes of its connection: a request that is on its way
    /// might cancel what another session runs there next.
    pub(crate) fn part(&self) -> Parting {
        let mut state = self.target.0.lock();
        if state.is_delivering {
            return Parting::Later;
        }
        state.server = None;
        if std::mem::take(&mut state.is_in_doubt) { Parting::Never } else { Parting::Now }
    }

    /// Cancels what the session's server is working on, without waiting: the session is about to leave, and the
    /// server would notice that only when it is done.
    pub(crate) fn cancel_work(&self, connector: &Connector) {
        let Some(server) = self.target.0.lock().server.clone() else { return };
        let (registry, connector) = (Arc::clone(&self.registry), connector.clone());
        spawn(async move {
            let outcome = registry.cancel(&connector, &server).await;
            tracing::debug!(server.addr = %server.address, ?outcome, "cancel request for a session given up");
        });
    }

    /// Whether a request is being delivered to the session's server: no other session may get that server
    /// connection now.
    #[cfg(test)]
    fn is_delivering(&self) -> bool {
        self.target.0.lock().is_delivering
    }
}

impl Drop for CancelHandle {
    fn drop(&mut self) {
        if self.target.0.key.is_some() {
            self.registry.sessions.remove(&self.target);
        }
    }
}

async fn send(connector: &Connector, server: &ServerCancelKey) -> CancelResult {
    let delivery = async {
        let mut stream =
            connector.open(ServerPlace { address: &server.address, tls: server.tls.as_deref() }).await?;
        let request = CancelRequest { process_id: server.process_id, secret_key: server.key.clone() };
        let mut packet = BytesMut::new();
        request.encode(&mut packet);
        stream.write_all(&packet).await?;
        // The server sends nothing, and closes the connection when it has sent the signal.
        let mut nothing = [0_u8; 1];
        stream.read(&mut nothing).await.map(|_| ())
    };
    match timer::timeout(CANCEL_TIMEOUT, delivery).await {
        Ok(Ok(())) => CancelResult::Delivered,
        Ok(Err(error)) => {
            tracing::debug!(server.addr = %server.address, %error, "cancel request was not delivered");
            CancelResult::Failed
        }
        Err(_elapsed) => CancelResult::Failed,
    }
}

#[cfg(test)]
mod tests;
