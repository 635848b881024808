//! Whether the functions that were called on the present connection are those that the last look has read.
//!
//! A function may be replaced between a look and a call, by somebody who does not go through the proxy. So before another
//! session gets the connection, its server is asked for the fingerprint of its functions: while that is the one of the last
//! look, each call did what was read, unless a function was another one in between. Else a look that began later tells what
//! the session has to carry; what it cannot tell ends with the connection. A session that ends before its server was asked
//! leaves that to whoever [resets its connection](crate::ConnectionState::proof).
//!
//! ```text
//!              call           the same fingerprint
//!  NotNeeded ────────> Due ──────────────────────────> NotNeeded
//!                       │                                  ^
//!                       │ another one, or no answer        │ that look has ended
//!                       └──────────────> Looking ──────────┘
//! ```
//!
//! Of calls while a look is waited for, the server is asked behind it.
//!
//! While a look is due for what sessions have created, anything that SQL names may be of that, and it is looked for at once.

use std::sync::Arc;

use trunkline_codec::backend::DataRow;

use crate::carried::unsettled::Unsettled;
use crate::sql::functions::{
    FUNCTIONS_FINGERPRINT, FingerprintComparison, Functions, NO_LOOK, UnlistedFunctions,
};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CallProof {
    #[default]
    NotNeeded,
    Due,
    /// A look of this number tells what was called.
    Looking {
        look: u64,
        doubt: CallDoubt,
    },
}

/// Why a look has to tell what was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallDoubt {
    /// The server has other functions than the last look has read, or some were called since.
    OtherFunctions,
    /// It is not known which functions the server has.
    NoAnswer,
    /// The same, and functions were called that the server was not asked about.
    NotAsked,
}

impl CallProof {
    /// A function was called, or may have been. A client that calls without a pause does not keep its connection from others
    /// by that: where the server has other functions than were read, the look may not tell of this call, so the connection is
    /// closed. Where that is not known, the server is asked after the look.
    #[inline]
    pub(crate) fn called(&mut self) {
        *self = match *self {
            Self::NotNeeded | Self::Due => Self::Due,
            Self::Looking { look, doubt: CallDoubt::NoAnswer | CallDoubt::NotAsked } => {
                Self::Looking { look, doubt: CallDoubt::NotAsked }
            }
            other @ Self::Looking { doubt: CallDoubt::OtherFunctions, .. } => other,
        };
    }

    /// What a text runs is known after this look. If there will be none, the connection ends.
    #[cold]
    pub(crate) fn waits_for(&mut self, look: u64) {
        *self = match *self {
            _ if look == NO_LOOK => Self::Looking { look, doubt: CallDoubt::OtherFunctions },
            Self::NotNeeded => Self::Looking { look, doubt: CallDoubt::NoAnswer },
            Self::Due => Self::Looking { look, doubt: CallDoubt::NotAsked },
            Self::Looking { look: before, doubt } => Self::Looking { look: before.max(look), doubt },
        };
    }
}

/// The query, which returns one row of one value.
pub(crate) fn question_of_calls() -> Vec<u8> {
    format!("SELECT {FUNCTIONS_FINGERPRINT}").into_bytes()
}

/// What the answer to [`question_of_calls`] says.
pub(crate) fn compare(functions: &Functions, row: Option<&[u8]>) -> FingerprintComparison {
    let row = row.and_then(|row| DataRow::parse(row).ok());
    let told = row.as_ref().and_then(|row| row.values().next().flatten());
    told.map_or(FingerprintComparison::Unknown, |told| functions.compare(told))
}

impl Unsettled {
    /// A statement is run that may call functions, other than by the SQL that the client sends just now.
    #[inline]
    pub(crate) fn called_again(&mut self) {
        if let Some(functions) = &self.functions {
            self.proof.called();
            self.recent_calls.run_again(functions);
            if self.recent_calls.has_long_statements() {
                self.waits_for_what_was_made();
            }
        }
    }

    /// Part of a long text is sent, in which functions without effects are not looked for.
    #[cold]
    pub(crate) fn calls_unnoted(&mut self, is_parse: bool) {
        if let Some(functions) = &self.functions {
            self.proof.called();
            self.recent_calls.add_unnoted(is_parse, functions);
            self.waits_for_what_was_made();
        }
    }

    /// A text is run whose names are not compared with what sessions have made.
    #[cold]
    fn waits_for_what_was_made(&mut self) {
        if let Some(functions) = self.functions.as_ref().filter(|functions| functions.is_change_ahead()) {
            self.proof.waits_for(functions.next_look());
        }
    }

    /// Whether the server is to be asked which functions it has.
    #[inline]
    pub(crate) fn is_proof_due(&self) -> bool {
        self.proof == CallProof::Due
    }

    /// Whether it is known that all functions that were called are those that were read.
    #[inline]
    pub(crate) fn is_proven(&self) -> bool {
        self.proof == CallProof::NotNeeded
    }

    /// Whether that waits for a look.
    #[inline]
    pub(crate) fn is_looking(&self) -> bool {
        matches!(self.proof, CallProof::Looking { .. })
    }

    /// Whether what was called is known to be something else than what was read.
    pub(crate) fn has_other_functions(&self) -> bool {
        matches!(self.proof, CallProof::Looking { doubt: CallDoubt::OtherFunctions, .. })
    }

    /// The functions of which some were called that may not be those that were read.
    pub(crate) fn unproven(&self) -> Option<&Arc<Functions>> {
        self.functions.as_ref().filter(|_| !self.is_proven())
    }

    /// The answer has come, in this row; `None` when there is none.
    pub(crate) fn calls_told(&mut self, row: Option<&[u8]>) {
        let (Some(functions), true) = (&self.functions, self.is_proof_due()) else { return };
        let doubt = match compare(functions, row) {
            FingerprintComparison::Same => {
                self.proof = CallProof::NotNeeded;
                return;
            }
            FingerprintComparison::Other => CallDoubt::OtherFunctions,
            // No look will tell: the connection ends now.
            FingerprintComparison::Unknown if functions.load().unlisted == UnlistedFunctions::Pins => {
                self.proof = CallProof::Looking { look: NO_LOOK, doubt: CallDoubt::OtherFunctions };
                return;
            }
            FingerprintComparison::Unknown => CallDoubt::NoAnswer,
        };
        self.proof = CallProof::Looking { look: functions.next_look(), doubt };
    }

    /// Ends the wait if the look has ended. Returns why it was waited for.
    pub(crate) fn look_has_told(&mut self) -> Option<CallDoubt> {
        let (Some(functions), CallProof::Looking { look, doubt }) = (&self.functions, self.proof) else {
            return None;
        };
        functions.has_looked(look).then(|| {
            self.proof = if doubt == CallDoubt::NotAsked { CallProof::Due } else { CallProof::NotNeeded };
            doubt
        })
    }
}
