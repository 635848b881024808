//! How much is read.

/// Longest file read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Files opened for one configuration, each as often as it is included.
pub const FILES_MAX: usize = 1000;

/// How deep files may include others. Source: PostgreSQL 16, src/include/utils/conffiles.h, `CONF_FILE_MAX_DEPTH`.
pub const DEPTH_MAX: usize = 10;

/// Lines of one configuration that are no comments.
pub const LINES_MAX: usize = 10_000;

/// Words of one configuration, those of included files counted each time.
pub const WORDS_MAX: usize = 200_000;

/// Regular expressions of one configuration.
pub const PATTERNS_MAX: usize = 1000;

/// Bytes that one regular expression may take when it is compiled, and again when it is used.
pub const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Problems told of one configuration; the rest are only counted.
pub const PROBLEMS_MAX: usize = 20;
