//! The last good answers on disk, for a start while a source is away.
//!
//! What is read is checked as if a stranger had sent it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::check::{AnswerFault, SocketHosts, check, is_name};
use crate::limits::ANSWER_BYTES_MAX;
use crate::member::{Member, RoleHint};

/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Why a file cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    /// By the system.
    #[error("{}: {error}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not what was written.
    #[error("{} is not used: {reason}; it is replaced by the next answer", file.display())]
    Garbled {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What is in it cannot be right.
    #[error("{} is not used: {fault}", file.display())]
    Faulty {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        fault: AnswerFault,
    },
    /// No file can have the name.
    #[error("{0:?} is no name of a source")]
    Name(String),
}

/// What is on disk of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptAnswer {
    /// The members, checked.
    pub(crate) members: Vec<Member>,
    /// When they were named last.
    pub(crate) at: SystemTime,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptFile {
    version: u32,
    source: String,
    kind: String,
    /// Seconds since 1970.
    at: u64,
    members: Vec<KeptMember>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptMember {
    name: String,
    host: String,
    port: u16,
    role: KeptRole,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptRole {
    Unknown,
    Primary,
    Replica,
}

/// The file of a source.
fn file_of(state_dir: &Path, source: &str) -> Result<PathBuf, KeptError> {
    match is_name(source) {
        true => Ok(state_dir.join(format!("discovery-{source}.json"))),
        false => Err(KeptError::Name(source.to_owned())),
    }
}

/// Reads what is kept of a source; `None` if nothing is.
///
/// # Errors
/// When it cannot be read, or is not what was written for a source of this name and kind.
pub(crate) fn read(
    state_dir: &Path,
    source: &str,
    kind: &str,
    sockets: SocketHosts,
) -> Result<Option<KeptAnswer>, KeptError> {
    let file = file_of(state_dir, source)?;
    let garbled = |reason: String| KeptError::Garbled { file: file.clone(), reason };
    let text = match read_bounded(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| KeptError::Io { file: file.clone(), error })?,
    };
    let kept: KeptFile = serde_json::from_slice(&text).map_err(|error| garbled(error.to_string()))?;
    if kept.version != VERSION {
        return Err(garbled(format!("it is of version {}, not {VERSION}", kept.version)));
    }
    if (kept.source.as_str(), kept.kind.as_str()) != (source, kind) {
        return Err(garbled(format!("it is of source {:?} of kind {:?}", kept.source, kept.kind)));
    }
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(kept.at));
    let at = at.ok_or_else(|| garbled("its time is out of range".to_owned()))?;
    let members = kept.members.into_iter().map(Member::from).collect();
    let members = check(members, sockets).map_err(|fault| KeptError::Faulty { file: file.clone(), fault })?;
    Ok(Some(KeptAnswer { members, at }))
}

/// A regular file only: anything else could block.
fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    if !fs::symlink_metadata(file)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
    }
    let mut text = Vec::new();
    let bound = ANSWER_BYTES_MAX as u64;
    let read = File::open(file)?.take(bound + 1).read_to_end(&mut text)?;
    if read > ANSWER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("is longer than {bound} bytes")));
    }
    Ok(text)
}

/// Replaces what is kept of a source, as one: after a crash there is the old file or the new one.
///
/// # Errors
/// By the system: no directory, no right, no room.
pub(crate) fn write(
    state_dir: &Path,
    source: &str,
    kind: &str,
    members: &[Member],
    at: SystemTime,
) -> Result<(), KeptError> {
    let file = file_of(state_dir, source)?;
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let members = members.iter().map(KeptMember::from).collect();
    let kept = KeptFile { version: VERSION, source: source.to_owned(), kind: kind.to_owned(), at, members };
    replace(state_dir, &file, &kept).map_err(|error| KeptError::Io { file: file.clone(), error })
}

