//! Messages of the proxy itself that the client gets right before a ReadyForQuery.

use bytes::{Bytes, BytesMut};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{ErrorReport, Severity, notice_response, parameter_status};

use crate::carried::parameters::statuses;
use crate::record::Timing;
use crate::settings::ReportTiming;

/// Figures of a statement, for the timing notice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) timing: Timing,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// Exists only in sessions that have such messages.
#[derive(Debug)]
pub(crate) struct Announce {
    report_timing: ReportTiming,
    /// ParameterStatus messages of a server that was taken over.
    parameters: Bytes,
    /// The last statement completed since the last ReadyForQuery.
    pub(crate) last: Option<Figures>,
    is_told: bool,
}

impl Announce {
    pub(crate) fn new(report_timing: ReportTiming) -> Self {
        Self { report_timing, parameters: Bytes::new(), last: None, is_told: false }
    }

    /// What the client is not told yet.
    pub(crate) fn parameters(&self) -> &[u8] {
        &self.parameters
    }

    pub(crate) fn set_parameters(&mut self, parameters: Bytes) {
        self.parameters = parameters;
    }

    /// The server itself has sent this parameter.
    pub(crate) fn forget_parameter(&mut self, name: &[u8]) {
        if self.parameters.is_empty() {
            return;
        }
        let mut kept = BytesMut::new();
        for (other, value) in statuses(&self.parameters).filter(|(other, _)| *other != name) {
            let written = parameter_status(&mut kept, other, value);
            debug_assert!(written.is_ok(), "it was read from such a message");
        }
        self.parameters = kept.freeze();
    }

    /// What to send before the present ReadyForQuery; once for each.
    pub(crate) fn before_ready(&mut self, current: Option<Figures>, server: &str) -> Option<Bytes> {
        if self.is_told {
            return None;
        }
        self.is_told = true;
        let mut out = BytesMut::from(&*std::mem::take(&mut self.parameters));
        match (self.report_timing, current.or(self.last)) {
            (ReportTiming::Notice, Some(figures)) => write_notice(&mut out, &figures, server),
            (ReportTiming::Notice, None) | (ReportTiming::Off, _) => {}
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    /// The ReadyForQuery was forwarded.
    pub(crate) fn ready(&mut self) {
        self.is_told = false;
        self.last = None;
    }
}

fn write_notice(out: &mut BytesMut, figures: &Figures, server: &str) {
    let Figures { timing, rows, bytes } = figures;
    let detail = format!(
        "server={server} wait_us={} first_us={} total_us={} client_us={} rows={rows} bytes={bytes}",
        timing.wait.as_micros(),
        timing.server_first.as_micros(),
        timing.server_total.as_micros(),
        timing.client.as_micros(),
    );
    let report = ErrorReport {
        severity: Severity::Notice,
        code: SqlState::SUCCESSFUL_COMPLETION,
        message: "trunkline timing",
        detail: Some(&detail),
        hint: None,
    };
    notice_response(out, &report);
}
