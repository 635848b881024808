//! Asks name servers, by hickory-resolver.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::{join, try_join_all};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::time::timeout;

use super::records::{ServiceTarget, TargetHost, of_host, of_service, tell_apart};
use super::{DnsName, DnsSettings};
use crate::limits::MEMBERS_MAX;
use crate::member::Member;
use crate::news::SourceError;

/// How long one name server has for one answer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a question is asked again that nobody answers.
const QUERY_ATTEMPTS: usize = 1;

/// How long all names together may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Targets of SRV records that are looked up, of one name.
const TARGETS_MAX: usize = 128;

/// All names' members, and for how long that holds.
#[derive(Debug)]
pub(super) struct DnsAnswer {
    pub(super) members: Vec<Member>,
    pub(super) valid_for: Duration,
}

/// Whoever asks, with its sockets.
#[derive(Default)]
pub(super) struct DnsAsker {
    /// `None` after an error: what is in /etc/resolv.conf may be what is wrong, and is read again.
    resolver: Option<TokioResolver>,
}

impl DnsAsker {
    /// Asks for all names.
    ///
    /// # Errors
    /// The first name that gives no address, and why.
    pub(super) async fn ask(&mut self, settings: &DnsSettings) -> Result<DnsAnswer, SourceError> {
        let resolver = match self.resolver.take() {
            Some(resolver) => resolver,
            None => open(settings.resolver)?,
        };
        // How long an answer is kept is this source's own matter.
        resolver.clear_cache();
        let asked = NameQuestion { resolver: &resolver, settings };
        let all = try_join_all(settings.names.iter().map(|name| asked.members(name)));
        let answers = timeout(ASK_TIMEOUT, all).await.map_err(|_elapsed| SourceError::Slow {
            place: place(settings.resolver),
            after: ASK_TIMEOUT,
        })??;
        self.resolver = Some(resolver);
        let valid_for = answers.iter().map(|answer| answer.valid_for).min().unwrap_or_default();
        let members = answers.into_iter().flat_map(|answer| answer.members).collect();
        Ok(DnsAnswer { members: tell_apart(members), valid_for })
    }
}

