//! No configuration file, however broken, may do more than be reported.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::config::{Loaded, Problems, file, keys, checked};

fuzz_target!(|text: &str| {
    let (mut raw, mut problems) = (keys::defaults(), Problems::default());
    file::apply("fuzz.toml", text, &mut raw, &mut problems);
    match checked::settings(Loaded {
        raw,
        file: None,
        problems,
        warnings: Problems::default(),
        admin_places: Vec::new(),
        pod_api: None,
    }) {
        Ok(checked) => drop(checked.summary()),
        Err(problems) => assert!(!problems.is_empty(), "refused without saying why"),
    }
});
