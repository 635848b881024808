//! What is wrong in [discovery] is said, and what is right is read.

use std::collections::HashMap;

use trunkline_discovery::{SourceKind, SourceSettings};

use crate::config::checked::settings;
use crate::config::flags::Flags;
use crate::config::{ConfigSources, load};

/// The sources of a file and an environment, or the problems as they are printed.
fn read(text: &str, environment: &[(&str, &str)]) -> Result<Vec<SourceSettings>, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("trunkline.toml");
    std::fs::write(&file, text).expect("it takes a file");
    let environment: HashMap<_, _> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let flags = Flags { file: Some(file), ..Flags::default() };
    match settings(load(&ConfigSources { flags, environment })) {
        Ok(checked) => Ok(checked.proxy.discovery.sources),
        Err(problems) => Err(problems.to_string()),
    }
}

/// The problems of one source with these keys, beside a server.
fn problems(keys: &str) -> String {
    let text = format!("[[server]]\naddress = \"db1\"\n[[discovery.source]]\n{keys}\n");
    read(&text, &[]).expect_err("it has a problem")
}

#[test]
fn a_source_needs_a_kind_and_what_its_kind_needs() {
    assert!(problems("name = \"x\"").contains("kind: is missing"), "{}", problems("name = \"x\""));
    let missing = [
        ("dns", "names"),
        ("patroni", "urls"),
        ("kubernetes", "services"),
        ("aurora", "endpoint"),
        ("standbys", "networks"),
    ];
    for (kind, key) in missing {
        let problems = problems(&format!("kind = \"{kind}\""));
        let expected = format!("discovery.source.{key}: is missing, and kind {kind} needs it");
        assert!(problems.contains(&expected), "{problems}");
    }
}

#[test]
fn a_key_of_another_kind_is_refused_with_the_kinds_that_have_it() {
    let problems = problems("kind = \"dns\"\nnames = [\"db\"]\ninterval = \"5s\"\nservices = [\"a\"]");
    assert!(problems.contains("discovery.source.interval: is no key of kind dns"), "{problems}");
    assert!(problems.contains("it belongs to: patroni, kubernetes, rds, aurora, standbys"), "{problems}");
    assert!(problems.contains("discovery.source.services: is no key of kind dns"), "{problems}");
}

#[test]
fn what_is_wrong_in_a_value_is_said() {
    let wrong = [
        ("kind = \"dns\"\nnames = [\"10.0.0.1\"]", "is an address, not a name"),
        ("kind = \"dns\"\nnames = [\"db\"]\nresolver = \"ns1\"", "\"ns1\" is no address"),
        ("kind = \"dns\"\nnames = [\"db\"]\nttl_min = \"1m\"", "is longer than ttl_max"),
        ("kind = \"dns\"\nnames = [\"db\"]\nttl_min = \"1ms\"", "ttl_min: is shorter than 500ms"),
        ("kind = \"patroni\"\nurls = [\"http://db1\"]\ntimeout = \"1ms\"", "timeout: is shorter than 100ms"),
        (
            "kind = \"patroni\"\nurls = [\"http://db1\"]\nfamily = \"ipv4\"",
            "family: is no key of kind patroni",
        ),
        ("kind = \"dns\"\nnames = [\"db\"]\nname = \"a b\"", "is no valid name"),
        ("kind = \"patroni\"\nurls = [\"ftp://db1\"]", "is no URL of http or https"),
        ("kind = \"patroni\"\nurls = [\"http://db1\"]\nusername = \"u\"", "password: is missing"),
        ("kind = \"patroni\"\nurls = [\"http://db1\"]\ncert_file = \"/c\"", "has no counterpart"),
        ("kind = \"patroni\"\nurls = [\"http://db1\"]\ninterval = \"1ms\"", "is shorter than 500ms"),
        ("kind = \"kubernetes\"\nservices = [\"r\"]", "KUBERNETES_SERVICE_HOST"),
        ("kind = \"kubernetes\"\nservices = [\"A b\"]", "is no name of a Service"),
        ("kind = \"rds\"\nendpoint = \"db\"", "does not have {id} once"),
        ("kind = \"consul\"", "Write one of: dns, patroni, kubernetes, rds, aurora, standbys"),
        ("kind = \"dns\"\nnames = [\"db\"]\nnmaes = [\"db\"]", "Did you mean \"names\"?"),
    ];
    for (keys, expected) in wrong {
        let problems = problems(keys);
        assert!(problems.contains(expected), "{keys}: {problems}");
    }
}

#[test]
fn two_sources_have_two_names() {
    let one = "[[discovery.source]]\nkind = \"dns\"\nnames = [\"db\"]\n";
    let problems = read(&one.repeat(2), &[]).expect_err("one name for two");
    assert!(problems.contains("\"dns\" is the name of another source"), "{problems}");
    let both = format!("{one}{one}name = \"other\"\n");
    assert_eq!(read(&both, &[]).expect("two names").len(), 2);
}

#[test]
fn a_source_that_asks_servers_needs_one_and_others_do_not() {
    let standbys = "[[discovery.source]]\nkind = \"standbys\"\nnetworks = \"10.0.0.0/8\"\n";
    let problems = read(standbys, &[]).expect_err("nobody can be asked");
    assert!(problems.contains("there is none that this source could ask"), "{problems}");
    let dns = "[[discovery.source]]\nkind = \"dns\"\nnames = [\"db\"]\n";
    assert!(read(&format!("{dns}{standbys}"), &[]).is_ok());
    let none = read("", &[]).expect_err("nobody at all");
    assert!(none.contains("[[discovery.source]]"), "{none}");
}

#[test]
fn the_environment_names_a_source_and_writes_lists_with_commas() {
    let text = "[[discovery.source]]\nname = \"names\"\nkind = \"dns\"\nnames = [\"db\"]\n";
    let variables = [
        ("TRUNKLINE__DISCOVERY__SOURCE__NAMES__NAMES", "a:1, _pg._tcp.b"),
        ("TRUNKLINE__DISCOVERY__SOURCE__API__KIND", "patroni"),
        ("TRUNKLINE__DISCOVERY__SOURCE__API__URLS", "http://db1:8008,http://db2:8008"),
    ];
    let sources = read(text, &variables).expect("it is valid");
    let [names, api] = &sources[..] else { panic!("two sources: {sources:?}") };
    assert_eq!((&*names.name, &*api.name), ("names", "api"));
    assert!(matches!(&names.kind, SourceKind::Dns(dns) if dns.names.len() == 2), "{names:?}");
    assert!(matches!(&api.kind, SourceKind::Patroni(patroni) if patroni.urls.len() == 2), "{api:?}");
}

#[test]
fn a_password_is_in_no_problem() {
    let problems = problems("kind = \"patroni\"\nurls = [\"http://u:hidden1@db1\"]\npassword = \"hidden2\"");
    assert!(!problems.contains("hidden"), "{problems}");
}
