//! What the records of a name make of it: members, each with its name. Pure.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::limits::WEIGHT_MAX;
use crate::member::Member;

/// Which addresses of a name are servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsFamily {
    /// The IPv4 addresses, or the IPv6 addresses of a name that has no other: a server with one of each is one server.
    #[default]
    Auto,
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// All of them.
    Both,
}

impl DnsFamily {
    /// The addresses of the family, sorted, each once.
    pub(super) fn pick(self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let has_ipv4 = addresses.iter().any(IpAddr::is_ipv4);
        let mut picked: Vec<IpAddr> = addresses
            .iter()
            .copied()
            .filter(|address| match self {
                DnsFamily::Auto => address.is_ipv4() == has_ipv4,
                DnsFamily::Ipv4 => address.is_ipv4(),
                DnsFamily::Ipv6 => address.is_ipv6(),
                DnsFamily::Both => true,
            })
            .collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    }
}

/// What one SRV record says, with the addresses of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceTarget {
    /// The target's name, without the point at its end.
    pub(super) target: String,
    /// Its port.
    pub(super) port: u16,
    /// Its weight among the others.
    pub(super) weight: u16,
    /// Its addresses, picked.
    pub(super) addresses: Vec<IpAddr>,
}

/// How a target with one address is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetHost {
    /// By its name, which its certificate is for, and which is looked up again at every connect.
    Name,
    /// By its address: only the resolver that was asked knows its name.
    Address,
}

/// Every address on `port`.
pub(super) fn of_host(addresses: &[IpAddr], port: u16) -> Vec<Member> {
    addresses.iter().map(|address| member(address.to_string(), address.to_string(), port, None)).collect()
}

/// Every target, or each of its addresses if it has several.
///
/// A target is named after the first label of its name; where two have the same, after its address. Weights are kept
/// as they are while they fit, and say nothing while they are all the same. Priorities say nothing: what a server is
/// good for is measured.
pub(super) fn of_service(targets: &[ServiceTarget], host: TargetHost) -> Vec<Member> {
    let mut labels: HashMap<&str, usize> = HashMap::new();
    for target in targets {
        *labels.entry(first_label(&target.target)).or_default() += 1;
    }
    let weights = targets.iter().map(|target| target.weight);
    let (least, most) = (weights.clone().min().unwrap_or_default(), weights.max().unwrap_or_default());
    let mut members = Vec::new();
    for target in targets {
        let weight = (least != most).then(|| share(target.weight, most));
        let label = first_label(&target.target);
        match (target.addresses.as_slice(), host) {
            ([address], host) => {
                let is_unique = labels.get(label) == Some(&1);
                let name = if is_unique { label.to_owned() } else { address.to_string() };
                let host = match host {
                    TargetHost::Name => target.target.clone(),
                    TargetHost::Address => address.to_string(),
                };
                members.push(member(name, host, target.port, weight));
            }
            (addresses, _) => members.extend(
                addresses
                    .iter()
                    .map(|address| member(address.to_string(), address.to_string(), target.port, weight)),
            ),
        }
    }
    members
}

/// Gives every place one member, and members of one name their ports: `10.0.0.1:5433`.
pub(super) fn tell_apart(members: Vec<Member>) -> Vec<Member> {
    let mut apart: Vec<Member> = Vec::with_capacity(members.len());
    let mut places = HashSet::new();
    for member in members {
        if places.insert((member.host.clone(), member.port)) {
            apart.push(member);
        }
    }
    let mut names: HashMap<String, usize> = HashMap::new();
    for member in &apart {
        *names.entry(member.name.clone()).or_default() += 1;
    }
    for member in &mut apart {
        if names.get(&member.name).is_some_and(|number| *number > 1) {
            member.name = format!("{}:{}", member.name, member.port);
        }
    }
    apart
}

fn member(name: String, host: String, port: u16, weight: Option<u16>) -> Member {
    Member { name, host, port, weight, ..Member::default() }
}

fn first_label(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// A record's weight as a server's: 0 has a very small share in SRV records, and here none.
fn share(weight: u16, most: u16) -> u16 {
    let scaled = match most {
        most if most <= WEIGHT_MAX => u32::from(weight),
        most => u32::from(weight) * u32::from(WEIGHT_MAX) / u32::from(most),
    };
    u16::try_from(scaled).unwrap_or(WEIGHT_MAX).clamp(1, WEIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn target(name: &str, port: u16, weight: u16, addresses: &[&str]) -> ServiceTarget {
        let addresses = addresses.iter().map(|address| ip(address)).collect();
        ServiceTarget { target: name.to_owned(), port, weight, addresses }
    }

    #[test]
    fn a_server_with_an_address_of_each_family_is_one_server() {
        let all = [ip("10.0.0.2"), ip("::1"), ip("10.0.0.1"), ip("10.0.0.2")];
        assert_eq!(DnsFamily::Auto.pick(&all), [ip("10.0.0.1"), ip("10.0.0.2")]);
        assert_eq!(DnsFamily::Auto.pick(&[ip("::1")]), [ip("::1")]);
        assert_eq!(DnsFamily::Ipv6.pick(&all), [ip("::1")]);
        assert_eq!(DnsFamily::Both.pick(&all).len(), 3);
        assert!(DnsFamily::Ipv4.pick(&[ip("::1")]).is_empty());
    }

    #[test]
    fn a_target_is_named_after_its_first_label_and_reached_by_its_name() {
        let targets = [target("pg1.example.com", 5433, 0, &["10.0.0.1"])];
        let members = of_service(&targets, TargetHost::Name);
        assert_eq!(members, [member("pg1".to_owned(), "pg1.example.com".to_owned(), 5433, None)]);
        let members = of_service(&targets, TargetHost::Address);
        assert_eq!(members[0].host, "10.0.0.1");
    }

    #[test]
    fn targets_of_one_label_or_several_addresses_are_named_after_the_address() {
        let targets = [
            target("pg.a.example.com", 5432, 1, &["10.0.0.1"]),
            target("pg.b.example.com", 5432, 1, &["10.0.0.2"]),
            target("many.example.com", 5432, 1, &["10.0.0.3", "10.0.0.4"]),
        ];
        let names: Vec<_> = of_service(&targets, TargetHost::Name).into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    }

    #[test]
    fn weights_count_when_they_differ_and_are_scaled_when_they_do_not_fit() {
        let weights = |weights: &[u16]| -> Vec<Option<u16>> {
            let targets: Vec<_> = (1..)
                .zip(weights)
                .map(|(n, weight)| target(&format!("pg{n}."), 5432, *weight, &["10.0.0.1"]))
                .collect();
            of_service(&targets, TargetHost::Name).into_iter().map(|member| member.weight).collect()
        };
        assert_eq!(weights(&[7, 7]), [None, None]);
        assert_eq!(weights(&[10, 0, 1000]), [Some(10), Some(1), Some(1000)]);
        assert_eq!(weights(&[65535, 32768, 1]), [Some(1000), Some(500), Some(1)]);
    }

    #[test]
    fn members_of_one_address_have_their_port_in_their_name() {
        let mut members = of_host(&[ip("10.0.0.1"), ip("10.0.0.2")], 5432);
        members.extend(of_host(&[ip("10.0.0.1")], 5433));
        members.extend(of_host(&[ip("10.0.0.2")], 5432));
        let names: Vec<_> = tell_apart(members).into_iter().map(|member| member.name).collect();
        assert_eq!(names, ["10.0.0.1:5432", "10.0.0.2", "10.0.0.1:5433"]);
    }
}
