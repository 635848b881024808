//! From a request to its answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::contract::{self, Extras, PathAnswer, answer_at};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{Verdicts, about, page};
use trunkline_telemetry::exposition::{render_health, render_prometheus};
use trunkline_telemetry::metrics::{Label as _, Metrics, MoveCause, MoveKind, MoveOutcome, RepeatCause};
use trunkline_telemetry::sessions::Sessions;
use trunkline_topology::ServerId;

/// What `/metrics` is written in. Source: Prometheus, Exposition formats.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

#[derive(Debug)]
struct RouterState<V> {
    verdicts: V,
    metrics: Option<Arc<Metrics>>,
    started: Instant,
}

/// One handler for every method and path: the contract has an answer for each.
pub(super) fn router<V: Verdicts>(verdicts: V, metrics: Option<Arc<Metrics>>) -> Router {
    let state = RouterState { verdicts, metrics, started: Instant::now() };
    Router::new().fallback(answer::<V>).with_state(Arc::new(state))
}

async fn answer<V: Verdicts>(State(site): State<Arc<RouterState<V>>>, request: Request) -> Response {
    let (method, target) = (request.method(), request.uri());
    let accept = text_of(request.headers(), &header::ACCEPT);
    let at = target.path();
    match at.strip_prefix('/').and_then(answer_at) {
        Some(PathAnswer::Metrics) if reads(method) => ok(PROMETHEUS_TEXT, site.metrics_text().await),
        // Whoever balances over several proxies must stop sending here before the listeners close.
        Some(PathAnswer::Ready) if site.verdicts.is_draining() => {
            with(StatusCode::SERVICE_UNAVAILABLE, PLAIN_TEXT, "Service Unavailable - draining")
        }
        None if at == "/" && reads(method) && page::is_wanted(accept) => page::response(),
        Some(PathAnswer::Cluster) => {
            let sessions = site.verdicts.sessions().await;
            let extras = site.extras(sessions.as_ref());
            site.told(method, &target.to_string(), accept, Some(&extras))
        }
        Some(PathAnswer::Metrics | PathAnswer::Ready | PathAnswer::Alive | PathAnswer::Serving(_)) | None => {
            let extras = site.sessions_of_each();
            site.told(method, &target.to_string(), accept, extras.as_ref())
        }
    }
}

impl<V: Verdicts> RouterState<V> {
    async fn metrics_text(&self) -> String {
        let snapshot = self.verdicts.newest();
        match &self.metrics {
            Some(metrics) => render_prometheus(metrics, &snapshot, self.verdicts.sessions().await.as_ref()),
            None => render_health(&snapshot),
        }
    }

    /// What checks are told beside the verdict on a server.
    fn sessions_of_each(&self) -> Option<Extras> {
        let metrics = self.metrics.as_deref()?;
        let snapshot = self.verdicts.newest();
        let on = |server| [("sessions".to_owned(), metrics.sessions_on(server).into())].into_iter().collect();
        let servers = snapshot.servers.iter().map(|server| (server.id, on(server.id))).collect();
        Some(Extras { servers, ..Extras::default() })
    }

    /// What is told beside the verdicts: of each server, of this process, and of all sessions.
    fn extras(&self, sessions: Option<&Sessions>) -> Extras {
        let snapshot = self.verdicts.newest();
        let mut cluster = Map::new();
        cluster.insert("trunkline".to_owned(), about::process(self.started));
        cluster.insert("changes".to_owned(), about::changes(&self.verdicts.transitions()));
        let Some(metrics) = self.metrics.as_deref() else { return Extras { cluster, ..Extras::default() } };
        cluster.insert("listeners".to_owned(), about::listeners(&self.verdicts.listeners(), &snapshot));
        if let Some(auth) = self.verdicts.auth() {
            cluster.insert("auth".to_owned(), about::auth(&auth));
        }
        cluster.insert("certificates".to_owned(), about::certificates(metrics));
        cluster.insert("sources".to_owned(), about::sources(metrics));
        if let Some(pools) = about::pools(metrics) {
            cluster.insert("pools".to_owned(), pools);
        }
        if let Some(routed) = about::routed(metrics) {
            cluster.insert("routed".to_owned(), routed);
        }
        if let Some(sessions) = sessions {
            cluster.insert("sessions".to_owned(), sessions.counts().into());
            cluster.insert("moves".to_owned(), told_moves(metrics));
        }
        let mut servers: HashMap<ServerId, Map<String, Value>> =
            snapshot.servers.iter().map(|server| (server.id, about::work(metrics, server.id))).collect();
        if let Some(spread) = self.verdicts.spread() {
            cluster.insert("zone".to_owned(), spread.zone.as_deref().into());
            for speed in &spread.speeds {
                if let Some(server) = servers.get_mut(&speed.server) {
                    server.insert("speed".to_owned(), about::speed(speed));
                }
            }
        }
        Extras { cluster, servers }
    }

    /// What the contract says.
    fn told(&self, method: &Method, target: &str, accept: Option<&str>, extras: Option<&Extras>) -> Response {
        let snapshot = self.verdicts.newest();
        let method = method.as_str();
        let request = contract::CheckRequest { method, target, accept, now: Instant::now(), extras };
        let told = contract::respond(&snapshot, &request);
        let status = StatusCode::from_u16(told.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut response = with(status, told.content_type, told.body);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let allowed = HeaderValue::from_static("GET, HEAD, OPTIONS");
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        response
    }
}

/// How often sessions and requests went to another server, why, and how long that took.
fn told_moves(metrics: &Metrics) -> Value {
    let kinds = MoveKind::ALL.iter().map(|kind| {
        let ended = |outcome: MoveOutcome| match kind {
            MoveKind::Move => about::by_cause(MoveCause::ALL, |c| {
                metrics.sum(|t| t.moves_ended[outcome.index()].of(c).value())
            }),
            MoveKind::Repeat => about::by_cause(RepeatCause::ALL, |c| {
                metrics.sum(|t| t.repeats_ended[outcome.index()].of(c).value())
            }),
        };
        let times = metrics.move_times(*kind, MoveOutcome::Taken);
        let seconds = |share| times.quantile(share).map(|took| took.as_secs_f64());
        let told = json!({
            "taken": ended(MoveOutcome::Taken),
            "failed": ended(MoveOutcome::Failed),
            "median_seconds": seconds(0.5),
            "p99_seconds": seconds(0.99),
        });
        (kind.word().to_owned(), told)
    });
    Value::Object(kinds.collect())
}

fn reads(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

fn text_of<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

pub(super) fn ok(content_type: &'static str, body: impl Into<Body>) -> Response {
    with(StatusCode::OK, content_type, body)
}

/// One answer per connection, never kept by anyone: the next one may be another.
fn with(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
