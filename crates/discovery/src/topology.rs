//! Servers by what a managed cluster says of itself in SQL: RDS Multi-AZ DB clusters and Aurora.
//!
//! Both answer on any of their instances, from the first moment of a failover on, long before DNS does.
//!
//! Sources: "Connecting to a Multi-AZ DB cluster with the Amazon Web Services drivers" in the Amazon RDS User Guide
//! (`rds_tools.show_topology`), `aurora_replica_status` in the Amazon Aurora User Guide.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Row;

use crate::backoff::Backoff;
use crate::limits::MEMBERS_MAX;
use crate::member::{Member, RoleHint};
use crate::news::{NewsSender, SourceError};
use crate::sql::{AskedServer, SqlAsker, column};
use crate::surroundings::Surroundings;

/// What stands for an instance's name in [`EndpointTemplate`].
const PLACEHOLDER: &str = "{id}";

/// Longest name of an instance. Source: RFC 1035, 2.3.4: it is a label of its endpoint.
const INSTANCE_BYTES_MAX: usize = 63;

/// The instances of an RDS Multi-AZ DB cluster: id, endpoint, port.
const RDS: &str =
    "SELECT id::text, endpoint::text, port::int4 FROM rds_tools.show_topology('trunkline') LIMIT 1001";

/// The instances of an Aurora cluster: name, NULL, whether it is the writer. What has been silent for 5 minutes is gone.
const AURORA: &str = "\
    SELECT server_id::text, NULL::text, session_id OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID' \
    FROM pg_catalog.aurora_replica_status() \
    WHERE last_update_timestamp IS NULL OR last_update_timestamp OPERATOR(pg_catalog.>) \
    (pg_catalog.now() OPERATOR(pg_catalog.-) '5 min'::pg_catalog.interval) \
    ORDER BY server_id LIMIT 1001";

/// Whose way of telling its topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagedCluster {
    /// An RDS Multi-AZ DB cluster.
    Rds,
    /// Aurora.
    Aurora,
}

impl ManagedCluster {
    /// Its word in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rds => "rds",
            Self::Aurora => "aurora",
        }
    }
}

/// What is asked of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologySettings {
    /// Whose it is.
    pub cluster: ManagedCluster,
    /// The endpoint of an instance, by its name. Aurora says names alone; `None` for RDS: what it says itself.
    pub endpoint: Option<EndpointTemplate>,
}

/// The endpoint of an instance with a place for its name: `{id}.abc123.eu-west-1.rds.amazonaws.com:5432`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTemplate {
    before: String,
    after: String,
    port: u16,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Where the name belongs.
    #[error("{0:?} does not have {{id}} once")]
    Placeholder(String),
    /// Its host.
    #[error("{0:?} is not a host name around {{id}}")]
    Host(String),
    /// Its port.
    #[error("{0:?} has no valid port (1 to 65535)")]
    Port(String),
}

impl EndpointTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.trim();
        let (host, port) = text.rsplit_once(':').unwrap_or((text, "5432"));
        let port = match port.parse() {
            Ok(port) if port != 0 => port,
            Ok(_) | Err(_) => return Err(TemplateError::Port(text.to_owned())),
        };
        let Some((before, after)) =
            host.split_once(PLACEHOLDER).filter(|(_, after)| !after.contains(PLACEHOLDER))
        else {
            return Err(TemplateError::Placeholder(text.to_owned()));
        };
        let is_plain = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !is_plain(before) || !is_plain(after) || host.len() + INSTANCE_BYTES_MAX > crate::limits::HOST_MAX
        {
            return Err(TemplateError::Host(text.to_owned()));
        }
        Ok(Self { before: before.to_owned(), after: after.to_owned(), port })
    }

    /// Host and port of an instance.
    fn place(&self, instance: &str) -> (String, u16) {
        (format!("{}{instance}{}", self.before, self.after), self.port)
    }
}

/// Asks until it is dropped.
pub(crate) async fn follow(
    settings: &TopologySettings,
    interval: Duration,
    around: &Surroundings,
    news: &NewsSender,
) -> Infallible {
    let mut asker = SqlAsker::default();
    let mut backoff = Backoff::default();
    loop {
        let members = ask(&mut asker, settings, around).await;
        let pause = match members {
            Ok(_) => {
                backoff.after_answer();
                interval
            }
            Err(_) => backoff.after_error(),
        };
        news.send(members).await;
        sleep(pause).await;
    }
}

async fn ask(
    asker: &mut SqlAsker,
    settings: &TopologySettings,
    around: &Surroundings,
) -> Result<Vec<Member>, SourceError> {
    let query = match settings.cluster {
        ManagedCluster::Rds => RDS,
        ManagedCluster::Aurora => AURORA,
    };
    let (rows, asked) = asker.ask(around, AskedServer::Any, query).await?;
    let place = format!("server \"{}\"", asked.name);
    if rows.len() > MEMBERS_MAX {
        let reason = format!("it names more than {MEMBERS_MAX} instances");
        return Err(SourceError::Garbled { place, reason });
    }
    let instances: Result<Vec<_>, _> =
        rows.iter().map(|row| instance(row, settings.cluster, &place)).collect();
    members(settings, &instances?, &place)
}

