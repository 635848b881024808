//! The source against a name server whose answers change.

use std::net::IpAddr;
use std::time::Duration;

use super::resolve::DnsAsker;
use super::{DnsFamily, DnsName, DnsSettings};
use crate::member::Member;
use crate::news::SourceError;
use crate::testing::FakeDns;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings(dns: &FakeDns, names: &[&str]) -> DnsSettings {
    DnsSettings {
        names: names.iter().map(|name| DnsName::parse(name).unwrap()).collect(),
        resolver: Some(dns.address()),
        family: DnsFamily::Auto,
        ttl_min: Duration::from_secs(1),
        ttl_max: Duration::from_secs(30),
    }
}

fn shown(members: &[Member]) -> Vec<String> {
    members.iter().map(|member| format!("{} {}:{}", member.name, member.host, member.port)).collect()
}

async fn ask(settings: &DnsSettings) -> Result<Vec<String>, SourceError> {
    DnsAsker::default().ask(settings).await.map(|answer| shown(&answer.members))
}

async fn error(settings: &DnsSettings) -> String {
    DnsAsker::default().ask(settings).await.unwrap_err().to_string()
}

#[tokio::test]
async fn each_address_of_a_name_is_a_member() {
    let dns = FakeDns::start().unwrap();
    dns.addresses("db.test", 5, &[ip("10.0.0.2"), ip("10.0.0.1"), ip("fd00::1")]);
    let asked = settings(&dns, &["db.test:6432"]);
    assert_eq!(ask(&asked).await.unwrap(), ["10.0.0.1 10.0.0.1:6432", "10.0.0.2 10.0.0.2:6432"]);
    let both = DnsSettings { family: DnsFamily::Both, ..asked };
    assert_eq!(ask(&both).await.unwrap().len(), 3);
    dns.addresses("six.test", 5, &[ip("fd00::1")]);
    assert_eq!(ask(&settings(&dns, &["six.test"])).await.unwrap(), ["fd00::1 fd00::1:5432"]);
}

#[tokio::test]
async fn the_same_resolver_sees_a_change_and_the_shortest_time_to_live_counts() {
    let dns = FakeDns::start().unwrap();
    dns.addresses("a.test", 300, &[ip("10.0.0.1")]);
    dns.addresses("b.test", 20, &[ip("10.0.0.2")]);
    let asked = settings(&dns, &["a.test", "b.test"]);
    let mut asker = DnsAsker::default();
    let first = asker.ask(&asked).await.unwrap();
    assert!(first.valid_for > Duration::from_secs(10) && first.valid_for <= Duration::from_secs(20));
    dns.addresses("a.test", 300, &[ip("10.0.0.9")]);
    let second = asker.ask(&asked).await.unwrap();
    assert_eq!(shown(&second.members), ["10.0.0.9 10.0.0.9:5432", "10.0.0.2 10.0.0.2:5432"]);
}

#[tokio::test]
async fn a_service_gives_ports_names_and_weights() {
    let dns = FakeDns::start().unwrap();
    let records = [(0, 20, 5433, "pg2.test"), (0, 10, 5432, "pg1.test")];
    dns.services("_postgresql._tcp.test", 5, &records);
    dns.addresses("pg1.test", 5, &[ip("10.0.0.1")]);
    dns.addresses("pg2.test", 5, &[ip("10.0.0.2")]);
    let asked = settings(&dns, &["_postgresql._tcp.test"]);
    let answer = DnsAsker::default().ask(&asked).await.unwrap();
    assert_eq!(shown(&answer.members), ["pg1 10.0.0.1:5432", "pg2 10.0.0.2:5433"]);
    let weights: Vec<_> = answer.members.iter().map(|member| member.weight).collect();
    assert_eq!(weights, [Some(10), Some(20)]);
    dns.services("_postgresql._tcp.test", 5, &[(0, 0, 5432, ".")]);
    assert!(error(&asked).await.contains("no SRV records that name a server"));
    dns.services("_postgresql._tcp.test", 5, &records);
    dns.forget("pg2.test");
    assert!(error(&asked).await.contains("pg2.test.: there is no such name (NXDOMAIN)"));
}

#[tokio::test]
async fn an_alias_is_followed_and_a_circle_is_an_error() {
    let dns = FakeDns::start().unwrap();
    dns.addresses("real.test", 5, &[ip("10.0.0.1")]);
    dns.alias("alias.test", "real.test");
    assert_eq!(ask(&settings(&dns, &["alias.test"])).await.unwrap(), ["10.0.0.1 10.0.0.1:5432"]);
    dns.alias("one.test", "two.test");
    dns.alias("two.test", "one.test");
    let error = error(&settings(&dns, &["one.test"])).await;
    assert!(error.contains("one.test: ") && error.contains("CNAME"), "{error}");
    assert!(dns.asked("one.test") < 50, "the circle is left soon");
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_that_says_so() {
    let dns = FakeDns::start().unwrap();
    assert!(error(&settings(&dns, &["none.test"])).await.contains("NXDOMAIN"));
    dns.fails("broken.test");
    let broken = error(&settings(&dns, &["broken.test"])).await;
    assert!(broken.contains("broken.test: ") && broken.contains("erver"), "{broken}");
    dns.addresses("empty.test", 5, &[]);
    assert!(error(&settings(&dns, &["empty.test"])).await.contains("empty.test: "));
    dns.addresses("six.test", 5, &[ip("fd00::1")]);
    let only_four = DnsSettings { family: DnsFamily::Ipv4, ..settings(&dns, &["six.test"]) };
    assert!(error(&only_four).await.contains("no address of the family"));
    dns.addresses("db.test", 5, &[ip("10.0.0.1")]);
    let half = error(&settings(&dns, &["db.test", "broken.test"])).await;
    assert!(half.contains("broken.test"), "one name that fails is no answer: {half}");
    dns.is_silent("silent.test");
    let silent = error(&settings(&dns, &["silent.test"])).await;
    assert!(silent.contains("silent.test"), "{silent}");
}
