//! Sources against APIs that are in order, slow, and hostile.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod certificates;
mod changes;
mod fake;
mod kubernetes;
mod patroni;
mod patroni_tls;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use trunkline_discovery::{Discovery, Found, SourceKind, SourceSettings, SourceStatus, Surroundings};

/// Longest wait of a test for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two questions: so short that tests are, too.
const INTERVAL: Duration = Duration::from_millis(50);

fn source(name: &str, kind: SourceKind) -> SourceSettings {
    SourceSettings { name: name.into(), kind, weight: 100, interval: INTERVAL }
}

/// Follows one source without keeping anything.
fn follow(kind: SourceKind) -> (Discovery, watch::Receiver<Arc<Found>>) {
    let discovery =
        Discovery::start(vec![source("main", kind)], None, Surroundings::default(), &Handle::current());
    let found = discovery.found();
    (discovery, found)
}

/// The first source, once it is as it is waited for.
async fn until(
    found: &mut watch::Receiver<Arc<Found>>,
    is_so: impl Fn(&SourceStatus) -> bool,
) -> SourceStatus {
    let waiting = found.wait_for(|found| found.sources.first().is_some_and(&is_so));
    if let Ok(found) = tokio::time::timeout(PATIENCE, waiting).await {
        return found.unwrap().sources[0].clone();
    }
    panic!("what is waited for did not come within {PATIENCE:?}; the last is {:?}", found.borrow());
}

/// The names of the members, as one text.
fn names(source: &SourceStatus) -> String {
    let names: Vec<_> = source.members().iter().map(|member| member.name.as_str()).collect();
    names.join(" ")
}

/// The text of the last error.
fn error(source: &SourceStatus) -> String {
    source.last_error.as_ref().map(|error| error.text.to_string()).unwrap_or_default()
}
