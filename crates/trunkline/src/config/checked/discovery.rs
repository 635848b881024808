//! `[discovery]`, checked.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use trunkline_discovery::check::is_name;
use trunkline_discovery::dns::{DNS_NAMES_MAX, DnsName, DnsSettings};
use trunkline_discovery::http::{
    CertificateCheck, HttpCredentials, HttpSettings, HttpTls, HttpUrl, SecretFrom,
};
use trunkline_discovery::kubernetes::{self, KubernetesSettings, SERVICES_MAX};
use trunkline_discovery::limits::SOURCES_MAX;
use trunkline_discovery::patroni::{self, PatroniSettings, URLS_MAX};
use trunkline_discovery::standbys::StandbysSettings;
use trunkline_discovery::topology::{EndpointTemplate, ManagedCluster, TopologySettings};
use trunkline_discovery::{SourceKind, SourceSettings};
use trunkline_proxy::settings::DiscoverySettings;

use crate::config::raw::{DiscoverySection, SourceEntry, SourceWord, Sourced};
use crate::config::words::Word as _;
use crate::config::{Problem, Problems, Source};

/// Time between two questions by SQL, unless configured.
const SQL_INTERVAL: Duration = Duration::from_secs(5);

/// Shortest time between two questions.
const INTERVAL_MIN: Duration = Duration::from_millis(500);

/// Shortest time for one answer: in less, a source never gives one.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Where a pod's environment says that the API of Kubernetes is: host and port.
pub type PodApi = Option<(String, String)>;

/// The sources, in order, and where their answers are kept.
pub(super) fn discovery(
    section: &DiscoverySection,
    pod_api: &PodApi,
    problems: &mut Problems,
) -> DiscoverySettings {
    if let Some(extra) = section.sources.get(SOURCES_MAX) {
        problems.push(Problem::new(
            &extra.source,
            "discovery.source",
            format!("there are more than {SOURCES_MAX}"),
        ));
    }
    let mut sources: Vec<SourceSettings> = Vec::with_capacity(section.sources.len());
    for entry in &section.sources {
        let Some(kind) = entry.kind else {
            let key = "discovery.source.kind";
            if problems.0.iter().any(|problem| problem.key == key) {
                // One that is none has been reported.
                continue;
            }
            let words = SourceWord::WORDS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            problems
                .push(Problem::new(&entry.source, key, "is missing").hint(format!("Write one of: {words}.")));
            continue;
        };
        let mut reader = SourceEntryReader { entry, kind, problems };
        reader.refuse_foreign_keys();
        let name = reader.name(&sources);
        let interval = reader.interval();
        if let Some(kind) = reader.kind(pod_api) {
            sources.push(SourceSettings { name, kind, weight: entry.weight, interval });
        }
    }
    let state_dir = section.state_dir.value.as_ref().map(PathBuf::from);
    if let Some(directory) = state_dir.as_ref().filter(|directory| !directory.is_dir()) {
        let message = format!("there is no directory {}", directory.display());
        problems.push(
            Problem::new(&section.state_dir.source, "discovery.state_dir", message)
                .hint("Create it, owned by the user that the proxy runs as."),
        );
    }
    DiscoverySettings { sources, state_dir }
}

struct SourceEntryReader<'a> {
    entry: &'a SourceEntry,
    kind: SourceWord,
    problems: &'a mut Problems,
}

