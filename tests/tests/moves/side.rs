//! One of the two sessions that are compared: what it is sent, and what it has answered.
//!
//! Everything that may differ between two sessions by nature is taken out here, and nowhere else:
//!
//! - BackendKeyData and what else a login says: never compared
//! - ParameterStatus: where it stands among the messages; the values known at each ReadyForQuery are compared
//! - the source line that an error names
//! - the detail of 0A000: the proxy says it for a statement that has changed its shape
//! - what names the server: see the questions

use std::collections::BTreeMap;
use std::io::Write as _;

use trunkline_tests::{Login, Message, ServerError, Wire};

use super::script::Step;

/// What both sessions must say alike.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) messages: Vec<Message>,
    /// The connection has ended.
    pub(crate) is_over: bool,
    /// What the client was told of the settings so far.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Said {
    /// Whether both say the same, but for what differs by nature.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.is_over, &self.parameters) == (other.is_over, &other.parameters)
            && self.compared().map(essence).eq(other.compared().map(essence))
    }

    /// The messages without those on how statements are analysed: docs/moving.md, "What still differs from one server".
    fn compared(&self) -> impl Iterator<Item = &Message> {
        self.messages
            .iter()
            .filter(|message| message.tag != b'N' || ServerError::parse(&message.body).severity != "DEBUG")
    }

    /// Whether there is such a message.
    pub(crate) fn has(&self, message: &Message) -> bool {
        self.messages.iter().any(|own| essence(own) == essence(message))
    }

    pub(crate) fn errors(&self) -> impl Iterator<Item = ServerError> {
        let errors = self.messages.iter().filter(|message| message.tag == b'E');
        errors.map(|error| ServerError::parse(&error.body))
    }

    /// The codes of its errors.
    pub(crate) fn codes(&self) -> impl Iterator<Item = String> {
        self.errors().map(|error| error.code)
    }
}

/// A message without what differs by nature.
fn essence(message: &Message) -> (u8, Vec<&[u8]>) {
    let Message { tag, body } = message;
    if *tag != b'E' && *tag != b'N' {
        return (*tag, vec![body]);
    }
    let fields = body.split(|&byte| byte == 0);
    let left_out: &[u8] = if ServerError::parse(body).code == "0A000" { b"FLRDP" } else { b"FLR" };
    (*tag, fields.filter(|field| field.first().is_none_or(|kind| !left_out.contains(kind))).collect())
}

/// A session, its unsent messages and what it owes.
#[derive(Debug)]
pub(crate) struct Side {
    wire: Wire,
    unsent: Vec<u8>,
    /// Answers of a series that a Flush makes due.
    due: usize,
    /// ReadyForQuery that were asked for and not read.
    ready_due: usize,
    is_in_series: bool,
    is_skipping: bool,
    is_over: bool,
    /// What the last ReadyForQuery said.
    status: u8,
}

impl Side {
    pub(crate) fn login(login: &Login, port: u16) -> Result<Self, ServerError> {
        let wire = login.try_connect(port)?;
        Ok(Self {
            wire,
            unsent: Vec::new(),
            due: 0,
            ready_due: 0,
            is_in_series: false,
            is_skipping: false,
            is_over: false,
            status: b'I',
        })
    }

    /// The client's own port.
    pub(crate) fn port(&self) -> u16 {
        self.wire.stream.local_addr().unwrap().port()
    }

    /// Nothing is open and nothing is owed.
    pub(crate) fn is_idle(&self) -> bool {
        self.status == b'I' && !self.is_in_series && self.ready_due == 0
    }

    /// Takes one step; `None` where nothing is to be read now.
    pub(crate) fn take(&mut self, step: &Step) -> Option<Said> {
        match step {
            Step::Query(_) | Step::UnreadQuery(_) | Step::Call { .. } if self.is_in_series => {
                self.put(&Step::Sync);
            }
            _ => {}
        }
        self.put(step);
        match step {
            Step::Query(_) | Step::Sync | Step::Call { .. } => {
                self.flush();
                Some(self.read(Until::AllReady))
            }
            Step::Flush => {
                self.flush();
                (self.ready_due == 0).then(|| self.read(Until::NothingDue))
            }
            Step::UnreadQuery(_) | Step::UnreadSync => {
                self.flush();
                None
            }
            Step::Parse { .. }
            | Step::Bind { .. }
            | Step::Describe(..)
            | Step::Execute { .. }
            | Step::Close(..) => None,
            // What is answered before its end is the client's to read: a kill meets both sessions at the same place.
            Step::Kill if self.ready_due > 0 && !self.is_in_series => {
                self.flush();
                Some(self.read(Until::AllReady))
            }
            Step::Ddl(_) | Step::Wait(_) | Step::Kill | Step::Move(_) => {
                self.flush();
                None
            }
        }
    }

