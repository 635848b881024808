//! `[[server]]`, checked.

use std::collections::HashMap;

use trunkline_control::contract::is_path;
use trunkline_topology::{Dialect, ProbeSpec, ServerSpec};

use crate::config::raw::{RawConfig, ServerEntry, SourceEntry, SourceWord};
use crate::config::{Problem, Problems, Source, units};

/// Most servers.
const SERVERS_MAX: usize = trunkline_health::SERVERS_MAX;

/// The servers, in order.
pub(super) fn servers(raw: &RawConfig, problems: &mut Problems) -> Vec<ServerSpec> {
    let sources = &raw.discovery.sources;
    let finds_the_first = |entry: &SourceEntry| !entry.kind.is_some_and(SourceWord::asks_servers);
    match sources.iter().find(|entry| !finds_the_first(entry)) {
        _ if !raw.servers.is_empty() || sources.iter().any(finds_the_first) => {}
        None => problems.push(Problem::new(&Source::Default, "server", "there is none").hint(
            "Name the servers: [[server]] in the file, or --primary HOST:PORT --replica HOST:PORT; or name a source: [[discovery.source]].",
        )),
        Some(source) => problems.push(
            Problem::new(&source.source, "server", "there is none that this source could ask").hint(
                "Name one server at least: [[server]] in the file, or --primary HOST:PORT; the source finds the others.",
            ),
        ),
    }
    if raw.servers.len() > SERVERS_MAX {
        let source = &raw.servers[SERVERS_MAX].source;
        problems.push(Problem::new(source, "server", format!("there are more than {SERVERS_MAX}")));
    }
    let parsed: Vec<_> = raw.servers.iter().filter_map(|server| address(server, problems)).collect();
    let mut hosts: HashMap<&str, usize> = HashMap::new();
    for (_, address) in &parsed {
        *hosts.entry(&address.host).or_default() += 1;
    }
    let mut specs: Vec<ServerSpec> = Vec::with_capacity(parsed.len());
    for (server, address) in &parsed {
        let name = name(server, address, hosts[address.host.as_str()] > 1);
        check_name(server, &name, &specs, problems);
        if let Some(twin) =
            specs.iter().find(|spec| is_same(&spec.host, &address.host) && spec.port == address.port)
        {
            let message = format!("{}:{} is server {:?} already", address.host, address.port, twin.name);
            problems.push(
                Problem::new(&server.address.source, "server.address", message)
                    .hint("Delete one of the two, or write the other server's own address."),
            );
        }
        check_probe(server, &raw.proxy.health.judge.probe, problems);
        specs.push(ServerSpec {
            name,
            host: address.host.clone(),
            port: address.port,
            ..server.spec.clone()
        });
    }
    specs
}

/// A query for the lag and the dialect that asks it go together.
fn check_probe(server: &ServerEntry, general: &ProbeSpec, problems: &mut Problems) {
    let spec = server.spec.probe.or(general);
    let problem = match (spec.dialect(), &spec.lag_query) {
        (Dialect::Custom, None) => Some((
            "dialect is \"custom\", and there is no lag_query",
            "Write a SELECT that gives milliseconds, an LSN or NULL as lag_query, here or in [health].",
        )),
        (Dialect::Custom, Some(_)) | (_, None) => None,
        // The general query is for others.
        (_, Some(_)) if server.spec.probe.lag_query.is_none() && server.spec.probe.dialect.is_some() => None,
        (_, Some(_)) => Some((
            "lag_query is set, and dialect is not \"custom\"",
            "Only the dialect \"custom\" asks a lag_query: set it, or delete the query.",
        )),
    };
    if let Some((message, hint)) = problem {
        problems.push(Problem::new(&server.source, "server.dialect", message).hint(hint));
    }
}

fn address<'t>(
    server: &'t ServerEntry,
    problems: &mut Problems,
) -> Option<(&'t ServerEntry, units::HostPort)> {
    let Some(text) = &server.address.value else {
        problems.push(
            Problem::new(&server.source, "server.address", "is missing")
                .hint("Write the server's host and port, such as address = \"10.0.0.12:5432\"."),
        );
        return None;
    };
    match units::server(text) {
        Ok(address) => Some((server, address)),
        Err(message) => {
            let hint = "Write a host and a port, such as \"10.0.0.12:5432\", \"db1\" or \"[::1]:5432\", or the directory of a \
                        Unix socket, such as \"/run/postgresql:5432\".";
            problems.push(Problem::new(&server.address.source, "server.address", message).hint(hint));
            None
        }
    }
}

fn name(server: &ServerEntry, address: &units::HostPort, is_host_shared: bool) -> String {
    match &server.name.value {
        Some(name) => name.clone(),
        None if is_host_shared => format!("{}:{}", short(&address.host), address.port),
        None => short(&address.host).to_owned(),
    }
}

/// Whether two hosts are one: names have no case, and `localhost` is what it stands for.
fn is_same(left: &str, right: &str) -> bool {
    let plain = |host: &str| match host.to_ascii_lowercase().as_str() {
        "localhost" | "::1" => "127.0.0.1".to_owned(),
        host => host.to_owned(),
    };
    if left.starts_with('/') || right.starts_with('/') { left == right } else { plain(left) == plain(right) }
}

/// A host's name; of a directory the last part.
fn short(host: &str) -> &str {
    host.rsplit('/').next().unwrap_or(host)
}

fn check_name(server: &ServerEntry, name: &str, before: &[ServerSpec], problems: &mut Problems) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    let problem = if !name.chars().all(is_plain) || name.len() > 63 {
        Some(format!("{name:?} is no valid name"))
    } else if is_path(name) {
        Some(format!("{name:?} is a path of the HTTP checks"))
    } else if before.iter().any(|spec| spec.name == name) {
        Some(format!("{name:?} is the name of another server"))
    } else {
        None
    };
    if let Some(message) = problem {
        let source = if server.name.value.is_some() { &server.name.source } else { &server.source };
        problems.push(
            Problem::new(source, "server.name", message)
                .hint("A name is unique, at most 63 letters, digits, \".\", \"-\", \"_\" or \":\"."),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a server of `own` where all others are asked as `general` says.
    fn wrong(own: (Option<Dialect>, Option<&str>), general: (Option<Dialect>, Option<&str>)) -> String {
        let spec = |(dialect, query): (Option<Dialect>, Option<&str>)| ProbeSpec {
            dialect,
            lag_query: query.map(Into::into),
            ..ProbeSpec::default()
        };
        let mut server = ServerEntry::default();
        server.spec.probe = spec(own);
        let mut problems = Problems::default();
        check_probe(&server, &spec(general), &mut problems);
        problems.to_string()
    }

    #[test]
    fn a_lag_query_and_the_dialect_that_asks_it_go_together() {
        let (custom, auto, query) = (Some(Dialect::Custom), Some(Dialect::Auto), Some("SELECT 1"));
        assert!(wrong((custom, None), (auto, None)).contains("there is no lag_query"));
        assert!(wrong((None, None), (auto, query)).contains("dialect is not \"custom\""));
        assert!(wrong((None, query), (auto, None)).contains("dialect is not \"custom\""));
        let fine = wrong((None, None), (auto, None));
        for (own, general) in [
            ((custom, None), (auto, query)),
            ((custom, query), (auto, None)),
            ((None, None), (custom, query)),
            ((Some(Dialect::Aurora), None), (custom, query)),
        ] {
            assert_eq!(wrong(own, general), fine, "{own:?} {general:?}");
        }
    }
}
