//! The members of a Patroni cluster, asked of its REST API.
//!
//! Any member answers for all of them, `GET /cluster`, from what it has read of the distributed configuration store. Only
//! the configured URLs are asked, never those in answers. Source: Patroni's manual, "Patroni REST API", "Cluster status
//! endpoints".

mod cluster;

use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::backoff::Backoff;
use crate::check::{SocketHosts, check};
use crate::http::client::HttpClient;
use crate::http::{HttpScheme, HttpSettings, HttpUrl};
use crate::news::{Members, NewsSender, SourceError};

/// Time between two questions, unless configured.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// How long an answer may take, unless configured.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Most URLs of one source.
pub const URLS_MAX: usize = 32;

/// How long one URL alone has until the next is asked, too.
const STAGGER: Duration = Duration::from_millis(250);

/// What answers for all members: what is asked of it here.
const PATH: &str = "/cluster";

/// The REST API of Patroni.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatroniSettings {
    /// Of several members, so that one may be down; one at least, at most [`URLS_MAX`].
    pub urls: Vec<HttpUrl>,
    /// How long each of them may take.
    pub timeout: Duration,
    /// How all of them are spoken to.
    pub http: HttpSettings,
}

/// Asks until it is dropped.
pub(crate) async fn follow(settings: &PatroniSettings, interval: Duration, news: &NewsSender) -> Infallible {
    let mut asker = Asker::new(settings);
    let mut backoff = Backoff::default();
    loop {
        let members = asker.ask().await;
        let pause = match &members {
            Ok(_) => {
                backoff.after_answer();
                interval
            }
            Err(_) => backoff.after_error(),
        };
        news.send(members).await;
        tokio::time::sleep(pause).await;
    }
}

struct Asker {
    client: HttpClient,
    /// The one that answered last is the first.
    urls: Vec<HttpUrl>,
    timeout: Duration,
}

impl Asker {
    fn new(settings: &PatroniSettings) -> Self {
        let PatroniSettings { urls, timeout, http } = settings;
        let urls = urls.iter().take(URLS_MAX).cloned().collect();
        Self { client: HttpClient::new(http.clone()), urls, timeout: *timeout }
    }

    /// The first answer that can be right. One that is silent does not hold up the others: the next is asked beside it.
    async fn ask(&mut self) -> Members {
        let unprepared = match self.urls.iter().any(|url| url.scheme() == HttpScheme::Https) {
            true => self.client.prepare(HttpScheme::Https).await.err(),
            false => None,
        };
        let (client, timeout) = (&self.client, self.timeout);
        let mut waiting = self.urls.iter().enumerate();
        let mut asked = FuturesUnordered::new();
        let mut errors = Vec::new();
        let answer = loop {
            let next = waiting.next();
            let is_last = next.is_none();
            if let Some((at, url)) = next {
                match unprepared.as_ref().filter(|_| url.scheme() == HttpScheme::Https) {
                    Some(error) => {
                        errors.push((at, error.clone()));
                        continue;
                    }
                    None => asked.push(async move { (at, ask_one(client, url, timeout).await) }),
                }
            }
            tokio::select! {
                answer = asked.next() => match answer {
                    Some((at, Ok(members))) => break Some((at, members)),
                    Some((at, Err(error))) => errors.push((at, error)),
                    None => break None,
                },
                () = tokio::time::sleep(STAGGER), if !is_last => {}
            }
        };
        drop(asked);
        if let Some((at, members)) = answer {
            self.urls.swap(0, at);
            return Ok(members);
        }
        errors.sort_by_key(|(at, _)| *at);
        Err(all_of(errors.into_iter().map(|(_, error)| error).collect()))
    }
}

async fn ask_one(client: &HttpClient, url: &HttpUrl, timeout: Duration) -> Members {
    let body = client.get_prepared(url, PATH, timeout).await?;
    let garbled = |reason| SourceError::Garbled { place: url.to_string(), reason };
    let members = cluster::read(&body).map_err(garbled)?;
    // Another one may know better.
    check(members, SocketHosts::Refused)
        .map_err(|fault| SourceError::Garbled { place: url.to_string(), reason: fault.to_string() })
}

/// Several errors as one.
fn all_of(mut errors: Vec<SourceError>) -> SourceError {
    match errors.pop() {
        Some(only) if errors.is_empty() => only,
        Some(last) => {
            errors.push(last);
            let texts: Vec<_> = errors.iter().map(SourceError::to_string).collect();
            SourceError::Unreachable {
                place: format!("any of {} URLs", texts.len()),
                reason: texts.join("; "),
            }
        }
        None => SourceError::Unprepared("there is no URL to ask".to_owned()),
    }
}
