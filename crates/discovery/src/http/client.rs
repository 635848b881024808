//! One request over one connection.
//!
//! Sources ask seldom: a connection that is kept would more often be found dead than spare anything.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use trunkline_tls::Rotation;
use trunkline_tls::connect::ServerTls;
use zeroize::Zeroizing;

use super::settings::{HttpCredentials, HttpSettings, SecretFrom};
use super::url::{HttpScheme, HttpUrl};
use crate::limits::{ANSWER_BYTES_MAX, SECRET_BYTES_MAX};
use crate::news::SourceError;

/// Most bytes of a head, and of what is read of a body at once.
const BUFFER_BYTES: usize = 64 << 10;

/// What is told of who asks.
const AGENT: &str = concat!("trunkline/", env!("CARGO_PKG_VERSION"));

/// Asks an API.
#[derive(Debug)]
pub struct HttpClient {
    settings: HttpSettings,
    /// Once it was needed.
    tls: Option<ServerTls>,
}

/// An answer of which the head has come.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    place: String,
    status: StatusCode,
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl HttpClient {
    /// One that has asked nothing yet.
    #[must_use]
    pub fn new(settings: HttpSettings) -> Self {
        Self { settings, tls: None }
    }

    /// The whole body of an answer of status 200.
    ///
    /// # Errors
    /// When it does not come within `timeout`, or is not one.
    pub async fn get(&mut self, url: &HttpUrl, path: &str, timeout: Duration) -> Result<Bytes, SourceError> {
        let asking = async {
            let answer = self.ask(url, path).await?;
            answer.accept()?.whole().await
        };
        within(timeout, url, asking).await
    }

    /// The same of one that was [prepared](Self::prepare), so that several may be asked at a time.
    ///
    /// # Errors
    /// When it does not come within `timeout`, or is not one.
    pub(crate) async fn get_prepared(
        &self,
        url: &HttpUrl,
        path: &str,
        timeout: Duration,
    ) -> Result<Bytes, SourceError> {
        let asking = async { self.ask_prepared(url, path).await?.accept()?.whole().await };
        within(timeout, url, asking).await
    }

    /// An answer, whatever its status. The caller limits the time.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn ask(&mut self, url: &HttpUrl, path: &str) -> Result<HttpAnswer, SourceError> {
        self.prepare(url.scheme()).await?;
        self.ask_prepared(url, path).await
    }

    async fn ask_prepared(&self, url: &HttpUrl, path: &str) -> Result<HttpAnswer, SourceError> {
        let place = url.to_string();
        let unreachable =
            |error: io::Error| SourceError::Unreachable { place: place.clone(), reason: error.to_string() };
        let request = self.request(url, path).await?;
        let tls = match (url.scheme(), &self.tls) {
            (HttpScheme::Http, _) => None,
            (HttpScheme::Https, Some(tls)) => Some(tls),
            (HttpScheme::Https, None) => {
                return Err(SourceError::Unprepared(format!("{url}: TLS is not loaded")));
            }
        };
        let stream = TcpStream::connect((url.host(), url.port())).await.map_err(unreachable)?;
        let Some(tls) = tls else { return exchange(stream, request, place).await };
        let (config, name) =
            tls.for_library(url.host()).map_err(|error| unreachable(io::Error::other(error)))?;
        let mut config = (*config).clone();
        // What it has is PostgreSQL's.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(unreachable)?;
        exchange(stream, request, place).await
    }

    async fn request(&self, url: &HttpUrl, path: &str) -> Result<Request<Empty<Bytes>>, SourceError> {
        let unfit = |error: hyper::http::Error| SourceError::Unprepared(format!("{url}{path}: {error}"));
        let mut request = Request::get(url.path(path))
            .header(HOST, url.authority())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(unfit)?;
        let credentials = match &self.settings.credentials {
            HttpCredentials::Nothing => return Ok(request),
            HttpCredentials::Basic { username, password } => {
                let both = Zeroizing::new(format!("{username}:{}", *secret(password).await?));
                Zeroizing::new(format!("Basic {}", STANDARD.encode(both.as_bytes())))
            }
            HttpCredentials::Bearer(token) => Zeroizing::new(format!("Bearer {}", *secret(token).await?)),
        };
        let unfit = |_| {
            SourceError::Unprepared(format!(
                "the credentials for {url} have characters that no header can have"
            ))
        };
        let mut credentials = HeaderValue::try_from(credentials.as_str()).map_err(unfit)?;
        credentials.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, credentials);
        Ok(request)
    }

    /// Loads what TLS is spoken by, if it is, and files that were replaced since the last time.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub(crate) async fn prepare(&mut self, scheme: HttpScheme) -> Result<(), SourceError> {
        if scheme == HttpScheme::Http {
            return Ok(());
        }
        let (before, settings) = (self.tls.take(), self.settings.tls.connect_settings());
        // The roots of a machine are some hundred files' worth of parsing.
        let loading = tokio::task::spawn_blocking(move || match before {
            None => ServerTls::load(&settings).map_err(|error| error.to_string()),
            Some(tls) => {
                if tls.look() == Rotation::Broken {
                    let error = tls.problem().unwrap_or_default();
                    tracing::warn!(%error, "replaced TLS files of a source cannot be used: the old ones stay in force");
                }
                Ok(Some(tls))
            }
        });
        let loaded = loading.await.map_err(|error| error.to_string()).and_then(|loaded| loaded);
        self.tls =
            loaded.map_err(|reason| SourceError::Unprepared(format!("TLS cannot be used: {reason}")))?;
        Ok(())
    }
}

