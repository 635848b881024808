//! A live cluster as a source.
//!
//! [`walk`] goes from the servers of the connection string to those that they name, [`look`] asks one of them, and
//! [`found`] makes the draft of what they said.

mod found;
mod look;
mod walk;

use tokio_postgres::Config;
use tokio_postgres::config::Host;
use trunkline_health::MonitorLogin;
use trunkline_tls::connect::ConnectSettings;
use trunkline_tls::fleet::{FleetSettings, FleetTls};
use trunkline_topology::{Endpoint, Origin};

use self::walk::LivePlace;
use super::draft::Draft;
use crate::Failure;
use crate::commands::conninfo_tls;
use crate::commands::serve::runtime;

/// PostgreSQL's port.
const DEFAULT_PORT: u16 = 5432;

/// Who names the servers that the connection string does not.
const FOUND: &str = "init";

/// Looks at the cluster that `conninfo` leads to. `monitor` is the monitoring role, which need not be there.
pub(super) fn draft(conninfo: &str, monitor: &str) -> Result<Draft, Failure> {
    let access =
        ClusterAccess::of(conninfo, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
    let runtime = runtime()?;
    let walked = runtime.block_on(walk::walk(&access, monitor));
    // A look-up of a name may still hang.
    runtime.shutdown_background();
    Ok(found::draft(&access, &walked?))
}

/// How the cluster's servers are logged in to.
struct ClusterAccess {
    login: MonitorLogin,
    /// The same for servers that others named.
    login_of_found: MonitorLogin,
    /// What was written about TLS.
    tls: ConnectSettings,
    /// The servers that were named.
    places: Vec<LivePlace>,
    /// The user, for messages.
    user: String,
    dbname: String,
}

impl ClusterAccess {
    /// By a connection string; what it leaves out is as libpq has it. `variable` is the environment.
    fn of(conninfo: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let (conninfo, tls) = conninfo_tls::split(conninfo, &variable)?;
        let mut config: Config = conninfo.parse().map_err(|error: tokio_postgres::Error| {
            Failure::usage(format!(
                "--from is not a valid connection string: {}",
                crate::failure::with_causes(&error)
            ))
            .hint("Write \"host=db1 port=5432 user=postgres dbname=app\" or postgresql://user@db1/app.")
        })?;
        let user =
            config.get_user().map(str::to_owned).or_else(|| variable("PGUSER")).or_else(|| variable("USER"));
        let user = user.unwrap_or_else(|| "postgres".to_owned());
        config.user(&user);
        if config.get_password().is_none()
            && let Some(password) = variable("PGPASSWORD")
        {
            config.password(password);
        }
        let dbname = config.get_dbname().map(str::to_owned).or_else(|| variable("PGDATABASE"));
        let dbname = dbname.unwrap_or_else(|| "postgres".to_owned());
        config.dbname(&dbname);
        config.application_name("trunkline init");
        let fleet = FleetSettings { all: tls.clone(), ..FleetSettings::default() };
        let fleet = FleetTls::load(&fleet).map_err(|error| Failure::usage(error.to_string()))?;
        let places = places(&config, &variable)?;
        let login = MonitorLogin { config, tls: fleet, trusts_any_server: true };
        let login_of_found = MonitorLogin { trusts_any_server: false, ..login.clone() };
        Ok(ClusterAccess { login, login_of_found, tls, places, user, dbname })
    }

    /// How the server at a place is logged in to. The operator pointed at those of the connection string alone: any server
    /// can say that it has a standby somewhere, and gets neither the password nor an md5 hash of it there.
    fn way(&self, place: &LivePlace) -> (&MonitorLogin, Endpoint) {
        let endpoint = Endpoint::new(&place.host, place.port);
        if self.places.contains(place) {
            return (&self.login, endpoint);
        }
        (&self.login_of_found, Endpoint { origin: Origin::Discovered(FOUND.into()), ..endpoint })
    }

    /// The servers that were named, for messages.
    fn shown(&self) -> String {
        self.places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// The hosts of a connection string, each with its port.
fn places(config: &Config, variable: &impl Fn(&str) -> Option<String>) -> Result<Vec<LivePlace>, Failure> {
    let mut hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(host) => host.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    if hosts.is_empty() {
        hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    if hosts.is_empty() {
        hosts.push(variable("PGHOST").unwrap_or_else(|| "127.0.0.1".to_owned()));
    }
    let default = match variable("PGPORT").map(|port| port.parse()) {
        None => DEFAULT_PORT,
        Some(Ok(port)) => port,
        Some(Err(_)) => return Err(Failure::usage("PGPORT is not a port")),
    };
    let ports = config.get_ports();
    let port = |at: usize| match ports {
        [] => default,
        [one] => *one,
        many => many.get(at).copied().unwrap_or(default),
    };
    Ok(hosts.into_iter().enumerate().map(|(at, host)| LivePlace { host, port: port(at) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_their_ports_and_the_environment_stands_in() {
        let none = |_: &str| None;
        let of = |text: &str, variable: &dyn Fn(&str) -> Option<String>| {
            ClusterAccess::of(text, variable)
                .map(|access| access.shown())
                .map_err(|failure| failure.to_string())
        };
        assert_eq!(of("host=a,b port=1,2 user=x", &none).as_deref(), Ok("a:1, b:2"));
        assert_eq!(of("host=a,/run port=7 user=x", &none).as_deref(), Ok("a:7, /run:7"));
        assert_eq!(of("postgresql://x@h/db", &none).as_deref(), Ok("h:5432"));
        let set = |name: &str| match name {
            "PGHOST" => Some("db".to_owned()),
            "PGPORT" => Some("6".to_owned()),
            _ => None,
        };
        assert_eq!(of("user=x", &set).as_deref(), Ok("db:6"));
        let error = of("host=a nonsense", &none).expect_err("it is not valid");
        assert!(error.contains("--from is not a valid connection string"), "{error}");
    }

    #[test]
    fn only_servers_that_the_operator_named_get_the_password_as_libpq_gives_it() {
        let access = ClusterAccess::of("host=a,b port=1,2 user=x password=p", |_| None);
        let access = access.map_err(|failure| failure.to_string()).expect("it is valid");
        let trusted = |host: &str, port| {
            let (login, endpoint) = access.way(&LivePlace { host: host.to_owned(), port });
            (login.trusts_any_server, endpoint.origin.is_operator())
        };
        for (host, port) in [("a", 1), ("b", 2)] {
            assert_eq!(trusted(host, port), (true, true));
        }
        for (host, port) in [("a", 2), ("10.0.0.9", 1)] {
            assert_eq!(trusted(host, port), (false, false));
        }
    }
}
