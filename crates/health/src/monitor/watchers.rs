//! The tasks that watch servers, started and ended as servers come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{ServerSignals, WatchedServer, checker, inquiry, prober};
use crate::guard::NamedBy;
use crate::judge::{JudgeSettings, Observation};
use crate::login::MonitorLogin;
use crate::probe::ServerHosts;
use trunkline_topology::{ProbeSpec, ServerId, ServerSpec};

/// How the tasks of each server are woken. Clones share.
#[derive(Clone, Debug, Default)]
pub(super) struct AllSignals(Arc<Mutex<BTreeMap<ServerId, Arc<ServerSignals>>>>);

impl AllSignals {
    pub(super) fn of(&self, id: ServerId) -> Option<Arc<ServerSignals>> {
        self.all().get(&id).cloned()
    }

    /// Has every server probed and logged in to at once.
    pub(super) fn wake_all(&self) {
        for signals in self.all().values() {
            signals.probe.notify_one();
            signals.check.notify_one();
        }
    }

    pub(super) fn enter(&self, id: ServerId) -> Arc<ServerSignals> {
        Arc::clone(self.all().entry(id).or_default())
    }

    fn remove(&self, id: ServerId) {
        self.all().remove(&id);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ServerId, Arc<ServerSignals>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks of every server. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Watchers {
    pub(super) runtime: Handle,
    pub(super) hosts: ServerHosts,
    pub(super) login: watch::Receiver<Arc<MonitorLogin>>,
    pub(super) settings: watch::Receiver<JudgeSettings>,
    pub(super) observations: mpsc::Sender<(ServerId, Observation)>,
    pub(super) signals: AllSignals,
    /// How each is asked, where that differs from the others, and how far it is believed.
    pub(super) probes: BTreeMap<ServerId, (watch::Sender<ProbeSpec>, watch::Sender<NamedBy>)>,
    pub(super) tasks: BTreeMap<ServerId, JoinSet<()>>,
}

impl Watchers {
    /// Begins to watch a server.
    pub(super) fn watch(&mut self, id: ServerId, spec: &ServerSpec) {
        let probe = watch::Sender::new(spec.probe.clone());
        let named_by = watch::Sender::new(NamedBy::from(&spec.origin));
        let watched = Arc::new(WatchedServer {
            id,
            name: spec.name.clone(),
            server: self.hosts.enter(spec.host.clone(), spec.port).named(named_by.subscribe()),
            probe: probe.subscribe(),
            login: self.login.clone(),
            settings: self.settings.clone(),
            observations: self.observations.clone(),
            signals: self.signals.enter(id),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn_on(prober::run(Arc::clone(&watched)), &self.runtime);
        tasks.spawn_on(checker::run(Arc::clone(&watched)), &self.runtime);
        tasks.spawn_on(inquiry::run(watched), &self.runtime);
        self.probes.insert(id, (probe, named_by));
        self.tasks.insert(id, tasks);
    }

    /// From now on asks a server as `spec` says.
    pub(super) fn respecify(&mut self, id: ServerId, spec: &ServerSpec) {
        let Some((probe, named_by)) = self.probes.get(&id) else { return };
        named_by.send_replace(NamedBy::from(&spec.origin));
        let _is_changed = probe.send_if_modified(|known| {
            let is_changed = *known != spec.probe;
            known.clone_from(&spec.probe);
            is_changed
        });
    }

    /// Ends the watching of a server that is forgotten.
    pub(super) fn forget(&mut self, id: ServerId) {
        self.tasks.remove(&id);
        self.probes.remove(&id);
        self.signals.remove(id);
    }
}