/// A row of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Instance {
    id: String,
    endpoint: Option<String>,
    port: Option<i32>,
    role: RoleHint,
}

fn instance(row: &Row, cluster: ManagedCluster, place: &str) -> Result<Instance, SourceError> {
    let id: Option<String> = column(row, 0, place)?;
    let id = id.unwrap_or_default();
    match cluster {
        ManagedCluster::Rds => Ok(Instance {
            id,
            endpoint: column(row, 1, place)?,
            port: column(row, 2, place)?,
            role: RoleHint::Unknown,
        }),
        ManagedCluster::Aurora => {
            let is_writer: Option<bool> = column(row, 2, place)?;
            let role = match is_writer {
                Some(true) => RoleHint::Primary,
                Some(false) => RoleHint::Replica,
                None => RoleHint::Unknown,
            };
            Ok(Instance { id, role, ..Instance::default() })
        }
    }
}

fn members(
    settings: &TopologySettings,
    instances: &[Instance],
    place: &str,
) -> Result<Vec<Member>, SourceError> {
    let garbled = |reason: String| SourceError::Garbled { place: place.to_owned(), reason };
    let member = |instance: &Instance| {
        let Instance { id, endpoint, port, role } = instance;
        // The first label of an endpoint is the instance's name; RDS says a resource id beside it.
        let name = match endpoint {
            Some(endpoint) => endpoint.split('.').next().unwrap_or_default(),
            None => id.as_str(),
        };
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if name.is_empty() || !is_plain || name.len() > INSTANCE_BYTES_MAX {
            return Err(garbled(format!("{:?} is no name of an instance", shortened(name))));
        }
        let (host, port) = match (&settings.endpoint, endpoint, port) {
            (Some(template), _, _) => template.place(name),
            (None, Some(endpoint), Some(port)) => {
                let port = u16::try_from(*port).ok().filter(|port| *port != 0);
                let port = port.ok_or_else(|| garbled(format!("instance {name} has no valid port")))?;
                (endpoint.clone(), port)
            }
            (None, _, _) => return Err(garbled(format!("instance {name} has no endpoint: set `endpoint`"))),
        };
        Ok(Member { name: name.to_owned(), host, port, role: *role, ..Member::default() })
    };
    instances.iter().map(member).collect()
}

/// What a server says, short enough for a message.
fn shortened(name: &str) -> String {
    name.chars().take(INSTANCE_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> EndpointTemplate {
        EndpointTemplate::parse(text).expect("a template")
    }

    #[test]
    fn a_template_has_one_place_for_the_name() {
        let place = template("{id}.abc123.eu-west-1.rds.amazonaws.com:5433").place("db-1");
        assert_eq!(place, ("db-1.abc123.eu-west-1.rds.amazonaws.com".to_owned(), 5433));
        assert_eq!(template("pg-{id}.local").place("1"), ("pg-1.local".to_owned(), 5432));
        let error = |text: &str| EndpointTemplate::parse(text).expect_err("no template").to_string();
        assert!(error("db.example.com:5432").contains("{id} once"));
        assert!(error("{id}.{id}.com").contains("{id} once"));
        assert!(error("{id}.example.com:0").contains("port"));
        assert!(error("{id}/x:5432").contains("host name"));
        assert!(error(&format!("{{id}}.{}", "a".repeat(250))).contains("host name"));
    }

    #[test]
    fn an_aurora_instance_is_found_by_its_template() {
        let endpoint = Some(template("{id}.abc.rds.amazonaws.com:5432"));
        let settings = TopologySettings { cluster: ManagedCluster::Aurora, endpoint };
        let instances = [
            Instance { id: "writer-1".to_owned(), role: RoleHint::Primary, ..Instance::default() },
            Instance { id: "reader-1".to_owned(), role: RoleHint::Replica, ..Instance::default() },
        ];
        let members = members(&settings, &instances, "here").expect("members");
        assert_eq!(members[0].host, "writer-1.abc.rds.amazonaws.com");
        assert_eq!((members[0].role, members[1].role), (RoleHint::Primary, RoleHint::Replica));
    }

    #[test]
    fn an_rds_instance_is_named_after_its_endpoint() {
        let settings = TopologySettings { cluster: ManagedCluster::Rds, endpoint: None };
        let instance = |endpoint: &str, port| Instance {
            id: "db-ABCDEFG".to_owned(),
            endpoint: Some(endpoint.to_owned()),
            port: Some(port),
            role: RoleHint::Unknown,
        };
        let good = [instance("cluster-1-instance-1.abc.eu-west-1.rds.amazonaws.com", 5432)];
        let found = members(&settings, &good, "here").expect("members");
        assert_eq!(found[0].name, "cluster-1-instance-1");
        assert_eq!(found[0].host, "cluster-1-instance-1.abc.eu-west-1.rds.amazonaws.com");
        let error = |instance| members(&settings, &[instance], "here").expect_err("refused").to_string();
        assert!(error(instance("a.b", 0)).contains("port"));
        assert!(error(instance("a.b", 70_000)).contains("port"));
        assert!(error(instance("a b.c", 5432)).contains("no name of an instance"));
        assert!(error(Instance { id: "x".to_owned(), ..Instance::default() }).contains("set `endpoint`"));
    }
}
