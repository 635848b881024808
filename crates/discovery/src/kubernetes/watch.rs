//! Lists, then watches, for as long as it goes.
//!
//! ```text
//!          ┌───────────────── Gone, an error ─────────────────┐
//!          ▼                                                   │
//!        list ──slices at a version──▶ watch from the version ─┤
//!                                        ▲                     │
//!                                        └─ ended or cut ──────┘
//! ```

use std::convert::Infallible;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;

use super::lines::WatchLines;
use super::slices::{Slices, WatchFault};
use super::{KubernetesSettings, SERVICES_MAX, TIMEOUT};
use crate::backoff::Backoff;
use crate::check::is_name;
use crate::http::client::{HttpAnswer, HttpClient, read_text, within};
use crate::http::{HttpCredentials, HttpScheme, HttpSettings, HttpTls, HttpUrl, SecretFrom};
use crate::news::{Members, NewsSender, SourceError};

/// How much later than agreed the API may end a watch before it is taken for dead.
const SLACK: Duration = Duration::from_secs(5);

/// A watch that ends sooner has not worked: the next one waits.
const SHORTEST: Duration = Duration::from_secs(1);

/// How a watch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchEnd {
    /// By agreement, by whatever is in between, or because nothing came any more: it goes on where it was.
    Cut,
    /// The API has forgotten where it was.
    Gone,
}

/// Asks the API.
struct Watcher<'a> {
    client: HttpClient,
    settings: &'a KubernetesSettings,
    /// How long one watch is to last.
    length: Duration,
    news: &'a NewsSender,
}

/// Asks until it is dropped.
pub(super) async fn follow(
    settings: &KubernetesSettings,
    interval: Duration,
    news: &NewsSender,
) -> Infallible {
    let client = HttpClient::new(http_settings(settings));
    let mut watcher = Watcher { client, settings, length: interval, news };
    let mut backoff = Backoff::default();
    loop {
        if let Err(error) = watcher.list_and_watch(&mut backoff).await {
            news.send(Err(error)).await;
        }
        tokio::time::sleep(backoff.after_error()).await;
    }
}

/// A token is for the API alone, and is not shown to it without TLS.
fn http_settings(settings: &KubernetesSettings) -> HttpSettings {
    let tls = HttpTls { ca_file: Some(settings.ca_file.clone()), ..HttpTls::default() };
    let token = settings.token_file.clone().filter(|_| settings.api.scheme() == HttpScheme::Https);
    let credentials =
        token.map_or(HttpCredentials::Nothing, |file| HttpCredentials::Bearer(SecretFrom::File(file)));
    HttpSettings { tls, credentials }
}

impl Watcher<'_> {
    /// Until a list is due again.
    async fn list_and_watch(&mut self, backoff: &mut Backoff) -> Result<(), SourceError> {
        let path = self.path().await?;
        let api = &self.settings.api;
        let body = self.client.get(api, &path, TIMEOUT).await.map_err(with_hint)?;
        let mut slices = Slices::read(&body).map_err(|reason| garbled(api, reason))?;
        self.tell(&slices).await;
        loop {
            let began = Instant::now();
            let end = self.watch(&path, &mut slices, backoff).await?;
            match end {
                WatchEnd::Gone => return Ok(()),
                WatchEnd::Cut if began.elapsed() < SHORTEST => {
                    tokio::time::sleep(backoff.after_error()).await
                }
                WatchEnd::Cut => backoff.after_answer(),
            }
        }
    }

    /// The path of a list, with its query. The namespace is read each time: its file may come later than this process.
    async fn path(&self) -> Result<String, SourceError> {
        let KubernetesSettings { namespace, namespace_file, services, .. } = self.settings;
        let namespace = match namespace {
            Some(namespace) => namespace.clone(),
            None => read_text(namespace_file).await?.trim().to_owned(),
        };
        let unfit = services.iter().chain([&namespace]).find(|name| !is_name(name));
        if let Some(unfit) = unfit {
            return Err(SourceError::Unprepared(format!("{unfit:?} is no name of a Service or a namespace")));
        }
        if services.is_empty() || services.len() > SERVICES_MAX {
            return Err(SourceError::Unprepared(format!("from 1 to {SERVICES_MAX} Services are followed")));
        }
        let services = services.join("%2C");
        Ok(format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%20in%20%28{services}%29"
        ))
    }

    /// One watch.
    async fn watch(
        &mut self,
        path: &str,
        slices: &mut Slices,
        backoff: &mut Backoff,
    ) -> Result<WatchEnd, SourceError> {
        let api = &self.settings.api;
        let seconds = self.length.as_secs().max(1);
        let version = escaped(slices.version());
        let path = format!(
            "{path}&watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}"
        );
        let answer = within(TIMEOUT, api, self.client.ask(api, &path)).await?;
        if answer.status() == StatusCode::GONE {
            return Ok(WatchEnd::Gone);
        }
        let mut answer = answer.accept().map_err(with_hint)?;
        // It is still there, and what was found still true.
        self.tell(slices).await;
        let mut lines = WatchLines::default();
        while let Some(bytes) = self.next_bytes(&mut answer).await {
            let whole =
                lines.push(&bytes).map_err(|_| garbled(api, "a line of a watch is too long".to_owned()))?;
            let is_heard = !whole.is_empty();
            for line in whole {
                match slices.follow(&line) {
                    Ok(()) => {}
                    Err(WatchFault::Gone) => return Ok(WatchEnd::Gone),
                    Err(WatchFault::Refused(reason)) => {
                        return Err(SourceError::Refused { place: api.to_string(), reason });
                    }
                    Err(WatchFault::Garbled(reason)) => return Err(garbled(api, reason)),
                }
            }
            if is_heard {
                backoff.after_answer();
                self.tell(slices).await;
            }
        }
        Ok(WatchEnd::Cut)
    }

    /// What comes next of a watch; `None` when it has ended, was cut, or is silent for longer than the API should keep it.
    async fn next_bytes(&self, answer: &mut HttpAnswer) -> Option<bytes::Bytes> {
        match tokio::time::timeout(self.length + SLACK, answer.chunk()).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                tracing::debug!(%error, "watch was cut and goes on");
                None
            }
            Err(_) => {
                tracing::debug!(api = %self.settings.api, "watch is silent and begins again");
                None
            }
        }
    }

    async fn tell(&self, slices: &Slices) {
        let members: Members = slices
            .members(self.settings.port_name.as_deref())
            .map_err(|reason| garbled(&self.settings.api, reason));
        self.news.send(members).await;
    }
}

fn garbled(api: &HttpUrl, reason: String) -> SourceError {
    SourceError::Garbled { place: api.to_string(), reason }
}

/// What to do where a right is missing.
fn with_hint(error: SourceError) -> SourceError {
    match error {
        SourceError::Refused { place, reason } if reason.contains("403") => SourceError::Refused {
            place,
            reason: format!(
                "{reason}; its service account needs list and watch on endpointslices in discovery.k8s.io"
            ),
        },
        other => other,
    }
}

/// A version is opaque: whatever it is must not become another parameter.
fn escaped(version: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    version
        .bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
