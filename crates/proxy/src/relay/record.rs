//! Hands the statements of a session to the metrics and the statement log.

use std::sync::Arc;

use trunkline_codec::sqlstate::SqlState;
use trunkline_session::{
    Completion, Fingerprint, Mobility, ReportTiming, ServerRole, Session, SessionSettings, Sink,
    StatementNames, StatementRecord, Tracking,
};
use trunkline_topology::ServerId;

use super::Relay;
use super::split::Split;
use crate::context::{Live, Worker};
use crate::login::NewSession;
use crate::pool::connection::ServerConnection;
use crate::pool::seat::SeatMode;
use crate::speeds::Speeds;
use trunkline_telemetry::metrics::{RefusalReason, StatementPhase, ThreadMetrics};
use trunkline_telemetry::sessions::SessionInfo;
use trunkline_telemetry::statement_log::{self, StatementLog, StatementWay};

/// Takes a session's statements as they complete.
pub(super) struct Recorder<'a> {
    metrics: &'a ThreadMetrics,
    server: Option<&'a ServerConnection>,
    live: &'a Live,
    log: &'a StatementLog,
    speeds: &'a Speeds,
    info: &'a SessionInfo,
    /// Notes how a statement fails, and knows why it is where it is.
    split: Option<&'a Split>,
}

impl Sink for Recorder<'_> {
    fn statement(&mut self, record: &StatementRecord<'_>) {
        if let Some(server) = self.server {
            let server = self.metrics.server(server.lease.server());
            server.statements.one(record.kind.into());
            server.rows.add(record.rows);
            if let Completion::Failed(code) = record.completion {
                server.statement_errors.one();
                if let Some(split) = self.split {
                    split.failed().set(code.or(Some(SqlState::INTERNAL_ERROR)));
                }
            }
            server.record(StatementPhase::Wait, record.timing.wait);
            server.record(StatementPhase::ServerFirst, record.timing.server_first);
            server.record(StatementPhase::ServerTotal, record.timing.server_total);
        }
        if let (Some(server), Some(fingerprint)) = (self.server, record.sampled) {
            self.sampled(server.lease.server(), fingerprint, record);
        }
        let settings = &self.live.statement_log;
        if settings.is_on()
            && statement_log::is_chosen(settings, &record.timing)
            && !self.log.offer(settings, self.info, self.way(), record)
        {
            self.metrics.statement_log_dropped.one();
        }
    }
}

impl Recorder<'_> {
    #[cold]
    fn sampled(&self, server: ServerId, fingerprint: Fingerprint, record: &StatementRecord<'_>) {
        if !self.speeds.offer(server, self.info, fingerprint, record) {
            self.metrics.speed_samples_dropped.one();
        }
    }

    fn way(&self) -> StatementWay {
        StatementWay {
            tls: self.server.and_then(|connection| connection.stream.negotiated()),
            route: self.split.map(Split::route),
        }
    }
}

impl Relay {
    /// Calls the session with a sink for its statements.
    pub(super) fn record<T>(&mut self, work: impl FnOnce(&mut Session, &mut Recorder<'_>) -> T) -> T {
        let server = self.server.connection();
        let mut recorder = Recorder {
            metrics: &self.worker.metrics,
            server,
            live: &self.live,
            log: &self.worker.shared.statement_log,
            speeds: &self.worker.shared.speeds,
            info: &self.context.info,
            split: self.context.split.as_deref(),
        };
        work(&mut self.session, &mut recorder)
    }
}

/// The settings that the session machine starts with.
pub(super) fn session_settings(live: &Live, new_session: &NewSession, role: ServerRole) -> SessionSettings {
    let log = &live.statement_log;
    SessionSettings {
        sql_bytes_max: if log.is_on() { log.sql_bytes_max } else { 0 },
        report_timing: if new_session.reports_timing { ReportTiming::Notice } else { ReportTiming::Off },
        server: Arc::clone(&new_session.server.name),
        tracking: if new_session.is_replication { Tracking::Opaque } else { Tracking::Full },
        mobility: if new_session.relogin.is_some() { Mobility::Movable } else { Mobility::Fixed },
        role,
        statement_names: statement_names(live, new_session),
        parameters: Arc::clone(&new_session.parameters),
    }
}

/// Sessions that take turns on server connections share statements there.
fn statement_names(live: &Live, new_session: &NewSession) -> StatementNames {
    match new_session.seat.as_ref().map(|seat| seat.mode()) {
        Some(SeatMode::Transaction | SeatMode::Own) => {
            StatementNames::OfContent { statements_max: live.pool.max_prepared_statements }
        }
        Some(SeatMode::Session) | None => StatementNames::OfClient,
    }
}

pub(super) fn count_refusal(worker: &Worker, reason: RefusalReason) {
    worker.metrics.sessions_refused.one(reason);
}
