//! Configurations in documents are valid.

use std::collections::HashMap;
use std::path::Path;

use trunkline::config::checked::{self, CheckedConfig};
use trunkline::config::flags::Flags;
use trunkline::config::{ConfigSources, load};
use trunkline_hba::{DiskFiles, HbaRules, IdentMaps};
use trunkline_tls::connect::ServerSslMode;

use crate::markdown::{blocks, indented_blocks};
use crate::repository::Repository;

/// A directory that is there, in place of the documents' own.
const STATE_DIR: &str = "/var/lib/trunkline";

/// Where the documents have certificates and keys, which only their machines have.
const ETC: &str = "\"/etc/";

/// What `trunkline check` makes of `text`, in a pod.
fn check(text: &str) -> Result<CheckedConfig, String> {
    check_with(text, &[])
}

/// The same with more variables of the environment.
fn check_with(text: &str, variables: &[(String, String)]) -> Result<CheckedConfig, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trunkline.toml");
    let text = text.replace(STATE_DIR, &directory.path().display().to_string());
    let text = with_certificates(&text, directory.path());
    std::fs::write(&file, &text).unwrap();
    let pod = [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")];
    let pod = pod.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment: HashMap<_, _> = pod.into_iter().chain(variables.iter().cloned()).collect();
    let flags = Flags { file: Some(file), ..Flags::default() };
    checked::settings(load(&ConfigSources { flags, environment }))
        .map_err(|problems| format!("{problems}\nin\n{text}"))
}

/// `text` with files below `directory` in place of those below `/etc`: one key for all, and its certificate, which is its own
/// root.
fn with_certificates(text: &str, directory: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["db.example.com".to_owned()]).unwrap();
    let mut pieces = text.split(ETC);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for (number, piece) in pieces.enumerate() {
        let (name, rest) = piece.split_once('"').expect("what is quoted ends");
        let is_key = Path::new(name).extension().is_some_and(|ending| ending == "key");
        let path = directory.join(format!("{number}-{}", name.replace('/', "-")));
        let content = if is_key { made.signing_key.serialize_pem() } else { made.cert.pem() };
        std::fs::write(&path, content).unwrap();
        out.push_str(&format!("{path:?}{rest}"));
    }
    out
}

#[test]
fn each_configuration_of_tls_is_valid_and_says_what_it_is_for() {
    let text = Repository::open().read("docs/tls.md");
    let blocks = indented_blocks(&text).into_iter().filter(|block| block.starts_with('['));
    let (mut of_clients, mut of_servers) = (0, Vec::new());
    for block in blocks {
        let text = format!("{block}\n[[server]]\naddress = \"db1.example.com\"\n");
        let checked = check(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let has_certificate =
            checked.proxy.listeners.iter().all(|listener| listener.options.tls.cert_file.is_some());
        assert_eq!(has_certificate, block.contains("[client_tls]"), "{block}");
        of_clients += usize::from(has_certificate);
        if block.contains("[server_tls]") {
            let tls = checked.proxy.health.login.tls.of("db1.example.com", 5432);
            of_servers.push(tls.expect("it has TLS").mode());
        }
    }
    assert_eq!((of_clients, of_servers), (2, vec![ServerSslMode::VerifyFull, ServerSslMode::VerifyCa]));
}

#[test]
fn the_variant_for_kubernetes_with_tls_lets_nobody_in_without() {
    let repository = Repository::open();
    let mounted = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["trunkline".to_owned()]).unwrap();
    std::fs::write(mounted.path().join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(mounted.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let deployment = repository.read("deploy/k8s-tls/deployment.yaml");
    let variable = |line: &str| {
        let (name, value) =
            line.trim().strip_prefix("- {name: TRUNKLINE")?.strip_suffix('}')?.split_once(", value: ")?;
        let value = value.replace("/etc/trunkline-tls", &mounted.path().display().to_string());
        Some((format!("TRUNKLINE{name}"), value))
    };
    let variables: Vec<_> = deployment.lines().filter_map(variable).collect();
    let text = repository.read("deploy/k8s/trunkline.toml");
    let plain = check(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let checked = check_with(&text, &variables).unwrap_or_else(|problems| panic!("{problems}"));
    let demand_tls = |checked: &CheckedConfig| {
        checked
            .proxy
            .listeners
            .iter()
            .filter(|listener| listener.options.tls.sslmode().must_encrypt())
            .count()
    };
    assert_eq!([demand_tls(&plain), demand_tls(&checked)], [0, 2]);
}

#[test]
fn each_rule_and_map_in_documents_is_valid() {
    let text = Repository::open().read("docs/authentication.md");
    let blocks = indented_blocks(&text);
    let beginning = |words: &str| blocks.iter().filter(|block| block.starts_with(words)).collect::<Vec<_>>();
    let (rules, maps) = (beginning("# TYPE"), beginning("# MAP"));
    assert_eq!((rules.len(), maps.len()), (2, 1));
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let maps =
        IdentMaps::load(&DiskFiles, &file("ident", maps[0])).unwrap_or_else(|problem| panic!("{problem}"));
    for rules in rules {
        let loaded = HbaRules::load(&DiskFiles, &file("hba", rules), &maps);
        assert!(loaded.is_ok(), "{:?}\nin\n{rules}", loaded.err());
    }
}

#[test]
fn each_configuration_for_discovery_is_valid_and_all_kinds_have_one() {
    let text = Repository::open().read("docs/discovery.md");
    let mut kinds: Vec<&'static str> = Vec::new();
    for block in blocks(&text, "toml") {
        let checked = check(&block).unwrap_or_else(|problems| panic!("{problems}"));
        kinds.extend(checked.proxy.discovery.sources.iter().map(|source| source.kind.as_str()));
    }
    for kind in ["dns", "patroni", "kubernetes", "rds", "aurora", "standbys"] {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
}

#[test]
fn each_configuration_for_pooling_is_valid_and_pools() {
    let text = Repository::open().read("docs/pooling.md");
    let blocks = blocks(&text, "toml");
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let checked = check(&block).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(checked.proxy.is_pooling(), "{block}");
        assert!(checked.warnings.to_string().find("pool").is_none(), "{}", checked.warnings);
    }
}
