//! Statements of a session on their way to metrics and log.

use std::sync::Arc;

use trunkline_session::{
    Completion, Functions, LoginParameters, Mobility, ReportTiming, ServerRole, Session, SessionSettings,
    Sink, StatementRecord, Tracking,
};
use trunkline_topology::ServerId;

use super::Relay;
use super::attach::Server;
use crate::context::{Live, Worker};
use crate::login::Welcome;
use trunkline_telemetry::metrics::{Phase, RefusalReason, ThreadMetrics};
use trunkline_telemetry::sessions::SessionInfo;
use trunkline_telemetry::statement_log::{self, StatementLog};

/// Takes a session's statements as they complete.
pub(super) struct Recorder<'a> {
    metrics: &'a ThreadMetrics,
    server: Option<ServerId>,
    live: &'a Live,
    log: &'a StatementLog,
    info: &'a Arc<SessionInfo>,
}

impl Sink for Recorder<'_> {
    fn statement(&mut self, record: &StatementRecord<'_>) {
        if let Some(server) = self.server {
            let server = self.metrics.server(server);
            server.statements.one(record.kind.into());
            server.rows.add(record.rows);
            if matches!(record.completion, Completion::Failed(_)) {
                server.statement_errors.one();
            }
            server.record(Phase::Wait, record.timing.wait);
            server.record(Phase::ServerFirst, record.timing.server_first);
            server.record(Phase::ServerTotal, record.timing.server_total);
        }
        let settings = &self.live.statement_log;
        if settings.is_on()
            && statement_log::is_chosen(settings, &record.timing)
            && !self.log.offer(settings, self.info, record)
        {
            self.metrics.statement_log_dropped.one();
        }
    }
}

impl Relay {
    /// Lets the session work with a sink for its statements.
    pub(super) fn record<T>(&mut self, work: impl FnOnce(&mut Session, &mut Recorder<'_>) -> T) -> T {
        let server = match &self.server {
            Server::Attached { lease, .. } => Some(lease.server()),
            Server::Detached | Server::Taking(_) => None,
        };
        let mut recorder = Recorder {
            metrics: &self.worker.metrics,
            server,
            live: &self.live,
            log: &self.worker.shared.statement_log,
            info: &self.about.info,
        };
        work(&mut self.session, &mut recorder)
    }
}

/// What the session machine is told at the start.
pub(super) fn session_settings(
    worker: &Worker,
    live: &Live,
    welcome: &Welcome,
    role: ServerRole,
) -> SessionSettings {
    let log = &live.statement_log;
    SessionSettings {
        sql_bytes_max: if log.is_on() { log.sql_bytes_max } else { 0 },
        report_timing: if welcome.reports_timing { ReportTiming::Notice } else { ReportTiming::Off },
        server: Arc::clone(&welcome.server.name),
        tracking: if welcome.is_replication { Tracking::Opaque } else { Tracking::Full },
        mobility: if welcome.relogin.is_some() { Mobility::Movable } else { Mobility::Fixed },
        role,
        parameters: shared_parameters(worker, &welcome.parameters),
    }
}

/// Those of the session's database, for a session that may move.
pub(super) fn functions(worker: &Worker, welcome: &Welcome) -> Option<Arc<Functions>> {
    let is_movable = welcome.relogin.is_some() && !welcome.is_replication;
    is_movable.then(|| worker.shared.functions.of_database(&welcome.info.database)).flatten()
}

/// `told`, in the memory of the session before if that was told the same: it is some 350 bytes.
fn shared_parameters(worker: &Worker, told: &[u8]) -> Arc<LoginParameters> {
    let mut last = worker.parameters.borrow_mut();
    if last.messages() != told {
        *last = Arc::new(LoginParameters::new(told));
    }
    Arc::clone(&last)
}

pub(super) fn count_refusal(worker: &Worker, reason: RefusalReason) {
    worker.metrics.sessions_refused.one(reason);
}
