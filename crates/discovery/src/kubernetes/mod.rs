//! The endpoints of Kubernetes Services, by EndpointSlices of the API.
//!
//! - `slices`: what the API says, and which members that are; pure.
//! - `lines`: the lines of a watch; pure.
//! - `watch`: list, watch, and what follows the end of a watch.

mod bounded;
mod lines;
mod slices;
mod watch;

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use crate::http::{HttpScheme, HttpUrl, UrlError};
use crate::news::NewsSender;

/// The longest time without a new question, unless configured.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// How long a list, and the beginning of a watch, may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Most Services of one source.
pub const SERVICES_MAX: usize = 16;

/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// EndpointSlices of Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// Where the API is.
    pub api: HttpUrl,
    /// PEM: who vouches for it.
    pub ca_file: String,
    /// The token that shows who asks; read again for each request. `None`: nothing is shown.
    pub token_file: Option<PathBuf>,
    /// The Services' namespace. `None`: the pod's own, in [`namespace_file`](Self::namespace_file).
    pub namespace: Option<String>,
    /// Where the pod's own namespace is.
    pub namespace_file: PathBuf,
    /// The Services; one at least, at most [`SERVICES_MAX`].
    pub services: Vec<String>,
    /// The name of the port in the Services. `None`: the only one they have.
    pub port_name: Option<String>,
}

impl KubernetesSettings {
    /// As a pod has them.
    #[must_use]
    pub fn in_pod(api: HttpUrl, services: Vec<String>) -> Self {
        Self {
            api,
            ca_file: format!("{ACCOUNT}/ca.crt"),
            token_file: Some(format!("{ACCOUNT}/token").into()),
            namespace: None,
            namespace_file: format!("{ACCOUNT}/namespace").into(),
            services,
            port_name: None,
        }
    }

    /// Where a pod finds the API: of the values of `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`.
    ///
    /// # Errors
    /// When they are no host and no port.
    pub fn api_in_pod(host: &str, port: &str) -> Result<HttpUrl, UrlError> {
        let port = port.parse().map_err(|_| UrlError::Garbled(format!("{host}:{port}")))?;
        HttpUrl::new(HttpScheme::Https, host, port)
    }
}

/// Asks until it is dropped.
pub(crate) async fn follow(
    settings: &KubernetesSettings,
    interval: Duration,
    news: &NewsSender,
) -> Infallible {
    watch::follow(settings, interval, news).await
}