fn replace(state_dir: &Path, file: &Path, kept: &KeptFile) -> io::Result<()> {
    // Of one name for each source: what a killed process has left is removed by the next one.
    let new = file.with_extension("json.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut text = serde_json::to_vec(kept)?;
    text.push(b'\n');
    let mut writing = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writing.write_all(&text)?;
    writing.sync_all()?;
    fs::rename(&new, file)?;
    File::open(state_dir)?.sync_all()
}

impl From<KeptMember> for Member {
    fn from(kept: KeptMember) -> Self {
        let KeptMember { name, host, port, role, weight, zone, tags } = kept;
        let role = match role {
            KeptRole::Unknown => RoleHint::Unknown,
            KeptRole::Primary => RoleHint::Primary,
            KeptRole::Replica => RoleHint::Replica,
        };
        let (zone, tags) = (zone.map(Arc::from), tags.into_iter().map(Arc::from).collect());
        Self { name, host, port, role, weight, zone, tags }
    }
}

impl From<&Member> for KeptMember {
    fn from(member: &Member) -> Self {
        let Member { name, host, port, role, weight, zone, tags } = member;
        let role = match role {
            RoleHint::Unknown => KeptRole::Unknown,
            RoleHint::Primary => KeptRole::Primary,
            RoleHint::Replica => KeptRole::Replica,
        };
        Self {
            name: name.clone(),
            host: host.clone(),
            port: *port,
            role,
            weight: *weight,
            zone: zone.as_deref().map(str::to_owned),
            tags: tags.iter().map(|tag| tag.to_string()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use proptest::prelude::*;

    use super::*;

    fn members() -> Vec<Member> {
        let first = Member {
            name: "pg1".to_owned(),
            host: "10.0.0.1".to_owned(),
            port: 5432,
            role: RoleHint::Primary,
            weight: Some(0),
            zone: Some("a".into()),
            tags: vec!["nofailover".into()],
        };
        let second = Member { name: "pg2".to_owned(), port: 5433, ..Member::default() };
        vec![first, Member { host: "db2".to_owned(), role: RoleHint::Replica, ..second }]
    }

    fn read_main(directory: &Path) -> Result<Option<KeptAnswer>, KeptError> {
        read(directory, "main", "patroni", SocketHosts::Refused)
    }

    #[test]
    fn what_is_written_is_read_by_its_own_source_alone() {
        let directory = tempfile::tempdir().unwrap();
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(read_main(directory.path()).unwrap(), None);
        for _ in 0..2 {
            write(directory.path(), "main", "patroni", &members(), at).unwrap();
        }
        assert_eq!(read_main(directory.path()).unwrap(), Some(KeptAnswer { members: members(), at }));
        let file = directory.path().join("discovery-main.json");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left there");
        assert!(read(directory.path(), "main", "dns", SocketHosts::Refused).is_err(), "of another kind");
        fs::rename(&file, directory.path().join("discovery-other.json")).unwrap();
        assert!(read(directory.path(), "other", "patroni", SocketHosts::Refused).is_err(), "of another name");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["", "../x", "a/b", "a b"] {
            assert!(matches!(
                read(directory.path(), name, "dns", SocketHosts::Refused),
                Err(KeptError::Name(_))
            ));
            let written = write(directory.path(), name, "dns", &members(), UNIX_EPOCH);
            assert!(matches!(written, Err(KeptError::Name(_))));
        }
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("discovery-main.json");
        symlink("/dev/zero", &file).unwrap();
        assert!(read_main(directory.path()).unwrap_err().to_string().contains("is no regular file"));
        // It is replaced itself, not what it leads to.
        write(directory.path(), "main", "patroni", &members(), UNIX_EPOCH).unwrap();
        assert!(read_main(directory.path()).unwrap().is_some());
    }

    #[test]
    fn hostile_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("discovery-main.json");
        write(directory.path(), "main", "patroni", &members(), UNIX_EPOCH).unwrap();
        let good = fs::read_to_string(&file).unwrap();
        let edited = |from: &str, to: &str| {
            assert!(good.contains(from), "{good}");
            good.replace(from, to)
        };
        let cases = [
            (String::new(), "EOF"),
            ("[".repeat(100_000), "is not used"),
            (edited("\"version\":1", "\"version\":2"), "version 2"),
            (edited("\"at\":0", "\"at\":18446744073709551615"), "out of range"),
            (edited("replica", "primary"), "two leaders"),
            (edited("\"port\":5433", "\"port\":0"), "port"),
            (edited("\"port\":5433", "\"port\":65536"), "65536"),
            (edited("db2", "/run/x"), "no host"),
            (edited("\"source\":", "\"x\":0,\"source\":"), "unknown field"),
            (format!("{good}{}", " ".repeat(ANSWER_BYTES_MAX)), "is longer than"),
        ];
        for (text, told) in cases {
            fs::write(&file, &text).unwrap();
            let error = read_main(directory.path()).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("discovery-main.json"), "{told}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_file_that_is_cut_or_changed_anywhere_is_read_or_refused(at in 0_usize..400, byte in any::<u8>()) {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("discovery-main.json");
            write(directory.path(), "main", "patroni", &members(), UNIX_EPOCH).unwrap();
            let good = fs::read(&file).unwrap();
            let at = at % good.len();
            fs::write(&file, &good[..at]).unwrap();
            prop_assert!(read_main(directory.path()).is_err() || at == good.len() - 1);
            let mut changed = good;
            changed[at] = byte;
            fs::write(&file, &changed).unwrap();
            if let Ok(kept) = read_main(directory.path()) {
                prop_assert_eq!(kept.unwrap().members.len(), 2);
            }
        }
    }
}
