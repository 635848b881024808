//! Prepared statements as PostgreSQL keeps them: with their types, a constant read when they are analysed (that of the setting
//! `b`) and the `search_path` under which that was; used under another one, they are analysed again.
//!
//! Such statements are `select A from T`; what they run is `tell A|T|types|constant|search_path`.

use super::{Server, Transaction};
use crate::wire;

/// What is known of a statement besides its SQL.
#[derive(Clone, Default)]
pub(super) struct Made {
    types: String,
    constant: String,
    path: String,
}

/// An error: its code and text.
pub(super) type Refusal = (&'static str, String);

/// A RowDescription of one column of text, which is named for what is selected.
fn columns(selected: &str, table: &str) -> Vec<u8> {
    let mut out = format!("\0\x01{selected} of {table}\0").into_bytes();
    out.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
    out
}

fn is_strict(sql: &str) -> bool {
    sql.starts_with("select ") && sql.contains(" from ")
}

/// The types that a Parse names; where it names none, the server chooses.
fn types(sql: &str, named: &[u8]) -> Vec<u8> {
    match named.split_first_chunk::<2>() {
        Some((count, types)) if *count != [0, 0] => types.to_vec(),
        _none if sql.contains("$1") => vec![0, 0, 0, 25],
        _none => Vec::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Server {
    /// It keeps statements as PostgreSQL does.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }

    fn setting_of(&self, name: &str) -> String {
        self.settings.get(name).cloned().unwrap_or_default()
    }

    fn refuse(&mut self, code: &'static str, text: String) -> Option<()> {
        self.refusal = Some((code, text));
        None
    }

    fn refuse_in_failed(&mut self) -> Option<()> {
        self.refuse("25P02", "current transaction is aborted".to_owned())
    }

    /// A statement of this name is not there.
    pub(super) fn find(&mut self, name: &str) -> Option<String> {
        let found = self.statements.get(name).cloned();
        if found.is_none() && self.is_strict {
            self.refuse("26000", format!("prepared statement \"{name}\" does not exist"))?;
        }
        found
    }

    pub(super) fn make(&mut self, name: String, sql: String, named: &[u8]) -> Option<()> {
        if self.is_strict && self.statements.contains_key(&name) {
            return self.refuse("42P05", format!("prepared statement \"{name}\" already exists"));
        }
        let (constant, path) = (self.setting_of("b"), self.setting_of("search_path"));
        let made = Made { types: hex(&types(&sql, named)), constant, path };
        self.made.insert(name.clone(), made);
        self.statements.insert(name, sql);
        Some(())
    }

    pub(super) fn parse_strictly(&mut self, body: &[u8]) -> Option<()> {
        let (name, rest) = wire::cstr(body)?;
        let (sql, named) = wire::cstr(rest)?;
        if name.is_empty() {
            self.statements.remove("");
        }
        if sql == "bad" {
            return self.refuse("42601", "syntax error".to_owned());
        }
        if self.transaction == Transaction::Failed && !ends(&sql) {
            return self.refuse_in_failed();
        }
        self.make(name, sql, named)?;
        self.answer(b'1', b"");
        Some(())
    }

    /// What a statement runs, once it is analysed anew where that is due.
    pub(super) fn revalidated(&mut self, name: &str) -> Option<String> {
        let sql = self.find(name)?;
        if !self.is_strict || !is_strict(&sql) {
            return Some(sql);
        }
        let (path, constant) = (self.setting_of("search_path"), self.setting_of("b"));
        let made = self.made.get_mut(name)?;
        if made.path != path {
            (made.path, made.constant) = (path, constant);
        }
        let words: Vec<&str> = sql.split(' ').collect();
        Some(format!("tell {}|{}|{}|{}|{}", words[1], words[3], made.types, made.constant, made.path))
    }

    pub(super) fn bind_strictly(&mut self, body: &[u8]) -> Option<()> {
        let (portal, rest) = wire::cstr(body)?;
        let (name, rest) = wire::cstr(rest)?;
        let sql = self.find(&name)?;
        let types = self.made.get(&name).map_or(0, |made| made.types.len() / 8);
        let (given, wanted) = (usize::from(rest.get(3).copied()?), types);
        if given != wanted {
            let text = format!(
                "bind message supplies {given} parameters, but prepared statement \"{name}\" requires {wanted}"
            );
            return self.refuse("08P01", text);
        }
        if self.transaction == Transaction::Failed && !ends(&sql) {
            return self.refuse_in_failed();
        }
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return self.refuse("42P03", format!("cursor \"{portal}\" already exists"));
        }
        let sql = self.revalidated(&name)?;
        self.portals.insert(portal, super::Portal { sql, rows_done: 0 });
        self.answer(b'2', b"");
        Some(())
    }

    pub(super) fn describe_strictly(&mut self, body: &[u8]) -> Option<()> {
        let (&kind, rest) = body.split_first()?;
        let (name, _) = wire::cstr(rest)?;
        let sql = if kind == b'S' {
            let sql = self.find(&name)?;
            if self.transaction == Transaction::Failed && has_rows(&sql) {
                return self.refuse_in_failed();
            }
            let types = self.made.get(&name).map(|made| made.types.clone()).unwrap_or_default();
            let count = types.len() as u16 / 8;
            let bytes = (0..types.len()).step_by(2).map(|at| u8::from_str_radix(&types[at..at + 2], 16));
            let bytes: Vec<u8> = bytes.map_while(Result::ok).collect();
            self.answer(b't', &[&count.to_be_bytes()[..], &bytes].concat());
            self.revalidated(&name)?
        } else {
            let portal = self.portals.get(&name).map(|portal| portal.sql.clone());
            if portal.is_none() {
                self.refuse("34000", format!("portal \"{name}\" does not exist"))?;
            }
            portal?
        };
        match sql.strip_prefix("tell ") {
            Some(told) => {
                let parts: Vec<&str> = told.split('|').collect();
                let columns = columns(parts[0], parts[1]);
                self.answer(b'T', &columns);
            }
            None if has_rows(&sql) => self.answer(b'T', b"\0\0"),
            None => self.answer(b'n', b""),
        }
        Some(())
    }
}

fn ends(sql: &str) -> bool {
    ["commit", "rollback", "ROLLBACK"].contains(&sql.split(' ').next().unwrap_or_default())
}

fn has_rows(sql: &str) -> bool {
    ["select", "values", "show"].iter().any(|verb| sql.starts_with(verb))
}
