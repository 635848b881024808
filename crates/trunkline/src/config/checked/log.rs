//! `[log]`, checked.

use tracing_subscriber::EnvFilter;

use crate::config::raw::Sourced;
use crate::config::{Problem, Problems};

/// The filter of the log.
pub(super) fn level(written: &Sourced<Option<String>>, problems: &mut Problems) -> String {
    let level = written.value.clone().unwrap_or_else(|| "info".to_owned());
    // A bare word that is no level would be taken for the name of a module, and nothing would be logged.
    let is_word = level.chars().all(|c| c.is_ascii_alphanumeric());
    let is_valid = if is_word {
        level.parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
    } else {
        EnvFilter::builder().parse(&level).is_ok()
    };
    if !is_valid {
        problems.push(Problem::new(&written.source, "log.level", format!("{level:?} is no level")).hint(
            "Write error, warn, info, debug or trace, or a filter such as \"info,trunkline_proxy=debug\".",
        ));
    }
    level
}
