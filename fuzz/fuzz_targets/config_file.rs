//! No configuration file, however broken, may do more than be reported.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::config::{Loaded, Problems, file, keys, meant};

fuzz_target!(|text: &str| {
    let (mut typed, mut problems) = (keys::defaults(), Problems::default());
    file::apply("fuzz.toml", text, &mut typed, &mut problems);
    match meant::settings(Loaded { typed, file: None, problems }) {
        Ok(meant) => drop(meant.summary()),
        Err(problems) => assert!(!problems.is_empty(), "refused without saying why"),
    }
});
