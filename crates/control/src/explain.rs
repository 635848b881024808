//! Where a request would go by a listener that chooses a server for each, and why, for an operator who asks:
//! `GET /explain?sql=SQL` of the admin socket, with `&listener=NAME` and `&database=NAME`.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

/// What is asked.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct ExplainQuestion {
    /// The request, as a client sends it.
    pub sql: String,
    /// The name of the listener; `None`: the only one that chooses so.
    pub listener: Option<String>,
    /// The database; `None`: the only one in use.
    pub database: Option<String>,
}

/// Where a request would go, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Explained {
    /// The name of the listener.
    pub listener: String,
    /// The database by whose catalog it was judged.
    pub database: String,
    /// The servers of which one would run it; none while there is none.
    pub servers: Vec<String>,
    /// The word of `trunkline_requests_routed_total`.
    pub reason: &'static str,
    /// What decided, in words.
    pub because: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainRefusal {
    /// Every listener has one server for a session.
    #[error("no listener has route = \"statement\": sessions keep their server, whatever they ask")]
    NoneSplits,
    /// None of those has the name, or several might be meant.
    #[error("the listener has to be one with route = \"statement\": {}", .0.join(", "))]
    Listener(Vec<String>),
    /// No session uses any, or several databases might be meant.
    #[error("the database has to be named{}", in_use(.0))]
    Database(Vec<String>),
    /// The catalog is not read at all.
    #[error("[session] functions is not \"read\": nothing is known of what SQL names")]
    CatalogNotRead,
}

fn in_use(databases: &[String]) -> String {
    if databases.is_empty() {
        ": no session uses any now".to_owned()
    } else {
        format!("; in use are {}", databases.join(", "))
    }
}

/// Who can tell.
pub trait Explains: Send + Sync + 'static {
    /// Where a request would go now, of a session that has written nothing.
    fn explain(
        &self,
        question: ExplainQuestion,
    ) -> impl Future<Output = Result<Explained, ExplainRefusal>> + Send;
}

/// The path.
pub fn routes<E: Explains>(who: E) -> Router {
    Router::new().route("/explain", get(explain::<E>)).with_state(Arc::new(who))
}

async fn explain<E: Explains>(
    State(who): State<Arc<E>>,
    Query(question): Query<ExplainQuestion>,
) -> (StatusCode, Json<Value>) {
    match who.explain(question).await {
        Ok(explained) => (StatusCode::OK, Json(json!(explained))),
        Err(refusal) => (StatusCode::CONFLICT, Json(json!({ "error": refusal.to_string() }))),
    }
}
