//! Which SQL a prepared statement or portal stands for.

use std::collections::{HashMap, VecDeque};

use trunkline_codec::frontend::{Close, Query, Target};

use crate::carried::texts::{TextId, Texts};
use crate::limits::{PORTALS_MAX, STATEMENT_BYTES_MAX};
use crate::names::{Name, bind_of, close_of, executed_portal, parse_of};

/// A Parse or Close that the server has not answered.
#[derive(Debug)]
enum PendingText {
    Parse {
        name: Name,
        text: Option<TextId>,
    },
    CloseStatement {
        name: Name,
    },
    ClosePortal,
    /// One whose name is not kept.
    Nameless,
}

/// Prepared statements as the server has confirmed them, and those it will have once it has
/// answered everything sent so far.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    pub(crate) texts: Texts,
    named: HashMap<Name, Option<TextId>>,
    named_bytes: usize,
    unnamed: Option<TextId>,
    portals: HashMap<Name, Option<TextId>>,
    unnamed_portal: Option<TextId>,
    pending: VecDeque<PendingText>,
    sql_bytes_max: usize,
}

impl Statements {
    pub(crate) fn new(sql_bytes_max: usize) -> Self {
        Self { sql_bytes_max, ..Self::default() }
    }

    fn keep(&mut self, sql: &[u8]) -> Option<TextId> {
        let cut = &sql[..sql.len().min(self.sql_bytes_max)];
        self.texts.insert(cut)
    }

    /// A Query was sent.
    pub(crate) fn query_sent(&mut self, body: &[u8]) -> Option<TextId> {
        // The NUL that ends a sound query is the last byte, so it need not be searched for.
        let cut = &body[..body.len().min(self.sql_bytes_max + 1)];
        match cut.split_last() {
            Some((0, sql)) => self.keep(sql),
            Some(_) | None => self.keep(Query::parse_prefix(cut).sql),
        }
    }

    /// A Query was answered: it has dropped the unnamed statement.
    pub(crate) fn query_answered(&mut self) {
        let unnamed = self.unnamed.take();
        self.texts.release(unnamed);
    }

    /// A Parse was sent; [`Self::parse_answered`] or [`Self::dropped`] follows for it.
    pub(crate) fn parse_sent(&mut self, body: &[u8]) -> Option<TextId> {
        let Some(parse) = parse_of(body) else {
            self.pending.push_back(PendingText::Nameless);
            return None;
        };
        let text = self.keep(parse.sql);
        self.pending.push_back(PendingText::Parse { name: parse.name.into(), text });
        self.texts.retain(text)
    }

    /// A Close was sent; [`Self::close_answered`] or [`Self::dropped`] follows for it.
    pub(crate) fn close_sent(&mut self, body: &[u8]) {
        self.pending.push_back(match close_of(body) {
            Some(Close { kind: Target::Statement, name }) => {
                PendingText::CloseStatement { name: name.into() }
            }
            Some(Close { kind: Target::Portal, .. }) => PendingText::ClosePortal,
            None => PendingText::Nameless,
        });
    }

    /// A Bind was sent.
    pub(crate) fn bind_sent(&mut self, body: &[u8]) -> Option<TextId> {
        let bind = bind_of(body)?;
        let text = self.resolve(bind.statement);
        let held = self.texts.retain(text);
        if bind.portal.is_empty() {
            let before = std::mem::replace(&mut self.unnamed_portal, held);
            self.texts.release(before);
        } else if let Some(portal) = self.portals.get_mut(bind.portal) {
            let before = std::mem::replace(portal, held);
            self.texts.release(before);
        } else if self.portals.len() < PORTALS_MAX {
            self.portals.insert(bind.portal.into(), held);
        } else {
            self.texts.release(held);
        }
        self.texts.retain(text)
    }

    /// An Execute was sent.
    pub(crate) fn execute_sent(&mut self, body: &[u8]) -> Option<TextId> {
        let portal = executed_portal(body)?;
        let text =
            if portal.is_empty() { self.unnamed_portal } else { self.portals.get(portal).copied().flatten() };
        self.texts.retain(text)
    }

    /// A Describe of a statement was sent.
    pub(crate) fn describe_sent(&mut self, statement: &[u8]) -> Option<TextId> {
        let text = self.resolve(statement);
        self.texts.retain(text)
    }

    /// The SQL of a statement as it will be once everything sent is answered.
    fn resolve(&self, statement: &[u8]) -> Option<TextId> {
        for pending in self.pending.iter().rev() {
            match pending {
                PendingText::Parse { name, text } if &**name == statement => return *text,
                PendingText::CloseStatement { name } if &**name == statement => return None,
                PendingText::Parse { .. }
                | PendingText::CloseStatement { .. }
                | PendingText::ClosePortal
                | PendingText::Nameless => {}
            }
        }
        if statement.is_empty() {
            return self.unnamed;
        }
        self.named.get(statement).copied().flatten()
    }

    /// The oldest Parse in flight succeeded.
    pub(crate) fn parse_answered(&mut self) {
        match self.pending.pop_front() {
            Some(PendingText::Parse { name, text }) if name.is_empty() => {
                let before = std::mem::replace(&mut self.unnamed, text);
                self.texts.release(before);
            }
            Some(PendingText::Parse { name, text }) => self.register(name, text),
            Some(PendingText::CloseStatement { .. } | PendingText::ClosePortal | PendingText::Nameless)
            | None => {}
        }
    }

    fn register(&mut self, name: Name, text: Option<TextId>) {
        if self.named_bytes + name.len() > STATEMENT_BYTES_MAX {
            self.texts.release(text);
            return;
        }
        let length = name.len();
        match self.named.insert(name, text) {
            Some(before) => self.texts.release(before),
            None => self.named_bytes += length,
        }
    }

