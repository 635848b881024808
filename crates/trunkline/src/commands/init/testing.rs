//! For the tests of all sources.

use std::collections::HashMap;

use super::draft::Draft;
use super::render::render;
use crate::config::flags::Flags;
use crate::config::{ConfigSources, checked, load};

/// The draft as a file, which the configuration's own parser takes.
#[track_caller]
pub(super) fn valid(draft: &Draft) -> String {
    let text = render(draft, "trunkline_monitor");
    let file = tempfile::NamedTempFile::new().expect("a file can be had");
    std::fs::write(file.path(), &text).expect("it takes text");
    let flags = Flags { file: Some(file.path().to_owned()), ..Flags::default() };
    if let Err(problems) = checked::settings(load(&ConfigSources { flags, environment: HashMap::new() })) {
        panic!("{problems}\n{text}");
    }
    text
}
