//! What the client says of its reads, and what the configuration says of them.

use bytes::BytesMut;
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{ErrorReport, error_response};
use trunkline_session::{Hints, InvalidHint, MinLsn, NotProven, RouteHint, TransactionStatus, UnitReading};
use trunkline_telemetry::metrics::RouteReason;

use super::min_lsn::MinLsnMeaning;
use crate::relay::{Next, Relay};

/// Why a unit goes to no server.
#[derive(Clone, Debug)]
pub(super) enum HintRefusal {
    /// A hint cannot have its value.
    Invalid(InvalidHint),
    /// It must see what nobody has written.
    Beyond(MinLsn),
}

impl From<InvalidHint> for HintRefusal {
    fn from(invalid: InvalidHint) -> Self {
        HintRefusal::Invalid(invalid)
    }
}

impl Relay {
    /// What holds for the session where its SQL says nothing else, with what its startup packet has `said`.
    pub(super) fn given_hints(&self, said: Hints) -> Hints {
        let [user, database] = self.context.info.names.of_login();
        Hints { route: said.route.or_else(|| self.live.session.route_hint_of(user, database)), ..said }
    }

    /// What a whole unit is with what is said of it.
    ///
    /// # Errors
    /// For a hint that cannot have its value: the unit goes to no server.
    pub(super) fn hinted(&mut self, unit: &[u8], reading: UnitReading) -> Result<UnitReading, HintRefusal> {
        let hinted = self.with_hints(unit, reading);
        if hinted.is_err() && self.session.transaction_status() != TransactionStatus::Idle {
            // Within a transaction such a hint says nothing.
            return Ok(UnitReading::Other(NotProven::Unknown));
        }
        hinted
    }

    fn with_hints(&mut self, unit: &[u8], reading: UnitReading) -> Result<UnitReading, HintRefusal> {
        let reading = self.trusted(unit, reading)?;
        if let (UnitReading::Reads(_), Some(split)) = (reading, &self.context.split)
            && split.hints.route != Some(RouteHint::Primary)
            && let Some(wanted) = split.hints.min_lsn
            && self.min_lsn(&self.worker.shared.health.load()) == Some(MinLsnMeaning::Beyond)
        {
            return Err(HintRefusal::Beyond(wanted));
        }
        Ok(reading)
    }

    fn trusted(&mut self, unit: &[u8], reading: UnitReading) -> Result<UnitReading, InvalidHint> {
        let Some(split) = &mut self.context.split else { return Ok(reading) };
        split.proof = RouteReason::Proven;
        if matches!(reading, UnitReading::Reads(unit) if unit.says_nothing) && !self.session.has_hints() {
            split.hints = split.given;
            return Ok(reading);
        }
        split.hints = self.session.hints_of(unit, split.given)?;
        let may_be_trusted = match reading {
            UnitReading::Other(NotProven::Unknown | NotProven::Unjudged) => true,
            UnitReading::Other(NotProven::Transaction | NotProven::Settings | NotProven::Session)
            | UnitReading::Reads(_)
            | UnitReading::Incomplete => false,
        };
        if split.hints.route != Some(RouteHint::Standby) || !may_be_trusted {
            return Ok(reading);
        }
        split.proof = RouteReason::Trusted;
        Ok(self.session.read_trusted_unit(unit))
    }

    /// Answers the unit that is at hand, which no server gets, and goes on.
    pub(super) fn refuse_hint(&mut self, refusal: &HintRefusal) -> Next {
        let (message, detail, hint) = match refusal {
            HintRefusal::Invalid(invalid) => (
                invalid.to_string(),
                format!("It must be {}.", invalid.must_be),
                "Give it such a value with SET or in the statement's first comment, or RESET it.",
            ),
            HintRefusal::Beyond(wanted) => (
                format!("\"trunkline.min_lsn\" {wanted} is beyond the end of the write-ahead log"),
                "The primary, asked since the request came, has not written as much.".to_owned(),
                "Give it a position that this cluster has told of, or RESET it.",
            ),
        };
        let report = ErrorReport::error(SqlState::INVALID_PARAMETER_VALUE, &message)
            .with_detail(&detail)
            .with_hint(hint);
        let mut error = BytesMut::new();
        error_response(&mut error, &report);
        self.context.cancel.wait_ended();
        self.session.refuse_next(error.freeze());
        Next::Again
    }
}
