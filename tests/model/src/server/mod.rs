//! A model of a PostgreSQL server process: the message loop of `PostgresMain`, with a toy SQL.
//!
//! Commands, separated by `;`: `select N` (rows), `select error`, `select notice`, `values N` (a row of
//! N bytes), `show NAME`, `set [local] NAME to VALUE`, `reset NAME`, `begin`, `commit`, `rollback [to
//! NAME]`, `savepoint NAME`, `release NAME`, `discard all`, `deallocate all`, `copy out N`, `copy in`
//! (`copy in K` fails at the K-th piece, `copy in 0` before reading), `insert defer` (fails at Sync).
//! `prepare NAME as ...`, `execute NAME`, `deallocate NAME`; `insert N`, which `show last` shows as a sequence would.
//! What an alignment says with `set_config` is a `set`. A Parse of `bad` fails. The setting `timezone` is reported.

mod copy;
mod extended;
mod left;
mod login;
mod strict;
mod transaction;

use std::collections::{BTreeMap, HashMap, VecDeque};

use self::copy::CopyIn;
use self::left::Left;
use self::strict::{Made, Refusal};
use crate::wire;

#[derive(Clone)]
struct Portal {
    sql: String,
    rows_done: usize,
}

#[derive(Clone, Default)]
/// One session's server process.
pub struct Server {
    /// Bytes it has yet to read.
    pub input: Vec<u8>,
    /// Bytes it has sent that nobody has taken.
    pub output: Vec<u8>,
    /// Bytes ever put out.
    pub put_out: usize,
    /// Of these, up to the end of the last message that answers something.
    pub answered: usize,
    /// SQL of each Query, Execute and FunctionCall that was begun; `None` where it had none.
    pub begun: Vec<Option<String>>,
    /// It has ended the session.
    pub is_closed: bool,
    /// Whether a Query joins the implicit transaction before it (PostgreSQL 18).
    pub joins_pipeline: bool,
    /// How far it says that it has replayed.
    pub position: String,
    /// The next statement is canceled for recovery.
    pub has_conflict: bool,
    /// The extended message that fails names a portal that is not there.
    has_no_portal: bool,
    /// The same of a statement.
    has_no_statement: bool,
    is_skipping: bool,
    is_unsynced: bool,
    is_deferred_failure: bool,
    transaction: Transaction,
    copy: Option<CopyIn>,
    commands: VecDeque<String>,
    /// Prepared statements, by name.
    pub statements: BTreeMap<String, String>,
    /// Settings that are not the default.
    pub settings: Settings,
    /// Settings as they were before the latest request or transaction.
    earlier: Settings,
    /// Settings as they were before the transaction, and at each of its savepoints.
    before: Option<Settings>,
    savepoints: Vec<(String, Settings, Settings)>,
    /// Settings made for the transaction, with what they were.
    local: Settings,
    reported: String,
    left: Left,
    is_strict: bool,
    /// Of the prepared statements, and of some that are gone.
    made: BTreeMap<String, Made>,
    /// What the next error says.
    refusal: Option<Refusal>,
    portals: HashMap<String, Portal>,
}

