//! A worker with in-memory connections, for tests of logins and relays.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, watch};
use trunkline_auth::failures::FailureGuard;
use trunkline_auth::mock::MockSecret;
use trunkline_codec::ids::Lsn;
use trunkline_codec::limits::STARTUP_PACKET_MAX;
use trunkline_health::ByHand;
use trunkline_routing::{Attached, Balancer, TargetSessionAttrs};
use trunkline_topology::testing::{snapshot, status};
use trunkline_topology::{Address, ClientAddress, Role, ServerId, Snapshot, State};

use trunkline_model::{Server, wire};
use trunkline_net::Transport;
use trunkline_net::memory::{self, MemoryStream};
use trunkline_reactor::spawn;

use crate::context::{
    AuthChoice, BoundListener, FillLogins, Live, LiveStores, RunPhase, Shared, Worker, WorkerHandle,
};
use crate::defaults::Defaults;
use crate::encryption::EncryptionLog;
use crate::functions::FunctionStore;
use crate::learned::LearnedRequests;
use crate::moves::MoveRate;
use crate::net::Connector;
use crate::net::memory::Network;
use crate::pool::SharedPools;
use crate::pool::mail::PoolMail;
use crate::settings::{
    AuthMode, LimitSettings, ListenerOptions, ListenerSettings, OnTerminate, RetrySettings, SessionPolicy,
    Settings, TimeoutSettings, UserFunctions,
};
use crate::speeds::Speeds;
use crate::worker;
use trunkline_auth::secrets::{SecretSettings, SecretStore};
use trunkline_telemetry::metrics::Metrics;
use trunkline_telemetry::statement_log::StatementLog;

/// A worker, and what a test controls around it.
pub(crate) struct TestWorker {
    pub(crate) worker: Rc<Worker>,
    pub(crate) verdicts: ByHand,
    pub(crate) network: Rc<Network>,
    /// What the worker is told of its pools, for who reads it.
    pub(crate) pool_mail: RefCell<Option<mpsc::UnboundedReceiver<PoolMail>>>,
    _phase: watch::Sender<RunPhase>,
}

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// Where the client of a test comes from.
pub(crate) const CLIENT: ClientAddress =
    ClientAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40_000));

/// The address of a server of a test.
pub(crate) fn address(id: ServerId) -> Address {
    let host = Ipv4Addr::new(10, 0, 0, u8::try_from(id.0).expect("few servers"));
    SocketAddr::from((host, 5432)).into()
}

/// The server at an address.
pub(crate) fn server_at(of: &Address) -> ServerId {
    (0..u32::from(u8::MAX)).map(ServerId).find(|id| address(*id) == *of).expect("a server of the test")
}

/// What every standby has replayed, as health knows it.
const REPLAYED: Lsn = Lsn(0x5000);

/// This many standbys in good state, which have shown all that they will. Their primary does not answer.
pub(crate) fn standbys(count: u32) -> Snapshot {
    let now = Instant::now();
    let servers = (0..count).map(|number| {
        let mut status = status(ServerId(number), &format!("replica{}", number + 1), Role::Standby, now);
        status.address = Some(address(ServerId(number)));
        (status.asked_at, status.replay_lsn) = (Some(now + LONG), Some(REPLAYED));
        status
    });
    Snapshot { servers: servers.collect(), primary: None, primary_lost_at: Some(now), ..snapshot() }
}

/// Settings with one listener for reads, in mode `relay`.
pub(crate) fn settings() -> Settings {
    let options =
        ListenerOptions { target_session_attrs: TargetSessionAttrs::PreferStandby, ..Default::default() };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Settings {
        listeners: vec![ListenerSettings { name: "reads".to_owned(), address: address.into(), options }],
        session: SessionPolicy {
            on_terminate: OnTerminate::Move,
            functions: UserFunctions::Trust,
            ..Default::default()
        },
        limits: LimitSettings {
            connections_max: 100,
            startups_max: 100,
            startup_packet_bytes_max: STARTUP_PACKET_MAX as usize,
            // Zero is no limit.
            ..Default::default()
        },
        timeouts: TimeoutSettings {
            login: LONG,
            connect: LONG,
            acquire: LONG,
            failover_wait: LONG,
            drain: LONG,
            server_stall: LONG,
            // Zero is no limit.
            ..Default::default()
        },
        retry: RetrySettings { journal_max: 1024 * 1024 },
        threads: 1,
        ..Default::default()
    }
}

/// The control runtime of all tests, on a thread of its own.
pub(crate) fn runtime() -> Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    let start = || {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    };
    HANDLE.get_or_init(start).clone()
}