    /// Reads what was asked for and not read.
    pub(crate) fn finish(&mut self) -> Said {
        if self.is_in_series {
            self.put(&Step::Sync);
        }
        self.flush();
        self.read(Until::AllReady)
    }

    /// Sends what is unsent. A peer that is gone shows when its answer is read.
    fn flush(&mut self) {
        if !self.unsent.is_empty() {
            self.is_over |= self.wire.stream.write_all(&self.unsent).is_err();
            self.unsent.clear();
        }
    }

    fn put(&mut self, step: &Step) {
        let before = self.unsent.len();
        encode(&mut self.unsent, step);
        match step {
            Step::Query(_) | Step::UnreadQuery(_) | Step::Call { .. } => self.ready_due += 1,
            Step::Sync | Step::UnreadSync => {
                self.ready_due += 1;
                (self.is_in_series, self.is_skipping, self.due) = (false, false, 0);
            }
            Step::Parse { .. }
            | Step::Bind { .. }
            | Step::Describe(..)
            | Step::Execute { .. }
            | Step::Close(..) => {
                self.is_in_series = true;
                self.due += usize::from(!self.is_skipping);
            }
            Step::Flush | Step::Ddl(_) | Step::Wait(_) | Step::Kill | Step::Move(_) => {}
        }
        debug_assert!(self.unsent.len() >= before);
    }

    fn read(&mut self, until: Until) -> Said {
        let mut messages = Vec::new();
        // A connection that could not be written to may have said why.
        while !self.has_enough(until) {
            let Ok(message) = self.wire.read_message() else {
                self.is_over = true;
                self.ready_due = 0;
                self.due = 0;
                break;
            };
            self.note(&message);
            if message.tag != b'S' {
                messages.push(message);
            }
        }
        Said { messages, is_over: self.is_over, parameters: self.wire.parameters.clone() }
    }

    fn has_enough(&self, until: Until) -> bool {
        match until {
            Until::AllReady => self.ready_due == 0,
            Until::NothingDue => self.due == 0,
        }
    }

    fn note(&mut self, message: &Message) {
        match message.tag {
            b'S' => {
                let text = String::from_utf8_lossy(&message.body);
                let mut parts = text.split('\0');
                if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                    self.wire.parameters.insert(name.to_owned(), value.to_owned());
                }
            }
            b'Z' => {
                self.ready_due = self.ready_due.saturating_sub(1);
                self.status = message.body.first().copied().unwrap_or_default();
            }
            b'1' | b'2' | b'3' | b'T' | b'n' | b'C' | b's' | b'I' => self.due = self.due.saturating_sub(1),
            b'E' if self.ready_due == 0 => {
                self.due = 0;
                self.is_skipping = self.is_in_series;
            }
            _ => {}
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    AllReady,
    NothingDue,
}

/// Writes the message of a step, if it is one.
fn encode(out: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Query(sql) | Step::UnreadQuery(sql) => message(out, b'Q', |out| text(out, sql)),
        Step::Parse { name, types, sql } => message(out, b'P', |out| {
            text(out, name);
            text(out, sql);
            count(out, types.len());
            types.iter().for_each(|oid| out.extend_from_slice(&oid.to_be_bytes()));
        }),
        Step::Bind { portal, statement, formats, parameters, results } => message(out, b'B', |out| {
            text(out, portal);
            text(out, statement);
            codes(out, formats);
            count(out, parameters.len());
            parameters.iter().for_each(|parameter| value(out, parameter.as_deref()));
            codes(out, results);
        }),
        Step::Describe(target, name) => message(out, b'D', |out| {
            out.push(target.letter());
            text(out, name);
        }),
        Step::Execute { portal, rows } => message(out, b'E', |out| {
            text(out, portal);
            out.extend_from_slice(&rows.to_be_bytes());
        }),
        Step::Close(target, name) => message(out, b'C', |out| {
            out.push(target.letter());
            text(out, name);
        }),
        Step::Flush => message(out, b'H', |_| {}),
        Step::Sync | Step::UnreadSync => message(out, b'S', |_| {}),
        Step::Call { function, arguments } => message(out, b'F', |out| {
            out.extend_from_slice(&function.to_be_bytes());
            count(out, 0);
            count(out, arguments.len());
            arguments.iter().for_each(|argument| value(out, Some(argument)));
            count(out, 0);
        }),
        Step::Ddl(_) | Step::Wait(_) | Step::Kill | Step::Move(_) => {}
    }
}

fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - at).unwrap();
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap().to_be_bytes());
}

fn codes(out: &mut Vec<u8>, codes: &[u16]) {
    count(out, codes.len());
    codes.iter().for_each(|code| out.extend_from_slice(&code.to_be_bytes()));
}

fn value(out: &mut Vec<u8>, value: Option<&str>) {
    let Some(value) = value else {
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        return;
    };
    out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
    out.extend_from_slice(value.as_bytes());
}
