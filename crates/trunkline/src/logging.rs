//! The log: written by a thread of its own, so that a slow disk or terminal never slows a session.

mod flood;
mod logfmt;

use std::convert::Infallible;
use std::io::{IsTerminal as _, Write, stderr};
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

use self::flood::FloodLimit;
use self::logfmt::{LineHead, Logfmt};
use crate::config::checked::LogSettings;
use crate::config::words::LogFormat;
use crate::{Failure, terminal};

/// Lines waiting to be written; one more is dropped and counted.
const QUEUE_LINES: usize = 16 * 1024;

/// Target of statement records. Source: trunkline-proxy, statement_log.
const STATEMENT_TARGET: &str = "trunkline::statement";

/// How often dropped lines are looked for.
const DROPPED_INTERVAL: Duration = Duration::from_secs(10);

/// The running log. Dropping it writes what is waiting.
pub(crate) struct Logging {
    level: reload::Handle<EnvFilter, Registry>,
    format: LogFormat,
    dropped: ErrorCounter,
    flood: FloodLimit,
    _guard: WorkerGuard,
}

/// Where statements are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementOutput {
    /// With everything else.
    InLog,
    /// On standard error too, for an interactive user.
    AlsoOnStderr,
}

/// Starts the process's log, on standard error. Once per process.
pub(crate) fn start(settings: &LogSettings) -> Result<Logging, Failure> {
    start_with(settings, stderr(), is_coloured(), StatementOutput::InLog)
}

/// Starts the process's log at the end of a file, with a place for statements. Once per process.
#[cfg(feature = "demo")]
pub(crate) fn start_in_file(
    settings: &LogSettings,
    path: &std::path::Path,
    statements: StatementOutput,
) -> Result<Logging, Failure> {
    let file = std::fs::File::options().create(true).append(true).open(path);
    let file = file.map_err(Failure::because(format!("could not open the log {}", path.display())))?;
    start_with(settings, file, false, statements)
}

fn start_with(
    settings: &LogSettings,
    output: impl Write + Send + 'static,
    is_coloured: bool,
    statements: StatementOutput,
) -> Result<Logging, Failure> {
    let builder =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE_LINES).thread_name("log");
    let (writer, guard) = builder.finish(output);
    let dropped = writer.error_counter();
    let (filter, level) = reload::Layer::new(filter(&settings.level)?);
    let shown = (statements == StatementOutput::AlsoOnStderr).then(|| {
        let is_statement = filter_fn(|metadata| metadata.target() == STATEMENT_TARGET);
        let format = Logfmt { head: LineHead::Nothing, is_coloured: false };
        fmt::layer().event_format(format).with_writer(stderr).with_filter(is_statement)
    });
    let flood = FloodLimit::default();
    let registry = tracing_subscriber::registry().with(filter).with(flood.clone()).with(shown);
    let result = match settings.format {
        LogFormat::Text => registry.with(text(writer, is_coloured)).try_init(),
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(writer);
            registry.with(layer).try_init()
        }
    };
    result.map_err(|error| Failure::new(format!("could not start the log: {error}")))?;
    Ok(Logging { level, format: settings.format, dropped, flood, _guard: guard })
}

fn text<S>(writer: NonBlocking, is_coloured: bool) -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>,
{
    fmt::layer().event_format(Logfmt { head: LineHead::TimeAndLevel, is_coloured }).with_writer(writer)
}

/// Colour for a terminal alone, and if it is wanted there.
fn is_coloured() -> bool {
    stderr().is_terminal() && terminal::welcomes_colour()
}

fn filter(level: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::builder().parse(level).map_err(Failure::because(format!("log level {level:?}")))
}

impl Logging {
    /// Applies a changed level. Returns the keys that differ and need a restart.
    pub(crate) fn reload(&self, settings: &LogSettings) -> Option<&'static str> {
        let level = filter(&settings.level).map(|filter| self.level.reload(filter));
        if !matches!(level, Ok(Ok(()))) {
            tracing::error!(
                level = settings.level,
                "could not change the log level; the old one stays in force"
            );
        }
        (settings.format != self.format).then_some("log.format")
    }

    /// Says how many lines were dropped or left out, whenever some were. Never ends.
    pub(crate) async fn report_dropped(&self) -> Infallible {
        let mut reported = 0;
        loop {
            tokio::time::sleep(DROPPED_INTERVAL).await;
            self.report_left_out();
            let dropped = self.dropped.dropped_lines();
            if dropped > reported {
                tracing::warn!(
                    lines = dropped - reported,
                    lines_total = dropped,
                    "log lines were dropped: the log is written too slowly"
                );
                reported = dropped;
            }
        }
    }

    /// Says how many lines were left out since the last call, of each kind.
    fn report_left_out(&self) {
        for left_out in self.flood.take_left_out() {
            tracing::warn!(
                lines = left_out.lines,
                like = left_out.message,
                "log lines were left out: too many alike"
            );
        }
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // Nobody reports any more, and what was left out is counted nowhere else.
        self.report_left_out();
    }
}
