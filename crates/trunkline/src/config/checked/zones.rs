//! `[runtime] zone` and the servers' zones, checked.

use std::io::{Error, Read as _};

use trunkline_topology::ServerSpec;

use crate::config::raw::RawConfig;
use crate::config::{Problem, Problems, Source};

/// Longest name of a zone, in bytes. Kubernetes' labels have at most 63.
const ZONE_BYTES_MAX: usize = 255;

/// The proxy's own zone.
pub(super) fn own(raw: &RawConfig, problems: &mut Problems) -> Option<String> {
    let written = raw.proxy.spread.zone.clone().filter(|zone| !zone.is_empty());
    let Some(file) = &raw.zone_file.value else { return written };
    let source = &raw.zone_file.source;
    if written.is_some() {
        problems.push(
            Problem::new(source, "runtime.zone_file", "is set together with runtime.zone")
                .hint("The zone comes from one of them: delete the other."),
        );
    }
    match read(file) {
        Ok(zone) => Some(zone.trim().to_owned()).filter(|zone| !zone.is_empty()),
        Err(error) => {
            problems.push(
                Problem::new(source, "runtime.zone_file", format!("could not read {file}: {error}"))
                    .hint("It holds the name of a zone and nothing else."),
            );
            None
        }
    }
}

/// Only a plain file, and not more of it than a zone has: opening a pipe would wait for its other end.
fn read(file: &str) -> std::io::Result<String> {
    if !std::fs::metadata(file)?.is_file() {
        return Err(Error::other("it is not a plain file"));
    }
    let mut zone = String::new();
    std::fs::File::open(file)?.take(ZONE_BYTES_MAX as u64 + 1).read_to_string(&mut zone)?;
    if zone.len() > ZONE_BYTES_MAX {
        return Err(Error::other(format!("it is longer than {ZONE_BYTES_MAX} bytes")));
    }
    Ok(zone)
}

/// A zone that no server has is hardly meant: everybody would cross.
pub(super) fn warn(own: Option<&str>, servers: &[ServerSpec], warnings: &mut Problems) {
    let Some(own) = own else { return };
    let of_servers = || servers.iter().filter_map(|server| server.zone.as_deref());
    if of_servers().next().is_some() && !of_servers().any(|zone| zone == own) {
        warnings.push(
            Problem::new(&Source::Default, "runtime.zone", format!("no server is in zone \"{own}\""))
                .hint("All sessions cross to other zones. Write the zone as the servers' `zone` keys do."),
        );
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use std::path::Path;

    use super::*;

    /// The zone by a file with this content, or the problems.
    fn by_file(content: &[u8]) -> Result<Option<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        by_path(file.path())
    }

    fn by_path(path: &Path) -> Result<Option<String>, String> {
        let mut raw = RawConfig::default();
        raw.zone_file.value = Some(path.display().to_string());
        let mut problems = Problems::default();
        let zone = own(&raw, &mut problems);
        if problems.is_empty() { Ok(zone) } else { Err(problems.to_string()) }
    }

    #[test]
    fn a_file_holds_a_zone_and_nothing_else() {
        assert_eq!(by_file(b" eu-1a\n"), Ok(Some("eu-1a".to_owned())));
        assert_eq!(by_file(b""), Ok(None), "the label may be missing");
        assert!(by_file(&[b'a'; ZONE_BYTES_MAX]).is_ok());
        assert!(by_file(&[b'a'; ZONE_BYTES_MAX + 1]).unwrap_err().contains("longer than 255 bytes"));
        assert!(by_file(&[0xff]).is_err());
        assert!(by_path(Path::new("/dev/zero")).unwrap_err().contains("not a plain file"));
        assert!(by_path(Path::new("/nonexistent")).unwrap_err().contains("could not read /nonexistent"));
    }

    #[test]
    fn the_zone_comes_from_one_place() {
        let mut raw = RawConfig::default();
        raw.proxy.spread.zone = Some("eu-1a".to_owned());
        let mut problems = Problems::default();
        assert_eq!(own(&raw, &mut problems).as_deref(), Some("eu-1a"));
        assert!(problems.is_empty());
        raw.zone_file.value = Some("/nonexistent".to_owned());
        own(&raw, &mut problems);
        assert!(problems.to_string().contains("set together with runtime.zone"), "{problems}");
    }

    #[test]
    fn a_zone_without_servers_is_warned_of() {
        let server = |zone: Option<&str>| ServerSpec { zone: zone.map(Into::into), ..ServerSpec::default() };
        let is_warned = |own, servers: &[ServerSpec]| {
            let mut warnings = Problems::default();
            warn(own, servers, &mut warnings);
            !warnings.is_empty()
        };
        assert!(is_warned(Some("a"), &[server(Some("b")), server(None)]));
        assert!(!is_warned(Some("a"), &[server(Some("b")), server(Some("a"))]));
        assert!(!is_warned(Some("a"), &[server(None)]), "they may be discovered later");
        assert!(!is_warned(None, &[server(Some("b"))]));
    }
}
