//! What a client receives, message by message, and what it should receive.

use std::collections::VecDeque;

use trunkline_model::{Server, wire};

/// A message that is compared. Messages that may come at any time are not: ParameterStatus is compared by the
/// client's knowledge at each ReadyForQuery, and notices of a server about itself are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Ready { status: Vec<u8>, timezone: String },
    Other { tag: u8, body: Vec<u8> },
}

/// What the client should receive next.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// A message of a server without faults.
    Said(Message),
    /// The error for a lost server, after which the session continues.
    Loss,
    /// The end of a request that was refused with that error.
    Ready(&'static [u8]),
}

/// The bytes that the relay has sent to its client, and those compared so far.
#[derive(Default)]
pub(super) struct ClientView {
    pub(super) bytes: Vec<u8>,
    read: usize,
    timezone: String,
    pub(super) expected: VecDeque<Expected>,
    /// The number of messages since the last fault, and the tag of the last one.
    pub(super) count: usize,
    pub(super) last: Option<u8>,
    /// How many of these messages ended a request.
    pub(super) requests: usize,
}

/// An error that a server without faults would not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The session goes on, but not as the reference does.
    Error,
    /// The session ends.
    Fatal,
}

fn has_code(body: &[u8], codes: &[&str]) -> bool {
    codes.iter().any(|code| body.windows(code.len()).any(|window| window == code.as_bytes()))
}

pub(super) fn ready_status(has_failed: bool) -> &'static [u8] {
    if has_failed { b"E" } else { b"I" }
}

/// Reads the messages of `bytes`, and follows the time zone.
fn messages(bytes: &[u8], timezone: &mut String) -> (Vec<Message>, usize) {
    let (all, rest) = wire::all(bytes);
    let mut messages = Vec::new();
    for (tag, body) in all {
        match tag {
            b'S' => {
                if let Some(value) = body.strip_prefix(b"TimeZone\0") {
                    *timezone = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
                }
            }
            b'N' if !has_code(body, &["NOTICE\0"]) => {}
            b'Z' => messages.push(Message::Ready { status: body.to_vec(), timezone: timezone.clone() }),
            _other => messages.push(Message::Other { tag, body: body.to_vec() }),
        }
    }
    (messages, bytes.len() - rest)
}

/// What a server answers to `input`, which consists of whole messages.
pub(super) fn said(server: &mut Server, input: &[u8]) -> VecDeque<Expected> {
    let mut timezone = server.settings.get("timezone").cloned().unwrap_or_default();
    server.input.extend(input);
    (0..wire::all(input).0.len()).for_each(|_| server.step());
    let output = std::mem::take(&mut server.output);
    messages(&output, &mut timezone).0.into_iter().map(Expected::Said).collect()
}

impl Expected {
    fn is_met_by(&self, message: &Message) -> bool {
        match (self, message) {
            (Expected::Said(said), told) => said == told,
            (Expected::Loss, Message::Other { tag: b'E', body }) => is_loss(body),
            (Expected::Ready(expected), Message::Ready { status, .. }) => status == expected,
            (Expected::Loss | Expected::Ready(_), _) => false,
        }
    }
}

/// Whether an error reports a lost server to a session that continues.
pub(super) fn is_loss(body: &[u8]) -> bool {
    body.starts_with(b"SERROR\0") && has_code(body, &["C08006\0", "C57P01\0", "C57P02\0"])
}

impl Message {
    pub(super) fn tag(&self) -> u8 {
        match self {
            Message::Ready { .. } => b'Z',
            Message::Other { tag, .. } => *tag,
        }
    }

    /// The fault that it reports, if it does: of a server, or of a statement that was lost with its server because
    /// its shape was not known.
    pub(super) fn fault(&self) -> Option<Fault> {
        let Message::Other { tag: b'E', body } = self else { return None };
        let is_fault =
            has_code(body, &["C40001\0", "C57P01\0", "C57P02\0", "C08006\0", "C0A000\0", "C26000\0"]);
        let fault = if wire::is_fatal(b'E', body) { Fault::Fatal } else { Fault::Error };
        is_fault.then_some(fault)
    }
}

impl ClientView {
    /// Starts again with what is expected from now on.
    pub(super) fn restart(&mut self, expected: VecDeque<Expected>) {
        self.expected = expected;
        self.count = 0;
        self.last = None;
        self.requests = 0;
    }

    /// The messages that have become complete.
    pub(super) fn news(&mut self) -> Vec<Message> {
        let (messages, read) = messages(&self.bytes[self.read..], &mut self.timezone);
        self.read += read;
        messages
    }

    /// Whether the last message is incomplete.
    pub(super) fn is_cut(&self) -> bool {
        self.read < self.bytes.len()
    }

    /// Removes the messages that are as expected, and returns the first that is not, with all that follow.
    pub(super) fn compare(&mut self, mut news: Vec<Message>) -> Vec<Message> {
        let is_another = |message: &Message| {
            let is_met = self.expected.front().is_some_and(|expected| expected.is_met_by(message));
            if is_met {
                self.expected.pop_front();
                self.count += 1;
                self.last = Some(message.tag());
                self.requests += usize::from(message.tag() == b'Z');
            }
            !is_met
        };
        let at = news.iter().position(is_another).unwrap_or(news.len());
        news.split_off(at)
    }
}

/// The request that is refused because the client's transaction was lost while the client was silent.
pub(super) struct RefusedRequest {
    /// Bytes of the client that are not forwarded.
    pub(super) bytes: usize,
    /// The answer.
    pub(super) answer: VecDeque<Expected>,
    /// The request would have committed: no transaction is open once it is refused.
    pub(super) is_commit: bool,
}

impl RefusedRequest {
    /// For a client that has `remaining` to send.
    pub(super) fn of(remaining: &[u8]) -> Self {
        let (mut bytes, mut answer, mut is_commit) = (0, VecDeque::new(), false);
        for (tag, body) in wire::all(remaining).0 {
            let is_begun = !answer.is_empty();
            match tag {
                b'Q' if !is_begun && body == b"rollback\0" => break,
                b'd' | b'c' | b'f' => {}
                b'H' if body.is_empty() => {}
                _told if !is_begun => {
                    answer.push_back(Expected::Loss);
                    is_commit = [&b"commit\0"[..], b"\0commit\0\0\0"].contains(&body);
                }
                _skipped => {}
            }
            bytes += 5 + body.len();
            if (matches!(tag, b'Q' | b'F') && !is_begun) || tag == b'S' {
                answer.push_back(Expected::Ready(ready_status(!is_commit)));
                break;
            }
        }
        RefusedRequest { bytes, answer, is_commit }
    }
}