impl TestWorker {
    /// A worker whose connections buffer `capacity` bytes in each direction.
    pub(crate) fn new(settings: &Settings, snapshot: Snapshot, capacity: usize) -> Self {
        let (health, verdicts) = ByHand::new(snapshot);
        let secrets = matches!(settings.auth.mode, AuthMode::Verify | AuthMode::Auto).then(|| {
            let (source, cache_ttl) = (settings.auth.source.clone(), settings.auth.cache_ttl);
            let secrets = SecretSettings { source, cache_ttl };
            SecretStore::start(secrets, health.clone(), &runtime()).expect("the secrets of the test")
        });
        let auth_choice = AuthChoice::start(settings, secrets.as_ref(), &runtime());
        let attached = Attached::new();
        let listeners = (0..).zip(settings.listeners.iter().cloned()).map(|(number, settings)| {
            let balancer = Balancer::new(settings.options.balance, Arc::clone(&attached));
            Arc::new(BoundListener { number, settings, balancer, tls: None })
        });
        let (handle, inbox) = WorkerHandle::new();
        let functions = FunctionStore::new(settings.session.functions, health.clone(), runtime());
        let mock = Arc::new(MockSecret::new(None).expect("random bytes"));
        let stores = LiveStores {
            server_tls: Default::default(),
            access: None,
            secrets,
            session_passwords: None,
            functions: Arc::new(functions),
            mock,
        };
        let shared = Shared {
            learned: LearnedRequests::new(Instant::now()),
            run_on_standbys: LearnedRequests::new(Instant::now()),
            health,
            defaults: Defaults::unread(),
            metrics: Arc::new(Metrics::new(1)),
            admission: Arc::default(),
            failures: FailureGuard::default(),
            cancels: Arc::default(),
            snapshots: Arc::default(),
            listeners: ArcSwap::from_pointee(listeners.collect()),
            attached,
            speeds: Speeds::new().0,
            pace: MoveRate::new(),
            encryption: EncryptionLog::default(),
            pools: SharedPools::new(settings.pool.clone(), vec![handle.pool_mail.clone()]),
            fills: FillLogins::default(),
            statement_log: StatementLog::off(),
            workers: vec![handle],
            live: ArcSwap::from_pointee(Live::of(settings, stores, auth_choice)),
            is_draining: AtomicBool::new(false),
        };
        let network = Rc::new(Network::new(capacity));
        let (phase, runs) = watch::channel(RunPhase::Running);
        let worker = Worker::new(0, Arc::new(shared), Connector::Memory(Rc::clone(&network)), runs);
        let pool_mail = RefCell::new(Some(inbox.pool_mail));
        TestWorker { worker, verdicts, network, pool_mail, _phase: phase }
    }

    /// Changes the verdicts, and makes the sessions check them as a worker does.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        self.verdicts.publish(change);
        self.worker.slots.order_all(crate::context::Order::Recheck);
    }

    /// Puts a server into `state`.
    pub(crate) fn set_state(&self, id: ServerId, state: State) {
        self.publish(|snapshot| snapshot.servers[id.index()].state = state);
    }
}

/// The other end of one of the proxy's connections: a client or a server played by a test.
pub(crate) struct TestPeer {
    end: MemoryStream,
    buffer: Vec<u8>,
}

impl TestPeer {
    /// A client that has connected; the proxy serves it in a task of its own.
    pub(crate) fn connect(stage: &TestWorker) -> Self {
        Self::connect_from(CLIENT, stage)
    }

    /// The same, of a client that comes from elsewhere.
    pub(crate) fn connect_from(peer: ClientAddress, stage: &TestWorker) -> Self {
        let (end, own) = memory::pair(64 * 1024);
        let worker = Rc::clone(&stage.worker);
        let listener = Arc::clone(&worker.shared.listeners.load()[0]);
        spawn(worker::serve(worker, Transport::Memory(own), peer, listener, ()));
        TestPeer { end, buffer: Vec::new() }
    }

    /// A client that has sent its startup packet.
    pub(crate) async fn client(stage: &TestWorker) -> Self {
        let mut client = Self::connect(stage);
        client.start().await;
        client
    }

    /// Sends the startup packet.
    pub(crate) async fn start(&mut self) {
        let body = b"\0\x03\0\0user\0app\0database\0app\0\0";
        self.say(&[&[0, 0, 0, 4 + u8::try_from(body.len()).expect("short")], &body[..]].concat()).await;
    }

    /// The server's end of the next connection that the proxy makes, its startup packet read.
    pub(crate) async fn server(stage: &TestWorker) -> (ServerId, Self) {
        let (address, end) = stage.network.accept().await;
        let mut server = TestPeer { end, buffer: Vec::new() };
        while server.buffer.len() < 4 || server.buffer.len() < usize::from(server.buffer[3]) {
            assert!(server.read().await, "it has closed before its startup packet");
        }
        server.buffer.drain(..usize::from(server.buffer[3]));
        (server_at(&address), server)
    }

    /// The same, after its login has succeeded.
    pub(crate) async fn server_in(stage: &TestWorker) -> (ServerId, Self) {
        let (id, mut server) = Self::server(stage).await;
        server.let_in().await;
        (id, server)
    }

    /// Sends what a standby sends at a successful login.
    pub(crate) async fn let_in(&mut self) {
        let mut model = Server::new(true);
        model.greet();
        self.say(&model.output).await;
    }

    /// Reads; `false` at the end.
    async fn read(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let count = self.end.read(&mut chunk).await.expect("it closes in order");
        self.buffer.extend(&chunk[..count]);
        count > 0
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.end.write_all(bytes).await.expect("the proxy is there");
    }

    /// Reads the next message.
    pub(crate) async fn hear(&mut self) -> (u8, Vec<u8>) {
        self.try_hear().await.expect("a message before the end")
    }

    /// The same; `None` at the end.
    pub(crate) async fn try_hear(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((tag, body, length)) = wire::front(&self.buffer) {
                let message = (tag, body.to_vec());
                self.buffer.drain(..length);
                return Some(message);
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// Reads the messages up to and including the next with this tag.
    pub(crate) async fn hear_up_to(&mut self, tag: u8) -> Vec<(u8, Vec<u8>)> {
        let mut heard = Vec::new();
        loop {
            let message = self.hear().await;
            heard.push(message);
            if heard.last().is_some_and(|(last, _)| *last == tag) {
                return heard;
            }
        }
    }

    /// Sends a query.
    pub(crate) async fn query(&mut self, sql: &str) {
        self.say(&wire::message(b'Q', format!("{sql}\0").as_bytes())).await;
    }

    /// Waits until the proxy has closed, and discards what it sent before.
    pub(crate) async fn closes(mut self) {
        let mut rest = Vec::new();
        let _reset = self.end.read_to_end(&mut rest).await;
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        self.end.reset();
    }
}
