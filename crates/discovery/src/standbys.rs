//! Servers by what the primary says of its standbys, in pg_stat_replication: for clusters that nobody else manages.
//!
//! The view knows standbys that follow the server directly: those of standbys are asked of these. It does not know the port that clients use, and the
//! address is whatever connected: only addresses of the networks of the settings are believed.
//!
//! The primary itself is a member, so that it stays one when it was found as a standby before.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ipnet::IpNet;
use tokio::time::{sleep, timeout};
use tokio_postgres::Row;
use trunkline_topology::ServerId;

use crate::backoff::Backoff;
use crate::limits::MEMBERS_MAX;
use crate::member::{Member, RoleHint};
use crate::news::{NewsSender, SourceError};
use crate::presence::{Forget, SourceMemory};
use crate::sql::{AnsweringServer, AskedServer, SqlAsker, column, standbys_to_ask};
use crate::surroundings::Surroundings;

/// Who of those that take WAL may be a standby, one row for each; the last column tells a role that may not see it.
///
/// Logical subscribers hold a logical slot. pg_basebackup is in the state `backup`. pg_receivewal replays nothing, and
/// so a standby is known from the first report of what it has replayed on.
const STANDBYS: &str = "\
    SELECT pg_catalog.host(r.client_addr), r.application_name, r.state IS NULL \
    FROM pg_catalog.pg_stat_replication AS r \
    WHERE r.state IS NULL OR (r.state OPERATOR(pg_catalog.<>) 'backup' AND r.replay_lsn IS NOT NULL \
    AND r.application_name OPERATOR(pg_catalog.<>) ALL ('{pg_receivewal,pg_basebackup}') \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots AS s \
    WHERE s.active_pid OPERATOR(pg_catalog.=) r.pid AND s.slot_type OPERATOR(pg_catalog.=) 'logical')) \
    ORDER BY r.backend_start LIMIT 1001";

/// The application_name of a standby whose operator gave it none.
/// Source: PostgreSQL 18, src/backend/replication/walreceiver.c, `WalReceiverMain`.
const UNNAMED: &str = "walreceiver";

/// Addresses outside of the networks that are remembered as logged.
const STRANGERS_MAX: usize = 1024;

/// Most standbys that are asked for theirs: each has a connection for it.
const UPSTREAMS_MAX: usize = 32;

/// How long all of them have: what the primary says waits for it.
const UPSTREAM_PATIENCE: Duration = Duration::from_secs(1);

/// What is asked of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbysSettings {
    /// The networks that standbys are in; others that replicate are not believed.
    pub networks: Vec<IpNet>,
    /// The port of the standbys; `None`: the primary's.
    pub port: Option<u16>,
    /// How long a standby that the primary does not name any more stays a server: health alone judges it so long.
    pub forget_after: Duration,
}

impl StandbysSettings {
    /// Whether a member could be found by these settings. Those that are not where an address is, such as the primary under
    /// its configured name, are named by every answer.
    fn allows(&self, member: &Member) -> bool {
        let is_believed = |address: IpAddr| self.networks.iter().any(|network| network.contains(&address));
        member.host.parse().is_ok_and(is_believed) && self.port.is_none_or(|port| port == member.port)
    }
}

/// Asks until it is dropped.
pub(crate) async fn follow(
    settings: &StandbysSettings,
    interval: Duration,
    around: &Surroundings,
    presence: &SourceMemory,
    news: &NewsSender,
) -> Infallible {
    let mut asker = SqlAsker::default();
    let mut upstreams = Upstreams::default();
    presence.resume(Forget::After(settings.forget_after), |member| settings.allows(member));
    let mut strangers = Strangers::default();
    let mut backoff = Backoff::default();
    loop {
        let pause = match ask(&mut asker, &mut upstreams, settings, around).await {
            Ok(found) => {
                strangers.say(&found.strangers);
                backoff.after_answer();
                news.send(Ok(one_primary(presence.answered(found.members, Instant::now()), &found.primary)))
                    .await;
                interval
            }
            Err(error) => {
                news.send(Err(error)).await;
                backoff.after_error()
            }
        };
        sleep(pause).await;
    }
}

async fn ask(
    asker: &mut SqlAsker,
    upstreams: &mut Upstreams,
    settings: &StandbysSettings,
    around: &Surroundings,
) -> Result<FoundStandbys, SourceError> {
    let (rows, primary) = asker.ask(around, AskedServer::Primary, STANDBYS).await?;
    let mut seen = read(&rows, &primary.name)?;
    seen.extend(upstreams.ask(around).await);
    if seen.len() > MEMBERS_MAX {
        let reason = format!("it and its standbys have more than {MEMBERS_MAX} standbys");
        return Err(SourceError::Garbled { place: format!("server \"{}\"", primary.name), reason });
    }
    Ok(found(settings, &seen, primary))
}

