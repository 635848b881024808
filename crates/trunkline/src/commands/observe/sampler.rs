//! Asks one server, every tick, what the formulas need: as the monitoring role, on a connection of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::{Client, Config, SimpleQueryMessage, SimpleQueryRow};
use trunkline_codec::ids::Lsn;
use trunkline_health::{Health, MonitorLogin};
use trunkline_topology::{Endpoint, ServerId, Snapshot};

use super::formula::{ASK, FormulaAnswer};
use crate::failure::with_causes;

/// The application_name of its connections in pg_stat_activity.
const APPLICATION_NAME: &str = "trunkline_observe";

/// What one question came to.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) server: ServerId,
    /// The verdicts when it was asked.
    pub(super) before: Arc<Snapshot>,
    pub(super) sent: Instant,
    pub(super) received: Instant,
    pub(super) answer: Result<ServerAnswers, String>,
}

/// What a server answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ServerAnswers {
    /// A primary, with where its WAL is.
    Primary { lsn: Option<Lsn> },
    /// A standby.
    Standby { age: FormulaAnswer, in_sync: FormulaAnswer, combined: FormulaAnswer, replayed: Option<Lsn> },
}

/// A connection that is asked.
struct SamplerLink {
    client: Client,
    driver: JoinHandle<()>,
    /// The login in force when it was made.
    login: Arc<MonitorLogin>,
}

impl Drop for SamplerLink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Asks until nobody listens any more.
pub(super) async fn run(health: Health, server: ServerId, reports: mpsc::Sender<Report>) {
    let mut asked: Option<SamplerLink> = None;
    let mut ticks = interval(health.load().tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let before = health.load_full();
        let Some(endpoint) = before.server(server).map(|status| status.endpoint()) else { return };
        let sent = Instant::now();
        let login = health.login();
        if asked.as_ref().is_some_and(|asked| !Arc::ptr_eq(&asked.login, &login)) {
            asked = None;
        }
        let answer = match ask(&mut asked, login, &endpoint, before.probe_timeout).await {
            Ok(answers) => Ok(answers),
            Err(error) => {
                // An answer may still be under way.
                asked = None;
                Err(error)
            }
        };
        let report = Report { server, before, sent, received: Instant::now(), answer };
        if reports.send(report).await.is_err() {
            return;
        }
    }
}

async fn ask(
    asked: &mut Option<SamplerLink>,
    login: Arc<MonitorLogin>,
    endpoint: &Endpoint,
    patience: Duration,
) -> Result<ServerAnswers, String> {
    let late = || format!("no answer within {patience:?}");
    if asked.is_none() {
        *asked = Some(timeout(patience, connect(login, endpoint)).await.map_err(|_elapsed| late())??);
    }
    let Some(SamplerLink { client, .. }) = asked else { return Err(late()) };
    let messages = timeout(patience, client.simple_query(ASK)).await.map_err(|_elapsed| late())?;
    let messages = messages.map_err(|error| in_words(&error))?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.map(read).ok_or_else(|| "no row".to_owned())
}

async fn connect(login: Arc<MonitorLogin>, endpoint: &Endpoint) -> Result<SamplerLink, String> {
    let mut config: Config = login.config.clone();
    config.application_name(APPLICATION_NAME);
    let (client, connection) = login.connect_as(&config, endpoint).await.map_err(|error| match &error {
        trunkline_health::MonitorLoginError::Login(error) => in_words(error),
        error => with_causes(error),
    })?;
    let driver = tokio::spawn(async move {
        // Its error, if any, also appears in the question.
        let _ended = connection.await;
    });
    Ok(SamplerLink { client, driver, login })
}

fn in_words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => with_causes(error),
    }
}

fn read(row: &SimpleQueryRow) -> ServerAnswers {
    let lsn = row.get("lsn").and_then(|text| text.parse().ok());
    if row.get("is_standby") != Some("t") {
        return ServerAnswers::Primary { lsn };
    }
    let seconds = |name: &str| {
        let number =
            row.get(name).and_then(|text| text.parse().ok()).filter(|number: &f64| number.is_finite());
        number.map_or(FormulaAnswer::Nothing, FormulaAnswer::Seconds)
    };
    let in_sync = match row.get("in_sync") {
        Some("t") => FormulaAnswer::InSync,
        Some(_) => FormulaAnswer::NotInSync,
        None => FormulaAnswer::Nothing,
    };
    ServerAnswers::Standby { age: seconds("age"), in_sync, combined: seconds("combined"), replayed: lsn }
}
