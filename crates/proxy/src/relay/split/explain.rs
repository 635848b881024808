//! Where a request would go, for an operator who asks: by the judgement of the sessions, for one that has written nothing.

use std::sync::Arc;

use trunkline_control::explain::{ExplainQuestion, ExplainRefusal, Explained, Explains};
use trunkline_routing::FloorPosition;
use trunkline_routing::eligible::shows;
use trunkline_session::{NotJudged, ReadUnit, SqlExplained};
use trunkline_telemetry::metrics::{Label as _, RouteReason};
use trunkline_topology::{ServerStatus, Snapshot};

use super::shown::{Standbys, is_up};
use super::target::{ReadTarget, read_target};
use crate::context::{Shared, TalliedPositions};
use crate::settings::RouteBy;

/// Answers for all sessions.
#[derive(Debug)]
pub(crate) struct Explainer(pub(crate) Arc<Shared>);

impl Explains for Explainer {
    async fn explain(&self, question: ExplainQuestion) -> Result<Explained, ExplainRefusal> {
        let shared = &self.0;
        let listener = listener(shared, question.listener)?;
        let store = Arc::clone(&shared.live().stores.functions);
        let database = match (question.database, store.databases()) {
            (Some(database), _) => database,
            (None, in_use) => match <[String; 1]>::try_from(in_use) {
                Ok([only]) => only,
                Err(in_use) => return Err(ExplainRefusal::Database(in_use)),
            },
        };
        let functions = store.asked(&database).await.ok_or(ExplainRefusal::CatalogNotRead)?;
        let explained = functions.explain(question.sql.as_bytes());
        let snapshot = shared.health.load_full();
        let (reason, because) = decided(&explained, shared, &snapshot, &database);
        let servers = match (reason, &explained) {
            (RouteReason::Proven, SqlExplained::Reads(unit)) => showing(&snapshot, unit),
            _primarys => {
                snapshot.serving_primary().map(|server| server.name.to_string()).into_iter().collect()
            }
        };
        Ok(Explained { listener, database, servers, reason: reason.word(), because })
    }
}

/// The listener of this name that chooses a server for each request, or the only one.
fn listener(shared: &Shared, name: Option<String>) -> Result<String, ExplainRefusal> {
    let listeners = shared.listeners.load();
    let splits = listeners.iter().filter(|bound| bound.settings.options.route == RouteBy::Statement);
    let names: Vec<String> = splits.map(|bound| bound.settings.name.clone()).collect();
    match (name, &names[..]) {
        (_, []) => Err(ExplainRefusal::NoneSplits),
        (None, [only]) => Ok(only.clone()),
        (Some(name), names) if names.contains(&name) => Ok(name),
        (None | Some(_), _) => Err(ExplainRefusal::Listener(names)),
    }
}

fn decided(
    explained: &SqlExplained,
    shared: &Shared,
    snapshot: &Snapshot,
    database: &str,
) -> (RouteReason, String) {
    let unit = match explained {
        SqlExplained::Reads(unit) => *unit,
        SqlExplained::BeginsTransaction => {
            return (RouteReason::Transaction, "it begins a transaction".to_owned());
        }
        SqlExplained::Words(why) => return (RouteReason::Unknown, why.clone()),
        SqlExplained::NotPlain { cause, by } => {
            let by = by.as_ref().map(|name| format!("by {name} ")).unwrap_or_default();
            return (RouteReason::Unknown, format!("{by}it uses what a replica does differently: {cause}"));
        }
        SqlExplained::NotJudged { why, name } => {
            return (RouteReason::Unknown, not_judged(*why, name.as_deref(), database));
        }
    };
    let positions = TalliedPositions::default();
    match read_target(unit, FloorPosition::Any, None, &shared.learned, snapshot, &positions) {
        ReadTarget::Learned => {
            let because = "it reads by its words, but a replica has refused such a request within the last hour, and the primary has run it";
            (RouteReason::Learned, because.to_owned())
        }
        ReadTarget::UndatedCatalog | ReadTarget::UnknownFloor => {
            (RouteReason::Unknown, "it only reads, but how old the catalog is is not known".to_owned())
        }
        ReadTarget::Of(_, Standbys::OneShows(_)) => (RouteReason::Proven, reads(unit)),
        ReadTarget::Of(_, Standbys::NoneUp) => {
            (RouteReason::NoStandby, "it only reads, but no replica is up".to_owned())
        }
        ReadTarget::Of(at_least, Standbys::NoneShows(_) | Standbys::NoneFresh) => (
            RouteReason::Floor,
            format!("it only reads, but no replica is known to have replayed the catalog, at {at_least}"),
        ),
    }
}

fn reads(unit: ReadUnit) -> String {
    let of_functions =
        "; a function that it calls may write: the replica refuses that, and the primary runs it";
    let of_functions = if unit.may_call_what_writes { of_functions } else { "" };
    format!("it only reads, as far as its words and the catalog tell{of_functions}")
}

fn not_judged(why: NotJudged, name: Option<&str>, database: &str) -> String {
    match (why, name) {
        (NotJudged::NoSuchName, Some(name)) => {
            format!("{name} is not in the catalog of database {database}, or not yet")
        }
        (NotJudged::Unread, _) => format!(
            "the catalog of database {database} could not be read: see the log, and that the monitoring role may connect"
        ),
        (NotJudged::Changing | NotJudged::NoSuchName | NotJudged::Unscannable, _) => why.as_str().to_owned(),
    }
}

/// The standbys that are up and show the catalog that the unit was judged by.
fn showing(snapshot: &Snapshot, unit: &ReadUnit) -> Vec<String> {
    let is_fit = |server: &&ServerStatus| {
        is_up(server) && unit.position.is_some_and(|position| shows(snapshot, server, position))
    };
    snapshot.servers.iter().filter(is_fit).map(|server| server.name.to_string()).collect()
}
