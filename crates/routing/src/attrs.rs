//! What a listener's configuration says of its servers: `target_session_attrs` and the fallback.

use std::fmt;
use std::str::FromStr;

/// Which servers a session wants, in libpq's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetSessionAttrs {
    /// Any server that is up.
    #[default]
    Any,
    /// One that accepts writes: the primary.
    ReadWrite,
    /// One that is up; a standby or the primary, as a read-only session may run on both.
    ReadOnly,
    /// The primary.
    Primary,
    /// A standby, never the primary.
    Standby,
    /// A standby, else what the fallback allows.
    PreferStandby,
}

impl TargetSessionAttrs {
    /// libpq's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TargetSessionAttrs::Any => "any",
            TargetSessionAttrs::ReadWrite => "read-write",
            TargetSessionAttrs::ReadOnly => "read-only",
            TargetSessionAttrs::Primary => "primary",
            TargetSessionAttrs::Standby => "standby",
            TargetSessionAttrs::PreferStandby => "prefer-standby",
        }
    }

    /// Whether only the primary will do.
    #[must_use]
    pub fn is_primary_only(self) -> bool {
        match self {
            TargetSessionAttrs::ReadWrite | TargetSessionAttrs::Primary => true,
            TargetSessionAttrs::Any
            | TargetSessionAttrs::ReadOnly
            | TargetSessionAttrs::Standby
            | TargetSessionAttrs::PreferStandby => false,
        }
    }
}

impl fmt::Display for TargetSessionAttrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that libpq does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid target_session_attrs \"{0}\": expected any, read-write, read-only, primary, standby or prefer-standby"
)]
pub struct InvalidTargetSessionAttrs(pub String);

impl FromStr for TargetSessionAttrs {
    type Err = InvalidTargetSessionAttrs;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "any" => Ok(TargetSessionAttrs::Any),
            "read-write" => Ok(TargetSessionAttrs::ReadWrite),
            "read-only" => Ok(TargetSessionAttrs::ReadOnly),
            "primary" => Ok(TargetSessionAttrs::Primary),
            "standby" => Ok(TargetSessionAttrs::Standby),
            "prefer-standby" => Ok(TargetSessionAttrs::PreferStandby),
            other => Err(InvalidTargetSessionAttrs(other.to_owned())),
        }
    }
}

/// Where reads go when no standby is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// Nowhere: the client gets the error that no server is available.
    None,
    /// To the primary.
    #[default]
    Primary,
    /// To lagging standbys within `hard_max_lag`.
    Lagging,
    /// To lagging standbys within `hard_max_lag`, else to the primary.
    LaggingThenPrimary,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for word in ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] {
            assert_eq!(
                word.parse::<TargetSessionAttrs>().map(|attrs| attrs.to_string()),
                Ok(word.to_owned())
            );
        }
        assert!("Any".parse::<TargetSessionAttrs>().is_err());
    }
}
