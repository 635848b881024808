//! The extended protocol: statements and portals.

use super::{Portal, Ran, Server, Transaction};
use crate::wire;

impl Server {
    pub(super) fn fail_extended(&mut self) {
        let is_conflict = std::mem::take(&mut self.has_conflict);
        let has_no_portal = std::mem::take(&mut self.has_no_portal);
        let has_no_statement = std::mem::take(&mut self.has_no_statement);
        self.error(if is_conflict {
            "40001"
        } else if has_no_statement {
            "26000"
        } else if has_no_portal {
            "34000"
        } else {
            "22012"
        });
        self.is_skipping = true;
    }

    pub(super) fn parse(&mut self, body: &[u8]) -> Option<()> {
        if self.is_strict {
            return self.parse_strictly(body);
        }
        let (name, rest) = wire::cstr(body)?;
        let (sql, _) = wire::cstr(rest)?;
        if name.is_empty() {
            self.statements.remove("");
        }
        if sql == "bad" || self.statements.contains_key(&name) {
            return None;
        }
        self.statements.insert(name, sql);
        self.answer(b'1', b"");
        Some(())
    }

    pub(super) fn bind(&mut self, body: &[u8]) -> Option<()> {
        if self.is_strict {
            return self.bind_strictly(body);
        }
        let (portal, rest) = wire::cstr(body)?;
        let (statement, _) = wire::cstr(rest)?;
        self.has_no_statement = !self.statements.contains_key(&statement);
        let sql = self.statements.get(&statement)?.clone();
        // In a failed transaction PostgreSQL makes none but that which ends it: another server need not know of any.
        let word = sql.split(' ').next().unwrap_or_default().to_lowercase();
        let is_end = ["commit", "rollback"].contains(&word.as_str());
        if self.transaction != Transaction::Failed || is_end {
            if !portal.is_empty() && self.portals.contains_key(&portal) {
                return None;
            }
            self.portals.insert(portal, Portal { sql, rows_done: 0 });
        }
        self.answer(b'2', b"");
        Some(())
    }

    pub(super) fn describe(&mut self, body: &[u8]) -> Option<()> {
        if self.is_strict {
            return self.describe_strictly(body);
        }
        let (&kind, rest) = body.split_first()?;
        let (name, _) = wire::cstr(rest)?;
        let sql = match kind {
            b'S' => {
                self.has_no_statement = !self.statements.contains_key(&name);
                self.statements.get(&name)?.clone()
            }
            b'P' => self.portals.get(&name)?.sql.clone(),
            _unknown => return None,
        };
        if kind == b'S' {
            self.answer(b't', b"\0\0");
        }
        let has_rows = ["select", "values", "show"].iter().any(|verb| sql.starts_with(verb));
        self.answer(if has_rows { b'T' } else { b'n' }, if has_rows { b"\0\0" } else { b"" });
        Some(())
    }

    pub(super) fn execute(&mut self, body: &[u8]) -> Option<()> {
        let (name, rest) = wire::cstr(body)?;
        let max = u32::from_be_bytes(rest.try_into().ok()?) as usize;
        self.begun.push(self.portals.get(&name).map(|portal| portal.sql.clone()));
        self.has_no_portal = !self.portals.contains_key(&name);
        let portal = self.portals.get_mut(&name)?;
        let sql = portal.sql.clone();
        if self.has_conflict {
            return None;
        }
        if let Some(Ok(rows)) = sql.strip_prefix("select ").map(str::parse::<usize>)
            && self.transaction != Transaction::Failed
        {
            let left = rows.saturating_sub(portal.rows_done);
            let now = if max == 0 { left } else { left.min(max) };
            portal.rows_done += now;
            self.rows("select", now);
            if max != 0 && now == max {
                self.answer(b's', b"");
            } else {
                self.answer(b'C', format!("SELECT {now}\0").as_bytes());
            }
            return Some(());
        }
        match self.run(&sql, false) {
            Ran::Done | Ran::Copying => Some(()),
            Ran::Failed => None,
        }
    }

    pub(super) fn close(&mut self, body: &[u8]) -> Option<()> {
        let (&kind, rest) = body.split_first()?;
        let (name, _) = wire::cstr(rest)?;
        match kind {
            b'S' => drop(self.statements.remove(&name)),
            b'P' => drop(self.portals.remove(&name)),
            _unknown => return None,
        }
        self.answer(b'3', b"");
        Some(())
    }
}