/// The rows of the view of `server`.
fn read(rows: &[Row], server: &str) -> Result<Vec<SeenStandby>, SourceError> {
    let place = format!("server \"{server}\"");
    let mut seen = Vec::with_capacity(rows.len());
    for row in rows {
        if column(row, 2, &place)? {
            let reason =
                "the monitoring role may not see pg_stat_replication: GRANT pg_monitor to it".to_owned();
            return Err(SourceError::Refused { place, reason });
        }
        let address: Option<&str> = column(row, 0, &place)?;
        let name: Option<&str> = column(row, 1, &place)?;
        seen.push(SeenStandby {
            address: address.and_then(|address| address.parse().ok()),
            name: name.unwrap_or_default().to_owned(),
        });
    }
    Ok(seen)
}

/// The standbys that are asked for theirs, each on a connection of its own that is kept.
#[derive(Default)]
struct Upstreams(HashMap<ServerId, SqlAsker>);

impl Upstreams {
    /// What the standbys say that answer in time. One that does not takes nobody out: who is absent is remembered.
    async fn ask(&mut self, around: &Surroundings) -> Vec<SeenStandby> {
        let Some(health) = &around.health else { return Vec::new() };
        let snapshot = health.load_full();
        let mut before = std::mem::take(&mut self.0);
        let standbys = standbys_to_ask(&snapshot).take(UPSTREAMS_MAX);
        let asking = standbys.map(|server| {
            let (id, mut asker) = (server.id, before.remove(&server.id).unwrap_or_default());
            async move {
                let asked = asker.ask(around, AskedServer::Only(id), STANDBYS);
                let answer = match timeout(UPSTREAM_PATIENCE, asked).await {
                    Ok(answer) => answer.and_then(|(rows, from)| read(&rows, &from.name)),
                    Err(_elapsed) => Err(SourceError::Slow {
                        place: format!("server \"{}\"", server.name),
                        after: UPSTREAM_PATIENCE,
                    }),
                };
                (id, asker, answer)
            }
        });
        let mut seen = Vec::new();
        for (id, asker, answer) in join_all(asking).await {
            self.0.insert(id, asker);
            match answer {
                Ok(more) => seen.extend(more),
                Err(error) => tracing::debug!(%error, "a standby does not tell of its own standbys"),
            }
        }
        seen
    }
}

/// A row of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SeenStandby {
    /// `None`: it came by a Unix socket, and where it can be reached is not known.
    address: Option<IpAddr>,
    name: String,
}

/// What the view says, believed or not.
#[derive(Debug)]
struct FoundStandbys {
    members: Vec<Member>,
    strangers: Vec<IpAddr>,
    primary: AnsweringServer,
}

/// What the view makes of the cluster.
fn found(settings: &StandbysSettings, seen: &[SeenStandby], primary: AnsweringServer) -> FoundStandbys {
    let is_believed = |address: &IpAddr| settings.networks.iter().any(|network| network.contains(address));
    let addresses = || seen.iter().filter_map(|standby| Some((standby.address?, standby.name.as_str())));
    // By address: a walsender that lingers after its standby has connected anew makes no second one of it.
    let mut names: HashMap<&str, HashSet<IpAddr>> = HashMap::new();
    for (address, name) in addresses() {
        names.entry(name).or_default().insert(address);
    }
    let port = settings.port.unwrap_or(primary.port);
    let mut places = HashSet::from([(primary.host.clone(), primary.port)]);
    let mut members = vec![Member {
        name: primary.name.clone(),
        host: primary.host.clone(),
        port: primary.port,
        role: RoleHint::Primary,
        ..Member::default()
    }];
    for (address, name) in addresses().filter(|(address, _)| is_believed(address)) {
        let host = address.to_string();
        let is_own = names.get(name).is_some_and(|at| at.len() == 1)
            && name != UNNAMED
            && !name.is_empty()
            && name != primary.name;
        if places.insert((host.clone(), port)) {
            let name = if is_own { name.to_owned() } else { host.clone() };
            members.push(Member { name, host, port, role: RoleHint::Replica, ..Member::default() });
        }
    }
    let strangers = addresses().map(|(address, _)| address).filter(|address| !is_believed(address)).collect();
    FoundStandbys { members, strangers, primary }
}

