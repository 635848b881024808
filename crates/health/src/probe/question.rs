//! What one connection asks: the pieces of a statement that the server does not refuse.
//!
//! ```text
//! the whole statement --refused--> each piece apart, in one round trip --> a statement of the pieces that work
//! ```
//!
//! A failed statement says neither which function of it failed nor what the others would have told, and what follows it in
//! the same message is not run: so each piece gets a message of its own.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::failure;
use super::sql::{self, FactPiece, Frame};
use crate::judge::{AskedFact, ProbeFailure, ProbePhase, RefusedFact};

/// How often a server is asked again for what it has refused, on a connection that is kept.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A statement of pieces.
#[derive(Debug)]
pub(super) struct Question {
    frame: Frame,
    pieces: Vec<FactPiece>,
    refused: Vec<RefusedFact>,
    statement: String,
    /// When each piece was asked for apart.
    surveyed_at: Option<Instant>,
}

impl Question {
    /// Asks for all of `pieces` until the server refuses one.
    pub(super) fn new(frame: Frame, pieces: Vec<FactPiece>) -> Self {
        let mut question =
            Question { frame, pieces, refused: Vec::new(), statement: String::new(), surveyed_at: None };
        question.compose();
        question
    }

    /// Whether nothing is asked beside what the frame asks.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// What the server refuses.
    pub(super) fn refused(&self) -> &[RefusedFact] {
        &self.refused
    }

    /// Whether the server refuses `fact`.
    pub(super) fn refuses(&self, fact: AskedFact) -> bool {
        self.refused.iter().any(|refused| refused.fact == fact)
    }

    /// Whether it is time to ask again for what was refused.
    pub(super) fn is_due_again(&self) -> bool {
        !self.refused.is_empty() && self.surveyed_at.is_none_or(|at| at.elapsed() >= ASKED_AGAIN_AFTER)
    }

    /// Asks. A server that refuses something is asked piece by piece, and then for the rest; each of the three within
    /// `patience`.
    ///
    /// # Errors
    /// What the server refuses though it refuses no piece of it, the loss of the connection, or a timeout.
    pub(super) async fn ask(
        &mut self,
        client: &Client,
        patience: Duration,
    ) -> Result<Vec<SimpleQueryRow>, ProbeFailure> {
        if self.is_due_again() {
            self.survey(client, patience).await?;
        }
        let first = rows(client, &self.statement, patience).await;
        let again = match first {
            // Promoted between two functions of the statement: the next answer is consistent.
            Err(failure) if failure::is_role_flip(&failure) => rows(client, &self.statement, patience).await,
            other => other,
        };
        match again {
            Err(failure) if self.may_name_a_piece(&failure) => {
                self.survey(client, patience).await?;
                rows(client, &self.statement, patience).await
            }
            other => other,
        }
    }

    /// Finds out which pieces the server refuses.
    async fn survey(&mut self, client: &Client, patience: Duration) -> Result<(), ProbeFailure> {
        let frame = self.frame;
        // All are under way before the first is answered: one round trip.
        let asked = self.pieces.iter().map(|piece| async move {
            let statement = sql::statement(frame, [piece]);
            (piece.fact, rows(client, &statement, patience).await)
        });
        let mut refused = Vec::new();
        for (fact, answer) in join_all(asked).await {
            match answer {
                Ok(_) => {}
                Err(ProbeFailure::Refusal { code, .. }) if failure::leaves_out(fact, code) => {
                    refused.push(RefusedFact { fact, code });
                }
                Err(failure) => return Err(failure),
            }
        }
        self.refused = refused;
        self.surveyed_at = Some(Instant::now());
        self.compose();
        Ok(())
    }

    fn may_name_a_piece(&self, failure: &ProbeFailure) -> bool {
        let ProbeFailure::Refusal { code, .. } = failure else { return false };
        self.pieces.iter().any(|piece| failure::leaves_out(piece.fact, *code))
    }

    fn compose(&mut self) {
        let is_asked = |piece: &&FactPiece| {
            let is_spare = piece.fact == AskedFact::Written && !self.refuses(AskedFact::Flushed);
            !is_spare && !self.refuses(piece.fact)
        };
        self.statement = sql::statement(self.frame, self.pieces.iter().filter(is_asked));
    }
}

/// All rows that a statement gives.
pub(super) async fn rows(
    client: &Client,
    statement: &str,
    patience: Duration,
) -> Result<Vec<SimpleQueryRow>, ProbeFailure> {
    let messages = match timeout(patience, client.simple_query(statement)).await {
        Ok(answer) => answer.map_err(|error| failure::classify(&error))?,
        Err(_) => return Err(ProbeFailure::TimedOut { phase: ProbePhase::Query, after: patience }),
    };
    let rows: Vec<_> = messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect();
    if rows.is_empty() { Err(ProbeFailure::Malformed("no row".to_owned())) } else { Ok(rows) }
}
