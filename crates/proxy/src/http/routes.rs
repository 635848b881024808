//! From a request to its answer.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use trunkline_health::Snapshot;
use trunkline_health::contract::{self, Extras};

use super::{Verdicts, page};
use crate::metrics::{Metrics, render_health, render_prometheus};

/// What `/metrics` is written in. Source: Prometheus, Exposition formats.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

#[derive(Debug)]
struct Site<V> {
    verdicts: V,
    metrics: Option<Arc<Metrics>>,
}

/// One handler for every method and path: the contract has an answer for each.
pub(super) fn router<V: Verdicts>(verdicts: V, metrics: Option<Arc<Metrics>>) -> Router {
    Router::new().fallback(answer::<V>).with_state(Arc::new(Site { verdicts, metrics }))
}

async fn answer<V: Verdicts>(State(site): State<Arc<Site<V>>>, request: Request) -> Response {
    let (method, target) = (request.method(), request.uri());
    let accept = text_of(request.headers(), &header::ACCEPT);
    match target.path() {
        "/metrics" if reads(method) => ok(PROMETHEUS_TEXT, site.metrics_text()),
        // Whoever balances over several proxies must stop sending here before the listeners close.
        "/readyz" | "/readiness" if site.verdicts.is_draining() => {
            with(StatusCode::SERVICE_UNAVAILABLE, PLAIN_TEXT, "Service Unavailable - draining")
        }
        "/" if reads(method) && page::is_wanted(accept) => page::response(),
        _ => site.told(method, &target.to_string(), accept),
    }
}

impl<V: Verdicts> Site<V> {
    fn metrics_text(&self) -> String {
        let snapshot = self.verdicts.newest();
        match &self.metrics {
            Some(metrics) => render_prometheus(metrics, &snapshot),
            None => render_health(&snapshot),
        }
    }

    /// What the contract says.
    fn told(&self, method: &Method, target: &str, accept: Option<&str>) -> Response {
        let snapshot = self.verdicts.newest();
        let extras = self.metrics.as_deref().map(|metrics| extras(metrics, &snapshot));
        let method = method.as_str();
        let request =
            contract::Request { method, target, accept, now: Instant::now(), extras: extras.as_ref() };
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

/// What only the proxy knows of each server.
fn extras(metrics: &Metrics, snapshot: &Snapshot) -> Extras {
    let sessions = |node| ("sessions".to_owned(), metrics.sessions_on(node).into());
    snapshot.nodes.iter().map(|node| (node.id, [sessions(node.id)].into_iter().collect())).collect()
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