/// What is remembered of one that was the primary before must not make it a second one.
fn one_primary(mut members: Vec<Member>, primary: &AnsweringServer) -> Vec<Member> {
    for member in &mut members {
        if (&member.host, member.port) != (&primary.host, primary.port) && member.role == RoleHint::Primary {
            member.role = RoleHint::Unknown;
        }
    }
    members
}

/// Addresses that are not believed, each said once.
#[derive(Debug, Default)]
struct Strangers(HashSet<IpAddr>);

impl Strangers {
    fn say(&mut self, strangers: &[IpAddr]) {
        for address in strangers {
            if self.0.len() < STRANGERS_MAX && self.0.insert(*address) {
                tracing::warn!(
                    client.address = %address,
                    "a server has a standby outside of the networks of the source: it is not used; add its network to `networks` if it may be a server"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(address: &str, name: &str) -> SeenStandby {
        SeenStandby { address: address.parse().ok(), name: name.to_owned() }
    }

    fn primary() -> AnsweringServer {
        AnsweringServer { id: ServerId(0), name: "pg1".to_owned(), host: "10.0.0.1".to_owned(), port: 5433 }
    }

    fn settings(port: Option<u16>) -> StandbysSettings {
        let networks = vec!["10.0.0.0/24".parse().expect("a network")];
        StandbysSettings { networks, port, forget_after: Duration::from_secs(60) }
    }

    fn shown(found: &FoundStandbys) -> Vec<(&str, &str, u16)> {
        found.members.iter().map(|m| (m.name.as_str(), m.host.as_str(), m.port)).collect()
    }

    #[test]
    fn a_standby_is_named_by_its_application_name_if_that_is_its_own() {
        let rows = [
            seen("10.0.0.2", "pg2"),
            seen("10.0.0.3", "walreceiver"),
            seen("10.0.0.4", "twin"),
            seen("10.0.0.5", "twin"),
            seen("10.0.0.6", "pg1"),
        ];
        let found = found(&settings(None), &rows, primary());
        let expected = [
            ("pg1", "10.0.0.1", 5433),
            ("pg2", "10.0.0.2", 5433),
            ("10.0.0.3", "10.0.0.3", 5433),
            ("10.0.0.4", "10.0.0.4", 5433),
            ("10.0.0.5", "10.0.0.5", 5433),
            ("10.0.0.6", "10.0.0.6", 5433),
        ];
        assert_eq!(shown(&found), expected);
        assert_eq!(found.members[0].role, RoleHint::Primary);
        assert_eq!(found.members[1].role, RoleHint::Replica);
    }

    #[test]
    fn only_addresses_of_the_networks_are_believed() {
        let rows = [seen("10.0.0.2", "pg2"), seen("192.0.2.7", "stranger"), seen("", "by socket")];
        let found = found(&settings(Some(6432)), &rows, primary());
        assert_eq!(shown(&found), [("pg1", "10.0.0.1", 5433), ("pg2", "10.0.0.2", 6432)]);
        assert_eq!(found.strangers, ["192.0.2.7".parse::<IpAddr>().expect("an address")]);
    }

    #[test]
    fn two_standbys_of_one_address_are_one_server() {
        let rows = [seen("10.0.0.2", "a"), seen("10.0.0.2", "b"), seen("10.0.0.1", "c")];
        let found = found(&settings(Some(5433)), &rows, primary());
        assert_eq!(shown(&found), [("pg1", "10.0.0.1", 5433), ("a", "10.0.0.2", 5433)]);
    }

    #[test]
    fn a_standby_whose_old_walsender_lingers_keeps_its_name() {
        let rows = [seen("10.0.0.2", "pg2"), seen("10.0.0.2", "pg2")];
        let found = found(&settings(None), &rows, primary());
        assert_eq!(shown(&found), [("pg1", "10.0.0.1", 5433), ("pg2", "10.0.0.2", 5433)]);
    }

    #[test]
    fn after_a_failover_the_old_primary_is_kept_for_a_while_and_is_no_second_one() {
        let now = Instant::now();
        let presence = SourceMemory::of(&[], Instant::now());
        presence.resume(Forget::After(Duration::from_secs(60)), |_| true);
        let before = found(&settings(None), &[seen("10.0.0.2", "pg2")], primary());
        presence.answered(before.members, now);
        let promoted = AnsweringServer { name: "pg2".to_owned(), host: "10.0.0.2".to_owned(), ..primary() };
        let after = found(&settings(None), &[], promoted);
        let members = one_primary(presence.answered(after.members, now), &after.primary);
        let roles: Vec<_> = members.iter().map(|member| (member.name.as_str(), member.role)).collect();
        assert_eq!(roles, [("pg1", RoleHint::Unknown), ("pg2", RoleHint::Primary)]);
    }
}
