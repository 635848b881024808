//! A model of a PostgreSQL server process: the message loop of `PostgresMain`, with a toy SQL.
//!
//! Commands, separated by `;`: `rows N`, `big N`, `begin`, `commit`, `rollback`, `set`, `notice`,
//! `error`, `copyout N`, `copyin` (`copyin K` fails at the K-th piece, `copyin 0` before reading),
//! `deallocate all`, `defer` (fails at Sync). A Parse of `bad` fails.

use std::collections::{HashMap, VecDeque};

use crate::wire;

struct CopyIn {
    is_simple: bool,
    pieces: usize,
    fails_at: Option<usize>,
}

struct Portal {
    sql: String,
    rows_done: usize,
}

#[derive(Default)]
pub(crate) struct Server {
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    /// Bytes ever put out.
    pub(crate) put_out: usize,
    /// Of these, up to the end of the last message that answers something.
    pub(crate) answered: usize,
    /// SQL of each Query, Execute and FunctionCall that was begun; `None` where it had none.
    pub(crate) begun: Vec<Option<String>>,
    pub(crate) is_closed: bool,
    /// Whether a Query joins the implicit transaction before it (PostgreSQL 18).
    pub(crate) joins_pipeline: bool,
    is_skipping: bool,
    is_unsynced: bool,
    is_deferred_failure: bool,
    transaction: Transaction,
    copy: Option<CopyIn>,
    commands: VecDeque<String>,
    statements: HashMap<String, String>,
    portals: HashMap<String, Portal>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Transaction {
    #[default]
    Idle,
    Open,
    Failed,
}

enum Ran {
    Done,
    Failed,
    Copying,
}

impl Server {
    pub(crate) fn new(joins_pipeline: bool) -> Self {
        Self { joins_pipeline, ..Self::default() }
    }

    pub(crate) fn is_idle(&self) -> bool {
        !self.is_closed
            && self.input_is_inert()
            && !self.is_skipping
            && !self.is_unsynced
            && self.copy.is_none()
            && self.transaction == Transaction::Idle
    }

    /// Whether all that is left to read are whole messages an idle server does not answer.
    fn input_is_inert(&self) -> bool {
        let (messages, rest) = wire::all(&self.input);
        rest == 0
            && messages.iter().all(|(tag, body)| match tag {
                b'd' | b'c' | b'f' => true,
                b'H' => body.is_empty(),
                _answered => false,
            })
    }

    /// Sends what may come at any time.
    pub(crate) fn send_async(&mut self) {
        self.put(wire::message(b'A', b"\0\0\0\x01channel\0payload\0"));
        self.put(wire::message(b'S', b"TimeZone\0UTC\0"));
    }

    /// Says goodbye and closes.
    pub(crate) fn die(&mut self, last_words: &[u8]) {
        self.put(last_words.to_vec());
        self.is_closed = true;
    }

    fn put(&mut self, bytes: Vec<u8>) {
        self.put_out += bytes.len();
        self.output.extend(bytes);
    }

    fn answer(&mut self, tag: u8, body: &[u8]) {
        self.put(wire::message(tag, body));
        self.answered = self.put_out;
    }

    /// Processes one message, if there is one.
    pub(crate) fn step(&mut self) {
        let Some((tag, body, length)) = wire::front(&self.input) else { return };
        if self.is_closed {
            return;
        }
        let body = body.to_vec();
        self.input.drain(..length);
        if self.copy.is_some() {
            self.copy_message(tag);
        } else if tag == b'X' {
            self.is_closed = true;
        } else if !self.is_skipping || tag == b'S' {
            self.message(tag, &body);
        }
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'Q' => self.query(body),
            b'F' => self.function_call(body),
            b'S' => self.sync(),
            b'd' | b'c' | b'f' => {}
            b'H' if body.is_empty() => {}
            _extended => {
                self.is_unsynced = true;
                let is_sound = match tag {
                    b'P' => self.parse(body),
                    b'B' => self.bind(body),
                    b'D' => self.describe(body),
                    b'E' => self.execute(body),
                    b'C' => self.close(body),
                    _flush => None,
                };
                if is_sound.is_none() {
                    self.fail_extended();
                }
            }
        }
    }

    fn error(&mut self, code: &str) {
        self.put(wire::report(b'E', "ERROR", code));
        self.answered = self.put_out;
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
    }

    fn fail_extended(&mut self) {
        self.error("22012");
        self.is_skipping = true;
    }

    fn ready(&mut self) {
        let status = match self.transaction {
            Transaction::Idle if self.is_unsynced => b"T",
            Transaction::Idle => b"I",
            Transaction::Open => b"T",
            Transaction::Failed => b"E",
        };
        if status == b"I" {
            self.portals.clear();
        }
        self.answer(b'Z', status);
    }

    fn sync(&mut self) {
        self.is_skipping = false;
        self.is_unsynced = false;
        if std::mem::take(&mut self.is_deferred_failure) {
            self.error("23503");
        }
        self.ready();
    }

    fn query(&mut self, body: &[u8]) {
        let sql = wire::cstr(body).map(|(sql, _)| sql).unwrap_or_default();
        self.statements.remove("");
        self.commands = sql.split(';').map(|command| command.trim().to_owned()).collect();
        self.begun.push(Some(sql));
        self.is_unsynced &= self.joins_pipeline;
        self.go_on();
    }

