//! Configurations in documents are valid.

use std::collections::HashMap;

use trunkline::config::checked::{self, CheckedConfig};
use trunkline::config::flags::Flags;
use trunkline::config::{ConfigSources, load};

use crate::markdown::blocks;
use crate::repository::Repository;

/// A directory that is there, in place of the documents' own.
const STATE_DIR: &str = "/var/lib/trunkline";

/// Roots of certificates that only a machine before RDS has.
const ROOTS: &str = "/etc/trunkline/rds-global-bundle.pem";

/// What `trunkline check` makes of `text`, in a pod.
fn check(text: &str) -> Result<CheckedConfig, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trunkline.toml");
    let roots = directory.path().join("roots.pem");
    let root = rcgen::generate_simple_self_signed(vec!["rds".to_owned()]).unwrap();
    std::fs::write(&roots, root.cert.pem()).unwrap();
    let text = text.replace(STATE_DIR, &directory.path().display().to_string());
    let text = text.replace(ROOTS, &roots.display().to_string());
    std::fs::write(&file, &text).unwrap();
    let pod = [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")];
    let environment: HashMap<_, _> = pod.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let flags = Flags { file: Some(file), ..Flags::default() };
    checked::settings(load(&ConfigSources { flags, environment }))
        .map_err(|problems| format!("{problems}\nin\n{text}"))
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