impl SourceEntryReader<'_> {
    fn problem(&mut self, source: &Source, key: &str, message: impl Into<String>, hint: &str) {
        self.problems
            .push(Problem::new(source, format!("discovery.source.{key}"), message.into()).hint(hint));
    }

    /// A key that the kind needs.
    fn missing<T>(&mut self, key: &str, hint: &str) -> Option<T> {
        let message = format!("is missing, and kind {} needs it", self.kind.word());
        self.problem(&self.entry.source, key, message, hint);
        None
    }

    fn refuse_foreign_keys(&mut self) {
        for (key, source, kinds) in self.entry.written() {
            if !kinds.contains(&self.kind) {
                let kinds = kinds.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(", ");
                let message = format!("is no key of kind {}", self.kind.word());
                self.problem(source, key, message, &format!("Delete it; it belongs to: {kinds}."));
            }
        }
    }

    fn name(&mut self, before: &[SourceSettings]) -> Arc<str> {
        let written = &self.entry.name;
        let name = written.value.clone().unwrap_or_else(|| self.kind.word().to_owned());
        let message = if !is_name(&name) {
            Some(format!("{name:?} is no valid name"))
        } else if before.iter().any(|source| *source.name == *name) {
            Some(format!("{name:?} is the name of another source"))
        } else {
            None
        };
        if let Some(message) = message {
            let source = if written.value.is_some() { &written.source } else { &self.entry.source };
            let hint = "A name is unique, at most 63 letters, digits, \".\", \"-\", \"_\" or \":\".";
            self.problem(source, "name", message, hint);
        }
        name.into()
    }

    fn interval(&mut self) -> Duration {
        let usual = match self.kind {
            SourceWord::Patroni => patroni::INTERVAL,
            SourceWord::Kubernetes => kubernetes::INTERVAL,
            SourceWord::Dns | SourceWord::Rds | SourceWord::Aurora | SourceWord::Standbys => SQL_INTERVAL,
        };
        let interval = self.entry.interval.value.unwrap_or(usual);
        self.refuse_shorter("interval", interval, INTERVAL_MIN, &self.entry.interval.source);
        interval
    }

    fn refuse_shorter(&mut self, key: &str, value: Duration, least: Duration, source: &Source) {
        if value < least {
            let least = least.as_millis();
            let hint = format!("Write \"{least}ms\" or more.");
            self.problem(source, key, format!("is shorter than {least}ms"), &hint);
        }
    }

    fn kind(&mut self, pod_api: &PodApi) -> Option<SourceKind> {
        Some(match self.kind {
            SourceWord::Dns => SourceKind::Dns(self.dns()?),
            SourceWord::Patroni => SourceKind::Patroni(self.patroni()?),
            SourceWord::Kubernetes => SourceKind::Kubernetes(self.kubernetes(pod_api)?),
            SourceWord::Rds => SourceKind::Topology(self.topology(ManagedCluster::Rds)?),
            SourceWord::Aurora => SourceKind::Topology(self.topology(ManagedCluster::Aurora)?),
            SourceWord::Standbys => SourceKind::Standbys(self.standbys()?),
        })
    }

    fn dns(&mut self) -> Option<DnsSettings> {
        let entry = self.entry;
        let hint = "Write names = [\"db.example.com:5432\"], or an SRV name such as \"_postgresql._tcp.example.com\".";
        let names = self.list("names", &entry.names, DNS_NAMES_MAX, hint, |text| {
            DnsName::parse(text).map_err(|error| error.to_string())
        })?;
        let resolver = match &entry.resolver.value {
            None => None,
            Some(text) => {
                match text.parse().or_else(|_| text.parse().map(|ip: std::net::IpAddr| (ip, 53).into())) {
                    Ok(address) => Some(address),
                    Err(_) => {
                        let message = format!("{text:?} is no address");
                        let hint =
                            "Write the address of a name server and its port, such as \"10.0.0.2:53\".";
                        self.problem(&entry.resolver.source, "resolver", message, hint);
                        return None;
                    }
                }
            }
        };
        let (ttl_min, ttl_max) = (entry.ttl_min.value, entry.ttl_max.value);
        self.refuse_shorter("ttl_min", ttl_min, INTERVAL_MIN, &entry.ttl_min.source);
        if ttl_min > ttl_max {
            let source =
                if entry.ttl_min.source == Source::Default { &entry.ttl_max } else { &entry.ttl_min };
            self.problem(&source.source, "ttl_min", "is longer than ttl_max", "Lower it, or raise ttl_max.");
        }
        Some(DnsSettings { names, resolver, family: entry.family.unwrap_or_default(), ttl_min, ttl_max })
    }

    fn patroni(&mut self) -> Option<PatroniSettings> {
        let entry = self.entry;
        let hint = "Write urls = [\"https://10.0.0.11:8008\", \"https://10.0.0.12:8008\"].";
        let urls = self.list("urls", &entry.urls, URLS_MAX, hint, |text| {
            text.parse::<HttpUrl>().map_err(|error| error.to_string())
        })?;
        self.refuse_shorter("timeout", entry.timeout.value, TIMEOUT_MIN, &entry.timeout.source);
        let credentials = self.credentials()?;
        if entry.cert_file.value.is_some() != entry.key_file.value.is_some() {
            let (key, source) = match entry.cert_file.value {
                Some(_) => ("cert_file", &entry.cert_file.source),
                None => ("key_file", &entry.key_file.source),
            };
            self.problem(source, key, "has no counterpart", "Write cert_file and key_file, or neither.");
        }
        let check = if entry.verify.value { CertificateCheck::Full } else { CertificateCheck::Nothing };
        let tls = HttpTls {
            ca_file: entry.ca_file.value.clone(),
            cert_file: entry.cert_file.value.clone(),
            key_file: entry.key_file.value.clone(),
            check,
        };
        Some(PatroniSettings { urls, timeout: entry.timeout.value, http: HttpSettings { tls, credentials } })
    }

    fn credentials(&mut self) -> Option<HttpCredentials> {
        let entry = self.entry;
        let password = match (&entry.password.value, &entry.password_file.value) {
            (None, None) => None,
            (Some(password), None) => Some(SecretFrom::Text(password.clone().into())),
            (None, Some(file)) => Some(SecretFrom::File(file.into())),
            (Some(_), Some(_)) => {
                let message = "is set together with password";
                self.problem(&entry.password_file.source, "password_file", message, "Delete one of them.");
                return None;
            }
        };
        match (&entry.username.value, password) {
            (None, None) => Some(HttpCredentials::Nothing),
            (Some(username), Some(password)) if !username.contains(':') => {
                Some(HttpCredentials::Basic { username: username.clone(), password })
            }
            (Some(_), Some(_)) => {
                let hint = "HTTP's basic authentication has no user with a colon.";
                self.problem(&entry.username.source, "username", "has a colon", hint);
                None
            }
            (Some(_), None) => {
                let hint = "Write password or password_file beside username.";
                self.problem(&entry.username.source, "password", "is missing beside username", hint);
                None
            }
            (None, Some(_)) => {
                let hint = "Write username beside the password.";
                self.problem(&entry.source, "username", "is missing beside the password", hint);
                None
            }
        }
    }

    fn kubernetes(&mut self, pod_api: &PodApi) -> Option<KubernetesSettings> {
        let entry = self.entry;
        let hint = "Write the names of the Services, such as services = [\"cluster-r\"].";
        let services = self.list("services", &entry.services, SERVICES_MAX, hint, |text| {
            let is_plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            match is_plain && !text.is_empty() && text.len() <= 63 {
                true => Ok(text.to_owned()),
                false => Err(format!("{text:?} is no name of a Service")),
            }
        })?;
        let api = match (&entry.api.value, pod_api) {
            (Some(text), _) => text.parse::<HttpUrl>().map_err(|error| (&entry.api.source, error)),
            (None, Some((host, port))) => {
                KubernetesSettings::api_in_pod(host, port).map_err(|error| (&entry.source, error))
            }
            (None, None) => {
                let hint = "Write the URL of the API, such as api = \"https://10.0.0.1:6443\": \
                            KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are set in pods alone.";
                return self.missing("api", hint);
            }
        };
        let api = match api {
            Ok(api) => api,
            Err((source, error)) => {
                self.problem(source, "api", error.to_string(), "Write it as \"https://10.0.0.1:6443\".");
                return None;
            }
        };
        let mut settings = KubernetesSettings::in_pod(api, services);
        if let Some(file) = &entry.ca_file.value {
            settings.ca_file = file.clone();
        }
        if let Some(file) = &entry.token_file.value {
            settings.token_file = Some(file.into());
        }
        settings.namespace = entry.namespace.value.clone();
        settings.port_name = entry.port_name.value.clone();
        Some(settings)
    }

    fn topology(&mut self, cluster: ManagedCluster) -> Option<TopologySettings> {
        let hint = "Write the endpoint of an instance with {id} for its name, such as \
                    endpoint = \"{id}.abc123.eu-west-1.rds.amazonaws.com:5432\".";
        let endpoint = match (&self.entry.endpoint.value, cluster) {
            (None, ManagedCluster::Aurora) => return self.missing("endpoint", hint),
            (None, ManagedCluster::Rds) => None,
            (Some(text), _) => match EndpointTemplate::parse(text) {
                Ok(template) => Some(template),
                Err(error) => {
                    self.problem(&self.entry.endpoint.source, "endpoint", error.to_string(), hint);
                    return None;
                }
            },
        };
        Some(TopologySettings { cluster, endpoint })
    }

    fn standbys(&mut self) -> Option<StandbysSettings> {
        let entry = self.entry;
        if entry.networks.value.is_empty() {
            let hint = "Write the networks that standbys are in, such as networks = \"10.0.0.0/8\".";
            return self.missing("networks", hint);
        }
        Some(StandbysSettings {
            networks: entry.networks.value.clone(),
            port: entry.port.value,
            forget_after: entry.forget_after.value,
        })
    }

    /// A list of one to `most`, each read; `None` if one of them is wrong.
    fn list<T>(
        &mut self,
        key: &str,
        written: &Sourced<Vec<String>>,
        most: usize,
        hint: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        if written.value.is_empty() {
            return self.missing(key, hint);
        }
        if written.value.len() > most {
            self.problem(&written.source, key, format!("has more than {most}"), hint);
            return None;
        }
        let mut all = Vec::with_capacity(written.value.len());
        for text in &written.value {
            match read(text) {
                Ok(value) => all.push(value),
                Err(message) => self.problem(&written.source, key, message, hint),
            }
        }
        (all.len() == written.value.len()).then_some(all)
    }
}