/// Limits the time of something that is asked of `url`.
///
/// # Errors
/// Its own, or that it takes too long.
pub(crate) async fn within<T>(
    timeout: Duration,
    url: &HttpUrl,
    asking: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    let slow = |_| SourceError::Slow { place: url.to_string(), after: timeout };
    tokio::time::timeout(timeout, asking).await.map_err(slow)?
}

/// Reads a secret.
async fn secret(from: &SecretFrom) -> Result<Zeroizing<String>, SourceError> {
    let file = match from {
        SecretFrom::Text(text) => return Ok(text.clone()),
        SecretFrom::File(file) => file,
    };
    read_text(file).await.map(|text| Zeroizing::new(text.trim_end().to_owned()))
}

/// The text of a small file.
///
/// # Errors
/// When it cannot be read, is too long, or no text.
pub(crate) async fn read_text(file: &std::path::Path) -> Result<Zeroizing<String>, SourceError> {
    let path = file.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        use io::Read as _;
        let mut text = Zeroizing::new(String::new());
        let read = std::fs::File::open(path)?.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text)?;
        if read as u64 > SECRET_BYTES_MAX {
            return Err(io::Error::other(format!("it is longer than {SECRET_BYTES_MAX} bytes")));
        }
        Ok(text)
    });
    let read = reading.await.map_err(io::Error::other).and_then(|read| read);
    read.map_err(|error| SourceError::Unprepared(format!("could not read {}: {error}", file.display())))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
    place: String,
) -> Result<HttpAnswer, SourceError> {
    let failed = |error: hyper::Error| failure(&place, &error);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let driving = async move {
        if let Err(error) = connection.await {
            // The request, or the body, ends with the same error.
            tracing::debug!(%error, "connection to a source ended");
        }
    };
    let driver = AbortOnDropHandle::new(tokio::spawn(driving));
    let (head, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
    Ok(HttpAnswer { place, status: head.status, body, _connection: driver })
}

fn failure(place: &str, error: &hyper::Error) -> SourceError {
    let (place, mut reason) = (place.to_owned(), error.to_string());
    if let Some(cause) = std::error::Error::source(error) {
        reason = format!("{reason}: {cause}");
    }
    match error.is_parse() {
        true => SourceError::Garbled { place, reason },
        false => SourceError::Unreachable { place, reason },
    }
}

impl HttpAnswer {
    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Goes on with an answer of status 200 only: a redirect could lead anywhere.
    ///
    /// # Errors
    /// When it is of another.
    pub(crate) fn accept(self) -> Result<Self, SourceError> {
        match self.status {
            StatusCode::OK => Ok(self),
            status => {
                Err(SourceError::Refused { place: self.place, reason: format!("its status is {status}") })
            }
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it is cut, or longer than [`ANSWER_BYTES_MAX`].
    pub(crate) async fn whole(self) -> Result<Bytes, SourceError> {
        let Self { place, body, _connection: connection, .. } = self;
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        drop(connection);
        body.map(http_body_util::Collected::to_bytes).map_err(|error| {
            match error.downcast::<hyper::Error>() {
                Ok(error) => failure(&place, &error),
                Err(_) => SourceError::Garbled {
                    place,
                    reason: format!("it is longer than {ANSWER_BYTES_MAX} bytes"),
                },
            }
        })
    }

    /// What comes next of the body; `None` at its end.
    ///
    /// # Errors
    /// When it is cut.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(failure(&self.place, &error)),
                // Trailers say nothing here.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}
