//! The usual formulas for a standby's lag, and what their answers say.

use std::time::Duration;

/// Asked of every server in one statement: what the formulas need, and where its WAL is.
/// It runs on PostgreSQL 10 and later, on primaries and standbys.
pub(super) const ASK: &str = "SELECT pg_catalog.pg_is_in_recovery() AS is_standby, \
    extract(epoch FROM now() - pg_catalog.pg_last_xact_replay_timestamp())::float8 AS age, \
    pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() AS in_sync, \
    (CASE WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() THEN 0 \
     ELSE extract(epoch FROM now() - pg_catalog.pg_last_xact_replay_timestamp()) END)::float8 AS combined, \
    (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
     ELSE pg_catalog.pg_current_wal_lsn() END)::text AS lsn";

/// A formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Formula {
    /// `now() - pg_last_xact_replay_timestamp()`
    ReplayAge,
    /// `pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()`
    InSync,
    /// Both: 0 where they are equal, else the age.
    Combined,
    /// Patroni's `?lag=`: bytes between the leader's key in the DCS and what was replayed.
    PatroniLag,
}

/// How many there are.
pub(super) const FORMULAS: usize = Formula::ALL.len();

impl Formula {
    /// All, in the order of the arrays that are kept for them.
    pub(super) const ALL: [Formula; 4] =
        [Formula::ReplayAge, Formula::InSync, Formula::Combined, Formula::PatroniLag];

    /// Its words in the table and the plot.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Formula::ReplayAge => "now() - last xact replay",
            Formula::InSync => "receive = replay",
            Formula::Combined => "0 if receive = replay, else now() - ...",
            Formula::PatroniLag => "Patroni ?lag=",
        }
    }

    /// Its key in JSON.
    pub(super) fn key(self) -> &'static str {
        match self {
            Formula::ReplayAge => "replay_age",
            Formula::InSync => "in_sync",
            Formula::Combined => "combined",
            Formula::PatroniLag => "patroni_lag",
        }
    }
}

/// What a formula gave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum FormulaAnswer {
    /// NULL, or the server did not answer.
    #[default]
    Nothing,
    /// Seconds; below zero where clocks differ.
    Seconds(f64),
    /// All that was received is replayed.
    InSync,
    /// It is not.
    NotInSync,
    /// Bytes.
    Bytes(u64),
}

/// What that says to whoever believes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing.
    #[default]
    Nothing,
    /// The standby may serve.
    Fresh,
    /// It may not.
    Lagging,
}

/// From where on a standby is called lagging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// `[health] max_lag`.
    pub(super) max_lag: Duration,
    /// That of Patroni's `?lag=`, in bytes.
    pub(super) lag_bytes: u64,
}

impl FormulaAnswer {
    /// What it says under these limits.
    pub(super) fn said(self, limits: Limits) -> Said {
        let is_fresh = match self {
            FormulaAnswer::Nothing => return Said::Nothing,
            FormulaAnswer::Seconds(seconds) => seconds <= limits.max_lag.as_secs_f64(),
            FormulaAnswer::InSync => true,
            FormulaAnswer::NotInSync => false,
            FormulaAnswer::Bytes(bytes) => bytes <= limits.lag_bytes,
        };
        if is_fresh { Said::Fresh } else { Said::Lagging }
    }

    /// For the table.
    pub(super) fn shown(self) -> String {
        match self {
            FormulaAnswer::Nothing => "-".to_owned(),
            FormulaAnswer::Seconds(seconds) => format!("{seconds:.1} s"),
            FormulaAnswer::InSync => "in sync".to_owned(),
            FormulaAnswer::NotInSync => "not in sync".to_owned(),
            FormulaAnswer::Bytes(bytes) => format!("{bytes} B"),
        }
    }
}

/// The answers of all formulas, by [`Formula::ALL`].
pub(super) type Answers = [FormulaAnswer; FORMULAS];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_at_the_limit_is_fresh() {
        let limits = Limits { max_lag: Duration::from_secs(2), lag_bytes: 100 };
        for (answer, said) in [
            (FormulaAnswer::Nothing, Said::Nothing),
            (FormulaAnswer::Seconds(2.0), Said::Fresh),
            (FormulaAnswer::Seconds(2.1), Said::Lagging),
            (FormulaAnswer::Seconds(-3.0), Said::Fresh),
            (FormulaAnswer::InSync, Said::Fresh),
            (FormulaAnswer::NotInSync, Said::Lagging),
            (FormulaAnswer::Bytes(100), Said::Fresh),
            (FormulaAnswer::Bytes(101), Said::Lagging),
        ] {
            assert_eq!(answer.said(limits), said, "{answer:?}");
        }
    }
}
