//! `[[target]]` as meant.

use std::collections::HashMap;

use trunkline_health::{AdminState, ExpectedRole, NodeSpec};

use crate::config::typed::{AsTyped, Role, Target, TargetState};
use crate::config::{Problem, Problems, Source, units};

/// Most targets.
const TARGETS_MAX: usize = trunkline_health::NODES_MAX;

/// Paths of the HTTP contract that a target's name would hide. `primary` may be a name: it means that target.
const RESERVED: [&str; 14] = [
    "replica",
    "read-only",
    "read-write",
    "leader",
    "health",
    "cluster",
    "metrics",
    "livez",
    "readyz",
    "liveness",
    "readiness",
    "patroni",
    "status",
    "master",
];

/// The targets, in order.
pub(super) fn targets(typed: &AsTyped, problems: &mut Problems) -> Vec<NodeSpec> {
    if typed.targets.is_empty() {
        problems.push(
            Problem::new(&Source::Default, "target", "there is none").hint(
                "Name the servers: [[target]] in the file, or --primary HOST:PORT --replica HOST:PORT.",
            ),
        );
    }
    if typed.targets.len() > TARGETS_MAX {
        let source = &typed.targets[TARGETS_MAX].source;
        problems.push(Problem::new(source, "target", format!("there are more than {TARGETS_MAX}")));
    }
    let parsed: Vec<_> = typed.targets.iter().filter_map(|target| address(target, problems)).collect();
    let mut hosts: HashMap<&str, usize> = HashMap::new();
    for (_, address) in &parsed {
        *hosts.entry(&address.host).or_default() += 1;
    }
    let mut nodes: Vec<NodeSpec> = Vec::with_capacity(parsed.len());
    for (target, address) in &parsed {
        let name = name(target, address, hosts[address.host.as_str()] > 1);
        check_name(target, &name, &nodes, problems);
        if let Some(twin) = nodes.iter().find(|node| node.host == address.host && node.port == address.port) {
            let message = format!("{}:{} is target {:?} already", address.host, address.port, twin.name);
            problems.push(Problem::new(&target.address.source, "target.address", message));
        }
        nodes.push(NodeSpec {
            name,
            host: address.host.clone(),
            port: address.port,
            expected_role: expected_role(target.role.value),
            weight: u16::try_from(target.weight.value).unwrap_or(u16::MAX),
            admin: admin_state(target.state.value),
        });
    }
    nodes
}

fn address<'t>(target: &'t Target, problems: &mut Problems) -> Option<(&'t Target, units::HostPort)> {
    let Some(text) = &target.address.value else {
        problems.push(
            Problem::new(&target.source, "target.address", "is missing")
                .hint("Write the server's host and port, such as address = \"10.0.0.12:5432\"."),
        );
        return None;
    };
    match units::server(text) {
        Ok(address) => Some((target, address)),
        Err(message) => {
            let hint = "Write a host and a port, such as \"10.0.0.12:5432\", \"db1\" or \"[::1]:5432\", or the directory of a \
                        Unix socket, such as \"/run/postgresql:5432\".";
            problems.push(Problem::new(&target.address.source, "target.address", message).hint(hint));
            None
        }
    }
}

fn name(target: &Target, address: &units::HostPort, is_host_shared: bool) -> String {
    match &target.name.value {
        Some(name) => name.clone(),
        None if is_host_shared => format!("{}:{}", short(&address.host), address.port),
        None => short(&address.host).to_owned(),
    }
}

/// A host's name; of a directory the last part.
fn short(host: &str) -> &str {
    host.rsplit('/').next().unwrap_or(host)
}

fn check_name(target: &Target, name: &str, before: &[NodeSpec], problems: &mut Problems) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    let problem = if !name.chars().all(is_plain) || name.len() > 63 {
        Some(format!("{name:?} is no valid name"))
    } else if RESERVED.contains(&name) {
        Some(format!("{name:?} is a path of the HTTP checks"))
    } else if before.iter().any(|node| node.name == name) {
        Some(format!("{name:?} is the name of another target"))
    } else {
        None
    };
    if let Some(message) = problem {
        let source = if target.name.value.is_some() { &target.name.source } else { &target.source };
        problems.push(
            Problem::new(source, "target.name", message)
                .hint("A name is unique, at most 63 letters, digits, \".\", \"-\", \"_\" or \":\"."),
        );
    }
}

fn expected_role(role: Role) -> ExpectedRole {
    match role {
        Role::Any => ExpectedRole::Any,
        Role::Primary => ExpectedRole::Primary,
        Role::Replica => ExpectedRole::Replica,
    }
}

fn admin_state(state: TargetState) -> AdminState {
    match state {
        TargetState::Ready => AdminState::Ready,
        TargetState::Drain => AdminState::Drain,
        TargetState::Maint => AdminState::Maint,
    }
}