    /// The oldest Close in flight succeeded.
    pub(crate) fn close_answered(&mut self) {
        match self.pending.pop_front() {
            Some(PendingText::CloseStatement { name }) if name.is_empty() => self.query_answered(),
            Some(PendingText::CloseStatement { name }) => {
                if let Some(text) = self.named.remove(&name) {
                    self.named_bytes -= name.len();
                    self.texts.release(text);
                }
            }
            Some(PendingText::Parse { .. } | PendingText::ClosePortal | PendingText::Nameless) | None => {}
        }
    }

    /// The oldest Parse or Close in flight failed or was skipped.
    pub(crate) fn dropped(&mut self) {
        if let Some(PendingText::Parse { text, .. }) = self.pending.pop_front() {
            self.texts.release(text);
        }
    }

    /// `DEALLOCATE ALL` or `DISCARD ALL` was executed.
    pub(crate) fn deallocate_all(&mut self) {
        for (_, text) in self.named.drain() {
            self.texts.release(text);
        }
        self.named_bytes = 0;
    }

    /// The session is idle outside a transaction: portals are gone.
    #[inline]
    pub(crate) fn transaction_ended(&mut self) {
        if !self.portals.is_empty() {
            for (_, text) in self.portals.drain() {
                self.texts.release(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, sql: &str) -> Vec<u8> {
        format!("{name}\0{sql}\0\0\0").into_bytes()
    }

    fn bind(portal: &str, statement: &str) -> Vec<u8> {
        format!("{portal}\0{statement}\0\0\0\0\0\0\0").into_bytes()
    }

    fn execute(portal: &str) -> Vec<u8> {
        format!("{portal}\0\0\0\0\0").into_bytes()
    }

    fn executed(statements: &mut Statements, portal: &str) -> Option<String> {
        let text = statements.execute_sent(&execute(portal));
        let sql = statements.texts.sql(text).map(|sql| String::from_utf8_lossy(sql).into_owned());
        statements.texts.release(text);
        sql
    }

    /// Sends a Parse and drops the hold of its queue entry.
    fn send_parse(statements: &mut Statements, name: &str, sql: &str) {
        let text = statements.parse_sent(&parse(name, sql));
        statements.texts.release(text);
    }

    fn send_bind(statements: &mut Statements, portal: &str, statement: &str) {
        let text = statements.bind_sent(&bind(portal, statement));
        statements.texts.release(text);
    }

    #[test]
    fn execute_resolves_to_the_sql_of_its_statement_even_before_parse_is_answered() {
        let mut s = Statements::new(100);
        send_parse(&mut s, "s1", "select 1");
        send_parse(&mut s, "", "select 2");
        send_bind(&mut s, "", "s1");
        assert_eq!(executed(&mut s, "").as_deref(), Some("select 1"));
        send_bind(&mut s, "p", "");
        assert_eq!(executed(&mut s, "p").as_deref(), Some("select 2"));
        s.parse_answered();
        s.parse_answered();
        send_bind(&mut s, "", "s1");
        assert_eq!(executed(&mut s, "").as_deref(), Some("select 1"));
    }

    #[test]
    fn failed_parse_registers_nothing_and_keeps_what_was_there() {
        let mut s = Statements::new(100);
        send_parse(&mut s, "s1", "select 1");
        s.parse_answered();
        send_parse(&mut s, "s1", "select 2");
        send_parse(&mut s, "s2", "select 3");
        s.dropped();
        s.dropped();
        send_bind(&mut s, "", "s1");
        assert_eq!(executed(&mut s, "").as_deref(), Some("select 1"));
        send_bind(&mut s, "", "s2");
        assert_eq!(executed(&mut s, ""), None);
    }

    #[test]
    fn close_and_deallocate_all_forget() {
        let mut s = Statements::new(100);
        for name in ["a", "b"] {
            send_parse(&mut s, name, "select 1");
            s.parse_answered();
        }
        s.close_sent(b"Sa\0");
        send_bind(&mut s, "", "a");
        assert_eq!(executed(&mut s, ""), None, "it will be closed by then");
        s.close_answered();
        send_bind(&mut s, "", "b");
        assert_eq!(executed(&mut s, "").as_deref(), Some("select 1"));
        s.deallocate_all();
        send_bind(&mut s, "", "b");
        assert_eq!(executed(&mut s, ""), None);
        assert_eq!(s.texts.held(), 0);
    }

    #[test]
    fn sql_is_cut_at_the_setting_and_not_kept_over_the_limit() {
        let mut s = Statements::new(6);
        let text = s.query_sent(b"select 1\0");
        assert_eq!(s.texts.sql(text), Some(&b"select"[..]));
        s.texts.release(text);
        let text = s.query_sent(b"se\0junk");
        assert_eq!(s.texts.sql(text), Some(&b"se"[..]));

        let mut s = Statements::new(STATEMENT_BYTES_MAX);
        assert!(s.query_sent(&vec![b'x'; STATEMENT_BYTES_MAX]).is_some());
        assert_eq!(s.query_sent(b"x\0"), None);
    }

    #[test]
    fn portals_are_bounded_and_end_with_the_transaction() {
        let mut s = Statements::new(100);
        send_parse(&mut s, "", "select 1");
        for n in 0..=PORTALS_MAX {
            send_bind(&mut s, &format!("p{n}"), "");
        }
        assert_eq!(executed(&mut s, &format!("p{PORTALS_MAX}")), None, "one too many");
        assert_eq!(executed(&mut s, "p0").as_deref(), Some("select 1"));
        s.transaction_ended();
        assert_eq!(executed(&mut s, "p0"), None);
    }
}
