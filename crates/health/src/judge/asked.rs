//! What a server is asked, one fact at a time, and what it refuses to tell.

use std::fmt;

use trunkline_codec::sqlstate::SqlState;

use trunkline_topology::Role;

/// Something that a probe asks for, and can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedFact {
    /// The number of the server's cluster.
    SystemIdentifier,
    /// When the postmaster started.
    StartTime,
    /// Whether the monitoring role may see all statistics.
    StatsRights,
    /// Whether the server is one of Amazon's.
    Platform,
    /// The instances of an RDS Multi-AZ DB cluster.
    RdsTopology,
    /// `statement_timeout` and `search_path`, set for the monitor's own connection.
    Settings,
    /// The position replayed.
    Replayed,
    /// The position received.
    Received,
    /// The primary's position.
    Flushed,
    /// The primary's position by the function that is asked where the other is refused.
    Written,
    /// Where the primary writes next: behind all that is committed, flushed or not.
    Inserted,
    /// The primary's timeline.
    Timeline,
    /// When the last transaction replayed was committed.
    LastCommit,
    /// Whether replay is paused.
    Paused,
    /// The WAL receiver.
    Receiver,
    /// What the startup process waits for.
    Startup,
    /// `recovery_min_apply_delay`.
    ApplyDelay,
    /// Which instance of an Aurora cluster it is.
    AuroraInstance,
    /// The instances of an Aurora cluster, and their positions.
    AuroraStatus,
    /// The operator's `lag_query`.
    LagQuery,
    /// What `lag_query` gave, which is no lag and no position.
    LagAnswer,
}

/// A fact that a server does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedFact {
    /// Which.
    pub fact: AskedFact,
    /// With which SQLSTATE.
    pub code: SqlState,
}

impl AskedFact {
    /// What is called for it, as an operator would look it up.
    #[must_use]
    pub fn function(self) -> &'static str {
        match self {
            AskedFact::SystemIdentifier => "pg_control_system",
            AskedFact::StartTime => "pg_postmaster_start_time",
            AskedFact::StatsRights => "pg_has_role",
            AskedFact::Platform => "pg_settings",
            AskedFact::RdsTopology => "rds_tools.show_topology",
            AskedFact::Settings => "SET",
            AskedFact::Replayed => "pg_last_wal_replay_lsn",
            AskedFact::Received => "pg_last_wal_receive_lsn",
            AskedFact::Flushed => "pg_current_wal_flush_lsn",
            AskedFact::Written => "pg_current_wal_lsn",
            AskedFact::Inserted => "pg_current_wal_insert_lsn",
            AskedFact::Timeline => "pg_walfile_name",
            AskedFact::LastCommit => "pg_last_xact_replay_timestamp",
            AskedFact::Paused => "pg_get_wal_replay_pause_state",
            AskedFact::Receiver => "pg_stat_wal_receiver",
            AskedFact::Startup => "pg_stat_activity",
            AskedFact::ApplyDelay => "recovery_min_apply_delay",
            AskedFact::AuroraInstance => "aurora_db_instance_identifier",
            AskedFact::AuroraStatus => "aurora_replica_status",
            AskedFact::LagQuery | AskedFact::LagAnswer => "lag_query",
        }
    }

    /// Whether a server's verdict may rest on it. `Settings`, `StatsRights` and the like are never what one rests on.
    pub(super) fn matters_to(self, role: Role) -> bool {
        match self {
            AskedFact::SystemIdentifier
            | AskedFact::AuroraInstance
            | AskedFact::AuroraStatus
            | AskedFact::RdsTopology
            | AskedFact::LagQuery
            | AskedFact::LagAnswer => true,
            AskedFact::Flushed | AskedFact::Written | AskedFact::Inserted | AskedFact::Timeline => {
                role == Role::Primary
            }
            AskedFact::Replayed
            | AskedFact::Received
            | AskedFact::LastCommit
            | AskedFact::Paused
            | AskedFact::Receiver
            | AskedFact::Startup
            | AskedFact::ApplyDelay => role == Role::Standby,
            AskedFact::StartTime | AskedFact::StatsRights | AskedFact::Platform | AskedFact::Settings => {
                false
            }
        }
    }
}

/// What a server refuses of what its verdict may rest on, as `pg_control_system and pg_walfile_name are refused (42501)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedFacts(Vec<RefusedFact>);

impl RefusedFacts {
    pub(super) fn of(refused: &[RefusedFact], role: Role) -> Self {
        RefusedFacts(refused.iter().filter(|refused| refused.fact.matters_to(role)).copied().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for RefusedFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_nonsense = |refused: &&RefusedFact| refused.fact == AskedFact::LagAnswer;
        let refused = || self.0.iter().filter(|refused| !is_nonsense(refused));
        for (index, RefusedFact { fact, code }) in refused().enumerate() {
            let before = if index == 0 { "" } else { ", " };
            write!(f, "{before}{} ({})", fact.function(), code.as_str())?;
        }
        let count = refused().count();
        match count {
            0 => {}
            1 => f.write_str(" is refused")?,
            _ => f.write_str(" are refused")?,
        }
        if self.0.iter().any(|refused| is_nonsense(&refused)) {
            let before = if count == 0 { "" } else { "; " };
            write!(
                f,
                "{before}lag_query gives neither milliseconds nor an LSN, such as 0/16B3748, nor NULL"
            )?;
        }
        Ok(())
    }
}