/// The resolver of the settings.
fn open(server: Option<SocketAddr>) -> Result<TokioResolver, SourceError> {
    let unprepared = |what: &str, error: NetError| SourceError::Unprepared(format!("{what}: {error}"));
    let mut builder = match server {
        None => {
            Resolver::builder_tokio().map_err(|error| unprepared("could not read /etc/resolv.conf", error))?
        }
        Some(server) => {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = QUERY_TIMEOUT;
    options.attempts = QUERY_ATTEMPTS;
    options.use_hosts_file = if server.is_some() { ResolveHosts::Never } else { ResolveHosts::Auto };
    builder.build().map_err(|error| unprepared("could not start the resolver", error))
}

/// Who is asked, for messages.
fn place(server: Option<SocketAddr>) -> String {
    server.map_or_else(
        || "the name servers of /etc/resolv.conf".to_owned(),
        |server| format!("name server {server}"),
    )
}

/// Addresses of a host, and for how long they hold.
struct HostAddresses {
    addresses: Vec<IpAddr>,
    valid_for: Duration,
}

struct NameQuestion<'a> {
    resolver: &'a TokioResolver,
    settings: &'a DnsSettings,
}

impl NameQuestion<'_> {
    async fn members(&self, name: &DnsName) -> Result<DnsAnswer, SourceError> {
        match name {
            DnsName::Host { name, port } => {
                let HostAddresses { addresses, valid_for } = self.addresses(name).await?;
                Ok(DnsAnswer { members: of_host(&addresses, *port), valid_for })
            }
            DnsName::Service(name) => self.service(name).await,
        }
    }

    async fn service(&self, name: &str) -> Result<DnsAnswer, SourceError> {
        let records = self.resolver.lookup(name, RecordType::SRV).await;
        let records = records.map_err(|error| self.failure(name, &error))?;
        let mut valid_for = valid_for(&records);
        let targets = records.answers().iter().filter_map(|record| match &record.data {
            // A target that is the root says that there is no such service.
            RData::SRV(srv) if !srv.target.is_root() && srv.port != 0 => Some(srv),
            _other => None,
        });
        let targets: Vec<_> = targets.take(TARGETS_MAX + 1).collect();
        match targets.len() {
            0 => return Err(self.nothing(name, "it has no SRV records that name a server")),
            number if number > TARGETS_MAX => {
                return Err(self.nothing(name, &format!("it has more than {TARGETS_MAX} SRV records")));
            }
            _fits => {}
        }
        let lookups = targets.iter().map(async |srv| {
            // With the point at its end, so that no search domain is appended.
            let found = self.addresses(&srv.target.to_ascii()).await?;
            let target = srv.target.to_ascii().trim_end_matches('.').to_owned();
            let looked_up =
                ServiceTarget { target, port: srv.port, weight: srv.weight, addresses: found.addresses };
            Ok::<_, SourceError>((looked_up, found.valid_for))
        });
        let mut looked_up = Vec::with_capacity(targets.len());
        for (target, holds) in try_join_all(lookups).await? {
            valid_for = valid_for.min(holds);
            looked_up.push(target);
        }
        // Records come in any order; members have always the same.
        looked_up.sort_by(|left, right| (&left.target, left.port).cmp(&(&right.target, right.port)));
        let host = match self.settings.resolver {
            Some(_) => TargetHost::Address,
            None => TargetHost::Name,
        };
        Ok(DnsAnswer { members: of_service(&looked_up, host), valid_for })
    }

    async fn addresses(&self, name: &str) -> Result<HostAddresses, SourceError> {
        let (ipv4, ipv6) =
            join(self.resolver.lookup(name, RecordType::A), self.resolver.lookup(name, RecordType::AAAA))
                .await;
        let mut addresses = Vec::new();
        let mut holds = None;
        let mut last = None;
        for records in [ipv4, ipv6] {
            match records {
                Ok(records) => {
                    let valid_for = valid_for(&records);
                    holds = Some(holds.map_or(valid_for, |before: Duration| before.min(valid_for)));
                    addresses.extend(records.answers().iter().filter_map(|record| record.data.ip_addr()));
                }
                // The name has no address of this family.
                Err(error) if is_empty(&error) => last = Some(error),
                // What it has of this family is not known: half of an answer is none.
                Err(error) => return Err(self.failure(name, &error)),
            }
        }
        let picked = self.settings.family.pick(&addresses);
        match (picked.len(), last) {
            (0, Some(error)) if addresses.is_empty() => Err(self.failure(name, &error)),
            (0, _) => Err(self.nothing(name, "it has no address of the family asked for")),
            (number, _) if number > MEMBERS_MAX => {
                Err(self.nothing(name, &format!("it has more than {MEMBERS_MAX} addresses")))
            }
            _some => Ok(HostAddresses { addresses: picked, valid_for: holds.unwrap_or_default() }),
        }
    }

    fn nothing(&self, name: &str, reason: &str) -> SourceError {
        SourceError::Garbled { place: place(self.settings.resolver), reason: format!("{name}: {reason}") }
    }

    fn failure(&self, name: &str, error: &NetError) -> SourceError {
        let place = place(self.settings.resolver);
        let refused =
            |reason: &str| SourceError::Refused { place: place.clone(), reason: format!("{name}: {reason}") };
        match error {
            NetError::Timeout => {
                let place = format!("{place}, asked for {name},");
                SourceError::Slow { place, after: QUERY_TIMEOUT }
            }
            NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => match response_code {
                ResponseCode::NXDomain => refused("there is no such name (NXDOMAIN)"),
                ResponseCode::NoError => refused("it has no such records, or its CNAME records lead to none"),
                code => refused(&code.to_string()),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => refused(&code.to_string()),
            error @ (NetError::Io(_) | NetError::NoConnections | NetError::Busy) => {
                SourceError::Unreachable { place, reason: format!("{name}: {error}") }
            }
            error => SourceError::Garbled { place, reason: format!("{name}: {error}") },
        }
    }
}

/// Whether the name may be there without records of the kind.
fn is_empty(error: &NetError) -> bool {
    matches!(
        error,
        NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code: ResponseCode::NoError | ResponseCode::NXDomain,
            ..
        }))
    )
}

fn valid_for(records: &Lookup) -> Duration {
    records.valid_until().saturating_duration_since(Instant::now())
}
