//! Bounds of what a source may say, and of how often it is asked.

use std::time::Duration;

/// Most members of one source: fewer than all servers together may be, so that a source that goes mad leaves room for
/// those that are configured.
pub const MEMBERS_MAX: usize = 1000;

/// Most sources.
pub const SOURCES_MAX: usize = 16;

/// Longest name of a member or a source, in bytes: that of a configured server.
pub const NAME_MAX: usize = 63;

/// Longest host, in bytes. Source: RFC 1035, 2.3.4, without the dot at the end.
pub const HOST_MAX: usize = 253;

/// Longest zone, and longest tag, in bytes. Source: the longest value of a label in Kubernetes.
pub const WORD_MAX: usize = 63;

/// Most tags that are kept of a member.
pub const TAGS_MAX: usize = 16;

/// Largest weight: that of a configured server.
pub const WEIGHT_MAX: u16 = 1000;

/// Most bytes of one answer, headers not included.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Longest text of an error that is kept, in bytes: a source may put anything into it.
pub const ERROR_TEXT_MAX: usize = 500;

/// Answers of sources that wait to be checked, all sources together. A source that has more waits.
pub const NEWS_MAX: usize = 64;

/// Shortest pause after an error.
pub const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// Longest pause after an error. A source that comes back is heard after this at the latest.
pub const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// How old a file of last good answers may get while the source repeats itself: how exact the age after a restart is.
pub const KEPT_AGE_MAX: Duration = Duration::from_secs(60);

/// Longest secret in a file, in bytes. A token of a service account has about 1 KiB.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;
