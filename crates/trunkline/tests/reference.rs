//! `docs/configuration.md` is what the key table says.

use std::path::PathBuf;

use trunkline::config::reference::reference;

#[test]
fn the_reference_page_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("TRUNKLINE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, reference()).expect("docs/ can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/configuration.md is old: TRUNKLINE_UPDATE_DOCS=1 cargo test -p trunkline --test reference"
    );
}
