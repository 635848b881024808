//! What the fuzz target checks: on its corpus, on each of its handshakes with a byte changed or cut, and at random.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod checks;

use std::path::Path;

use proptest::prelude::*;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/client_records");
    let seeds = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    seeds.collect()
}

#[test]
fn the_corpus_passes() {
    let seeds = corpus();
    assert!(!seeds.is_empty());
    for seed in &seeds {
        checks::client_records(seed);
    }
}

#[test]
fn handshakes_that_are_cut_or_changed_are_refused_or_wait() {
    for seed in corpus() {
        for at in (1..seed.len()).step_by(23) {
            checks::client_records(&seed[..at]);
            let mut changed = seed.clone();
            changed[at] ^= 0x81;
            checks::client_records(&changed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_bytes_are_opened_or_refused(kind in 0..4_u8, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        checks::client_records(&[&[kind][..], &bytes].concat());
    }

    #[test]
    fn all_records_are_opened_or_refused(
        kind in 0..2_u8,
        records in prop::collection::vec((20..25_u8, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
    ) {
        let mut bytes = vec![kind];
        for (content, body) in records {
            bytes.extend_from_slice(&[content, 3, 3, 0, u8::try_from(body.len()).unwrap()]);
            bytes.extend_from_slice(&body);
        }
        checks::client_records(&bytes);
    }
}