/// Values by name.
pub type Settings = BTreeMap<String, String>;

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
    /// One that has been logged in to.
    #[must_use]
    pub fn new(joins_pipeline: bool) -> Self {
        Self { joins_pipeline, ..Self::default() }
    }

    /// Whether nothing is in progress, nor will be by what it has yet to read.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.is_closed && self.has_nothing_in_progress()
    }

    /// The same of one that may have ended the session.
    #[must_use]
    pub fn has_nothing_in_progress(&self) -> bool {
        self.input_is_inert()
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
    pub fn send_async(&mut self) {
        self.put(wire::message(b'A', b"\0\0\0\x01channel\0payload\0"));
        self.put(wire::message(b'S', b"TimeZone\0UTC\0"));
    }

    /// Says goodbye and closes.
    pub fn die(&mut self, last_words: &[u8]) {
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
    pub fn step(&mut self) {
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
        if self.transaction == Transaction::Idle && !self.is_unsynced && tag != b'S' {
            self.earlier.clone_from(&self.settings);
        }
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
        let report = match self.refusal.take() {
            Some((code, text)) => wire::told(b'E', "ERROR", code, &text),
            None => wire::report(b'E', "ERROR", code),
        };
        self.put(report);
        self.answered = self.put_out;
        // What was deferred is undone, too.
        self.is_deferred_failure = false;
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
            // None of them could be run any more.
            self.portals.clear();
            // With a savepoint, what was set before it is kept.
            if self.savepoints.is_empty() {
                self.undo();
            }
        } else if self.transaction == Transaction::Idle {
            // The implicit transaction of a series has ended, before its Sync.
            self.undo();
            self.is_unsynced = false;
        }
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
            self.end_transaction();
        }
        let timezone = self.settings.get("timezone").cloned().unwrap_or_default();
        if timezone != self.reported {
            self.put(wire::message(b'S', format!("TimeZone\0{timezone}\0").as_bytes()));
            self.reported = timezone;
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
                    let code = if std::mem::take(&mut self.has_conflict) { "40001" } else { "22012" };
                    self.error(code);
                }
                Ran::Copying => return,
            }
        }
        self.is_deferred_failure = false;
        self.ready();
    }

    fn run(&mut self, command: &str, is_simple: bool) -> Ran {
        if self.has_conflict {
            return Ran::Failed;
        }
        let command = command.replace("\"trunkline: questions\"", "trunkline");
        let words: Vec<&str> = command.split(' ').collect();
        let number = words.last().and_then(|word| word.parse::<usize>().ok());
        let may_run = ["commit", "rollback", "ROLLBACK", ""].contains(&words[0]);
        if self.transaction == Transaction::Failed && !may_run {
            return Ran::Failed;
        }
        let tag = match &words[..] {
            [""] => {
                self.answer(b'I', b"");
                return Ran::Done;
            }
            ["select", "error"] => return Ran::Failed,
            ["select", "notice"] => {
                self.put(wire::report(b'N', "NOTICE", "00000"));
                "SELECT 0".to_owned()
            }
            ["select" | "values", _] => {
                if is_simple {
                    self.answer(b'T', b"\0\0");
                }
                self.rows(words[0], number.unwrap_or(0));
                format!("SELECT {}", number.unwrap_or(0))
            }
            ["tell", told] => {
                if is_simple {
                    self.answer(b'T', b"\0\0");
                }
                self.answer(b'D', told.as_bytes());
                "SELECT 1".to_owned()
            }
            ["show", name] => {
                if is_simple {
                    self.answer(b'T', b"\0\0");
                }
                let value = self.shown(name);
                self.answer(b'D', value.as_bytes());
                "SHOW".to_owned()
            }
            ["SELECT", "CASE", "WHEN", "pg_catalog.pg_is_in_recovery()", ..] => {
                self.answer(b'T', b"\0\0");
                let columns =
                    [&[0, 1][..], &(self.position.len() as u32).to_be_bytes(), self.position.as_bytes()];
                self.answer(b'D', &columns.concat());
                "SELECT 1".to_owned()
            }
            ["copy", "out", _] => {
                self.answer(b'H', b"\0\0\0");
                for _ in 0..number.unwrap_or(0) {
                    self.answer(b'd', b"data");
                }
                self.answer(b'c', b"");
                "COPY 1".to_owned()
            }
            ["copy", "in", ..] => {
                self.answer(b'G', b"\0\0\0");
                if number == Some(0) {
                    return Ran::Failed;
                }
                self.copy = Some(CopyIn { is_simple, pieces: 0, fails_at: number });
                return Ran::Copying;
            }
            ["execute", name] => {
                return match self.revalidated(name) {
                    Some(sql) => self.run(&sql, is_simple),
                    None => Ran::Failed,
                };
            }
            _others => match self.run_for_effect(&words, is_simple) {
                Some(tag) => tag,
                None => return Ran::Failed,
            },
        };
        self.answer(b'C', format!("{tag}\0").as_bytes());
        Ran::Done
    }

    /// Runs what has no rows; its tag, or `None` when it fails.
    fn run_for_effect(&mut self, words: &[&str], is_simple: bool) -> Option<String> {
        match words {
            ["begin" | "BEGIN"] => self.transaction = Transaction::Open,
            ["commit" | "rollback"] => {
                let has_failed = self.transaction == Transaction::Failed;
                self.transaction = Transaction::Idle;
                self.portals.clear();
                if has_failed || words == ["rollback"] {
                    self.undo();
                    return Some("ROLLBACK".to_owned());
                }
                self.end_transaction();
            }
            ["savepoint" | "SAVEPOINT", _]
            | ["release" | "RELEASE", _]
            | ["rollback" | "ROLLBACK", "to" | "TO", _]
                if self.transaction == Transaction::Idle =>
            {
                return None;
            }
            ["savepoint" | "SAVEPOINT", name] => {
                self.before.get_or_insert_with(|| self.settings.clone());
                let saved = ((*name).to_owned(), self.settings.clone(), self.local.clone());
                self.savepoints.push(saved);
            }
            ["release" | "RELEASE", name] => {
                let at = self.savepoints.iter().rposition(|(n, ..)| n == name)?;
                self.savepoints.truncate(at);
            }
            ["rollback" | "ROLLBACK", "to" | "TO", name] => self.rollback_to(name)?,
            ["set" | "reset", ..] => self.setting(words)?,
            ["SELECT", call, value, "false)"] => {
                let name = call.strip_prefix("pg_catalog.set_config('")?.strip_suffix("',")?;
                self.setting(&["set", name, "to", value.trim_matches(['\'', ','])])?;
                self.rows("select", 1);
                return Some("SELECT 1".to_owned());
            }
            ["discard" | "DISCARD", "all" | "ALL"] if self.transaction != Transaction::Idle => return None,
            ["discard" | "DISCARD", "all" | "ALL"] => {
                self.undo();
                self.settings.clear();
                self.discard_sequences();
                self.statements.retain(|name, _| name.is_empty());
                return Some("DISCARD ALL".to_owned());
            }
            ["deallocate", "all"] => {
                self.statements.retain(|name, _| name.is_empty());
                return Some("DEALLOCATE ALL".to_owned());
            }
            ["insert", "defer"] => {
                self.is_deferred_failure = !is_simple;
                return Some("INSERT 0 1".to_owned());
            }
            others => return self.run_for_session(others),
        }
        Some(words[0].to_uppercase())
    }

    fn rows(&mut self, verb: &str, number: usize) {
        if verb == "values" {
            self.answer(b'D', &vec![b'x'; number]);
        } else {
            (0..number).for_each(|_| self.answer(b'D', b"\0\0"));
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
}