    /// Runs the commands of a Query until one reads COPY data.
    fn go_on(&mut self) {
        while let Some(command) = self.commands.pop_front() {
            match self.run(&command, true) {
                Ran::Done => {}
                Ran::Failed => {
                    self.commands.clear();
                    self.error("22012");
                }
                Ran::Copying => return,
            }
        }
        self.is_deferred_failure = false;
        self.ready();
    }

    fn run(&mut self, command: &str, is_simple: bool) -> Ran {
        let mut words = command.split(' ');
        let verb = words.next().unwrap_or_default();
        let number = words.next().and_then(|word| word.parse::<usize>().ok());
        if self.transaction == Transaction::Failed && !["commit", "rollback", ""].contains(&verb) {
            return Ran::Failed;
        }
        match verb {
            "" => {
                self.answer(b'I', b"");
                return Ran::Done;
            }
            "error" => return Ran::Failed,
            "rows" | "big" => {
                if is_simple {
                    self.answer(b'T', b"\0\0");
                }
                self.rows(verb, number.unwrap_or(0));
            }
            "copyout" => {
                self.answer(b'H', b"\0\0\0");
                for _ in 0..number.unwrap_or(0) {
                    self.answer(b'd', b"data");
                }
                self.answer(b'c', b"");
            }
            "copyin" => {
                self.answer(b'G', b"\0\0\0");
                if number == Some(0) {
                    return Ran::Failed;
                }
                self.copy = Some(CopyIn { is_simple, pieces: 0, fails_at: number });
                return Ran::Copying;
            }
            "begin" => self.transaction = Transaction::Open,
            "commit" | "rollback" => {
                self.transaction = Transaction::Idle;
                self.portals.clear();
            }
            "notice" => self.put(wire::report(b'N', "NOTICE", "00000")),
            "defer" => self.is_deferred_failure = !is_simple,
            "deallocate" => self.statements.retain(|name, _| name.is_empty()),
            _other => {}
        }
        self.answer(b'C', format!("{}\0", command.to_uppercase()).as_bytes());
        Ran::Done
    }

    fn rows(&mut self, verb: &str, number: usize) {
        if verb == "big" {
            self.answer(b'D', &vec![b'x'; number]);
        } else {
            (0..number).for_each(|_| self.answer(b'D', b"\0\0"));
        }
    }

    fn copy_message(&mut self, tag: u8) {
        let Some(copy) = &mut self.copy else { return };
        let is_simple = copy.is_simple;
        match tag {
            b'd' => {
                copy.pieces += 1;
                if copy.fails_at != Some(copy.pieces) {
                    return;
                }
            }
            b'H' | b'S' => return,
            b'c' => {
                self.answer(b'C', b"COPY 1\0");
                self.copy = None;
                if is_simple {
                    self.go_on();
                }
                return;
            }
            b'f' => {}
            _other => {
                self.error("08P01");
                self.die(&wire::report(b'E', "FATAL", "08P01"));
                return;
            }
        }
        self.copy = None;
        if is_simple {
            self.commands.clear();
            self.error("22P04");
            self.ready();
        } else {
            self.fail_extended();
        }
    }

    fn function_call(&mut self, body: &[u8]) {
        self.begun.push(None);
        self.is_unsynced &= self.joins_pipeline;
        if body.is_empty() || self.transaction == Transaction::Failed {
            self.error("08P01");
        } else {
            self.answer(b'V', b"\0\0\0\0");
        }
        self.ready();
    }

    fn parse(&mut self, body: &[u8]) -> Option<()> {
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

    fn bind(&mut self, body: &[u8]) -> Option<()> {
        let (portal, rest) = wire::cstr(body)?;
        let (statement, _) = wire::cstr(rest)?;
        let sql = self.statements.get(&statement)?.clone();
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return None;
        }
        self.portals.insert(portal, Portal { sql, rows_done: 0 });
        self.answer(b'2', b"");
        Some(())
    }

    fn describe(&mut self, body: &[u8]) -> Option<()> {
        let (&kind, rest) = body.split_first()?;
        let (name, _) = wire::cstr(rest)?;
        let sql = match kind {
            b'S' => self.statements.get(&name)?.clone(),
            b'P' => self.portals.get(&name)?.sql.clone(),
            _unknown => return None,
        };
        if kind == b'S' {
            self.answer(b't', b"\0\0");
        }
        let has_rows = sql.starts_with("rows") || sql.starts_with("big");
        self.answer(if has_rows { b'T' } else { b'n' }, if has_rows { b"\0\0" } else { b"" });
        Some(())
    }

    fn execute(&mut self, body: &[u8]) -> Option<()> {
        let (name, rest) = wire::cstr(body)?;
        let max = u32::from_be_bytes(rest.try_into().ok()?) as usize;
        self.begun.push(self.portals.get(&name).map(|portal| portal.sql.clone()));
        let portal = self.portals.get_mut(&name)?;
        let sql = portal.sql.clone();
        if let Some(rows) = sql.strip_prefix("rows ")
            && self.transaction != Transaction::Failed
        {
            let left = rows.parse::<usize>().ok()?.saturating_sub(portal.rows_done);
            let now = if max == 0 { left } else { left.min(max) };
            portal.rows_done += now;
            self.rows("rows", now);
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

    fn close(&mut self, body: &[u8]) -> Option<()> {
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
