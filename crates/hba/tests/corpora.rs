//! What the fuzz targets check, on their corpora and on files made at random.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod checks;

use std::path::Path;

use proptest::prelude::*;

#[test]
fn the_corpora_pass() {
    for (name, check) in [("hba_file", checks::hba_file as fn(&[u8])), ("ident_file", checks::ident_file)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
        let mut seeds = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds > 0, "{name}");
    }
}

/// Words that lines are made of.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "local",
        "host",
        "hostssl",
        "all",
        "sameuser",
        "replication",
        "10.0.0.0/8",
        "::/0",
        "::1",
        "samenet",
        "trust",
        "cert",
        "peer",
        "relay",
        "md5",
        "map=m",
        "clientcert=verify-full",
        "include x",
        "include_dir d",
        "include_if_exists y!",
        "@z",
        "\"a b\"",
        "\"",
        "/^(x)$",
        "/[",
        "\\1",
        ",",
        "#",
        "\\\n",
        "\n",
        " ",
        "m",
        "+g",
        "\u{e9}",
    ];
    let word = prop::sample::select(words.to_vec());
    prop::collection::vec(word, 0..60).prop_map(|words| words.join(" ").into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_file_is_read_or_explained(text in text()) {
        checks::hba_file(&text);
        checks::ident_file(&text);
    }

    #[test]
    fn all_bytes_are_read_or_explained(text in prop::collection::vec(any::<u8>(), 0..200)) {
        checks::hba_file(&text);
        checks::ident_file(&text);
    }
}
