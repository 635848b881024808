//! How long a server that is being taken is waited for.

use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::time::Duration;

use trunkline_health::Health;
use trunkline_reactor::timer;
use trunkline_topology::ServerId;

/// Waits for what is asked of `server`: for `limit` at most, and no longer than until health finds it silent.
///
/// # Errors
/// `TimedOut`, with the reason.
pub(crate) async fn answered<T>(
    health: &Health,
    server: ServerId,
    limit: Duration,
    asked: impl Future<Output = T>,
) -> io::Result<T> {
    // By reference: each future that owns it would make room for it twice.
    let mut asked = pin!(asked);
    let no_answer = |why| Err(io::Error::new(io::ErrorKind::TimedOut, why));
    let answer = async {
        tokio::select! {
            biased;
            answer = &mut asked => Some(answer),
            () = silence(health, server) => None,
        }
    };
    match timer::timeout(limit, answer).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => no_answer("no answer, and health has found the server down".to_owned()),
        Err(_elapsed) => no_answer(format!("no answer to the login within {limit:?}")),
    }
}

/// Returns when health finds that the server gives no answer at all.
async fn silence(health: &Health, server: ServerId) {
    let mut news = health.changed();
    loop {
        news.mark_unchanged();
        if health.load().server(server).is_some_and(|status| status.silent) {
            return;
        }
        if news.changed().await.is_err() {
            // The monitor has ended: the time limit is left.
            pending::<()>().await;
        }
    }
}
