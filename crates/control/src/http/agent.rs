//! HAProxy's agent-check: one short line per connection.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::contract::Agent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use trunkline_telemetry::log_rate::LogRate;

use super::Verdicts;
use crate::limits::ACCEPT_BACKOFF;

/// Agent connections at one time; more wait in the kernel's queue until one ends.
pub const AGENT_CONNECTIONS_MAX: usize = 128;

/// How long the words of `agent-send` are waited for: HAProxy sends them right after it connected, or never.
pub const AGENT_WORDS_GRACE: Duration = Duration::from_millis(50);

/// Most bytes of words read.
pub const AGENT_WORDS_BYTES_MAX: usize = 256;

/// Longest the one line may take to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves agent-check on `listener` until `shutdown` completes and the connections open then have ended.
///
/// Each connection names the server meant, as HAProxy's `agent-send "replica1\n"` does.
pub async fn serve_agent(listener: TcpListener, verdicts: impl Verdicts, shutdown: impl Future<Output = ()>) {
    let (open, tasks) = (Arc::new(Semaphore::new(AGENT_CONNECTIONS_MAX)), TaskTracker::new());
    let answerer = Arc::new(AgentServer { verdicts, agent: Mutex::default() });
    let mut errors = LogRate::default();
    let accepting = async {
        loop {
            let permit = Arc::clone(&open).acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _peer)) => {
                    let answerer = Arc::clone(&answerer);
                    tasks.spawn(async move {
                        answerer.serve(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    if let Some(more) = errors.note() {
                        tracing::warn!(%error, more, "could not accept an agent-check connection");
                    }
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
    tasks.close();
    tasks.wait().await;
}

struct AgentServer<V> {
    verdicts: V,
    /// Keeps the last answer, so that weights do not flap.
    agent: Mutex<Agent>,
}

impl<V: Verdicts> AgentServer<V> {
    async fn serve(&self, mut stream: TcpStream) {
        let words = timeout(AGENT_WORDS_GRACE, read_words(&mut stream)).await;
        let line = self.line(&words.ok().flatten().unwrap_or_default());
        let write = async {
            stream.write_all(line.as_bytes()).await?;
            stream.shutdown().await
        };
        if let Err(error) = timeout(WRITE_TIMEOUT, write).await.unwrap_or_else(|e| Err(io::Error::from(e))) {
            // HAProxy closes with a reset as soon as it has read the line.
            tracing::debug!(%error, "an agent-check connection ended early");
        }
    }

    fn line(&self, words: &str) -> String {
        let snapshot = self.verdicts.newest();
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        agent.answer(&snapshot, words, Instant::now())
    }
}

/// The first line sent; `None` when there is none worth the name.
async fn read_words(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::with_capacity(AGENT_WORDS_BYTES_MAX);
    let mut limited = stream.take(AGENT_WORDS_BYTES_MAX as u64);
    loop {
        let read = limited.read_buf(&mut bytes).await.ok()?;
        let end = bytes.iter().position(|b| matches!(b, b'\r' | b'\n'));
        if end.is_some() || read == 0 {
            bytes.truncate(end.unwrap_or(bytes.len()));
            let words = String::from_utf8_lossy(&bytes).trim().to_owned();
            return (!words.is_empty()).then_some(words);
        }
    }
}
