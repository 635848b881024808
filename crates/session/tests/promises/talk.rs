//! Drives a session: tests state what either side sends and what must hold then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_session::{
    Alignment, ClientStep, ClientThen, Completion, ConnectionState, Fingerprint, LoginParameters, LossPlan,
    Mobility, RecoveryOptions, ReportTiming, Rewritten, ServerLoss, ServerRole, ServerStep, Session,
    SessionSettings, Sink, StatementKind, StatementNames, StatementRecord, Timing, Tracking, diff,
};

/// The parts of a record that tests check.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) kind: StatementKind,
    pub(crate) sql: String,
    pub(crate) end: String,
    pub(crate) rows: u64,
    pub(crate) timing: Timing,
    pub(crate) retries: u32,
    pub(crate) sampled: Option<Fingerprint>,
}

#[derive(Default)]
pub(crate) struct Records(pub(crate) Vec<Seen>);

impl Sink for Records {
    fn statement(&mut self, record: &StatementRecord<'_>) {
        let end = match record.completion {
            Completion::Complete(tag) => String::from_utf8_lossy(tag).into_owned(),
            Completion::Empty => "empty".into(),
            Completion::Suspended => "suspended".into(),
            Completion::Failed(code) => format!("failed {}", code.map_or("-".into(), |c| c.to_string())),
            Completion::Lost => "lost".into(),
        };
        self.0.push(Seen {
            kind: record.kind,
            sql: String::from_utf8_lossy(record.sql.unwrap_or(b"-")).into_owned(),
            end,
            rows: record.rows,
            timing: record.timing,
            retries: record.retries,
            sampled: record.sampled,
        });
    }
}

pub(crate) struct Talk {
    pub(crate) session: Session,
    pub(crate) records: Records,
    pub(crate) now: Instant,
    rewritten: Rewritten,
    /// What the other side gets of the last bytes that were forwarded.
    pub(crate) got: Vec<u8>,
}

impl Talk {
    pub(crate) fn new() -> Self {
        Self::with(ReportTiming::Off, Tracking::Full)
    }

    pub(crate) fn with(report_timing: ReportTiming, tracking: Tracking) -> Self {
        let settings = Self::settings_with(report_timing, tracking, Mobility::Movable);
        Self::of(settings, Instant::now())
    }

    fn settings_with(report_timing: ReportTiming, tracking: Tracking, mobility: Mobility) -> SessionSettings {
        let (server, role) = (Arc::from("replica1"), ServerRole::Standby);
        let parameters = Arc::new(LoginParameters::new(&greeting()));
        SessionSettings {
            sql_bytes_max: 1000,
            report_timing,
            server,
            tracking,
            mobility,
            role,
            statement_names: StatementNames::OfClient,
            parameters,
        }
    }

    pub(crate) fn settings(mobility: Mobility) -> SessionSettings {
        Self::settings_with(ReportTiming::Off, Tracking::Full, mobility)
    }

    pub(crate) fn of(settings: SessionSettings, now: Instant) -> Self {
        Self {
            session: Session::new(settings, now),
            records: Records::default(),
            now,
            rewritten: Rewritten::default(),
            got: Vec::new(),
        }
    }

    pub(crate) fn wait(&mut self, milliseconds: u64) -> &mut Self {
        self.now += Duration::from_millis(milliseconds);
        self
    }

    pub(crate) fn client_step(&mut self, bytes: &[u8]) -> ClientStep {
        let Self { session, rewritten, records, .. } = self;
        let step = session.handle_client_renaming(bytes, self.now, rewritten, records);
        self.got = self.rewritten.sent(&bytes[..step.forward]).to_vec();
        step
    }

    pub(crate) fn server_step(&mut self, bytes: &[u8]) -> ServerStep {
        let Self { session, rewritten, records, .. } = self;
        let step = session.handle_server_renaming(bytes, self.now, rewritten, records);
        self.got = self.rewritten.sent(&bytes[..step.forward]).to_vec();
        step
    }

    /// The client sends whole messages, all of which are forwarded.
    pub(crate) fn client(&mut self, messages: &[Vec<u8>]) -> &mut Self {
        let bytes = messages.concat();
        assert_eq!(self.client_step(&bytes).forward, bytes.len());
        self
    }

    /// The server sends whole messages, all of which are forwarded.
    pub(crate) fn server(&mut self, messages: &[Vec<u8>]) -> &mut Self {
        let bytes = messages.concat();
        let step = self.server_step(&bytes);
        assert_eq!(step.forward, bytes.len());
        assert_eq!(step.inject, None);
        self
    }

    #[track_caller]
    pub(crate) fn is_idle(&mut self) -> &mut Self {
        assert_eq!(self.session.pinned(), None);
        assert!(self.session.is_idle(), "{} outstanding", self.session.outstanding());
        self
    }

    #[track_caller]
    pub(crate) fn is_busy(&mut self) -> &mut Self {
        assert!(!self.session.is_idle());
        self
    }

    pub(crate) fn lost(&mut self, tail: &[u8], options: RecoveryOptions) -> LossPlan {
        self.session.handle_server_lost(ServerLoss::Eof, tail, options, self.now, &mut self.records)
    }

    /// The messages for a connection that has just been logged in to.
    pub(crate) fn alignment(&self) -> Alignment {
        diff(&ConnectionState::default(), &self.session.state())
    }

    /// Another server, of the same parameters, was taken.
    pub(crate) fn taken(&mut self) -> &mut Self {
        self.session.server_taken(Arc::from("replica2"), ServerRole::Standby, Bytes::new());
        self
    }

    /// The proxy describes statements; the server answers with these types and columns.
    #[track_caller]
    pub(crate) fn asks(&mut self, statements: &[&str], types: &[u32], columns: &[&str]) -> &mut Self {
        let asked = self.session.questions().expect("something is asked");
        let expected: Vec<_> = statements.iter().map(|name| describe(name)).chain([sync()]).collect();
        assert_eq!(asked, expected.concat());
        assert!(self.session.is_paused() && !self.session.is_idle());
        for _ in statements {
            self.swallows(&[takes(types), returns(columns)]);
        }
        self.swallows(&[ready('I')]).is_idle()
    }

    /// The server sends whole messages, none of which reaches the client.
    #[track_caller]
    pub(crate) fn swallows(&mut self, messages: &[Vec<u8>]) -> &mut Self {
        for message in messages {
            let step = self.server_step(message);
            assert_eq!((step.forward, step.dropped, step.inject), (0, message.len(), None));
        }
        self
    }

    /// The client sends messages before which the proxy sends its own.
    #[track_caller]
    pub(crate) fn needs(&mut self, messages: &[Vec<u8>], own: &[Vec<u8>]) -> &mut Self {
        let step = self.client_step(&messages.concat());
        let ClientThen::Ask(asked) = step.then else { panic!("{:?}", step.then) };
        assert_eq!(step.forward, 0);
        assert_eq!(printable(&asked), printable(&own.concat()));
        assert!(self.session.is_paused());
        self
    }

    /// How each statement ended.
    pub(crate) fn ends(&self) -> Vec<&str> {
        self.records.0.iter().map(|record| record.end.as_str()).collect()
    }
}

/// No option is left.
pub(crate) const STAY: RecoveryOptions = RecoveryOptions { can_move: false, can_repeat: false };
/// An idle session can take another server.
pub(crate) const MOVE: RecoveryOptions = RecoveryOptions { can_move: true, can_repeat: false };
/// The same, and a request can be sent again.
pub(crate) const REPEAT: RecoveryOptions = RecoveryOptions { can_move: true, can_repeat: true };

/// The server's messages at the login.
pub(crate) fn greeting() -> Vec<u8> {
    [status("in_hot_standby", "on"), status("TimeZone", "UTC"), status("is_superuser", "off")].concat()
}

pub(crate) fn status(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

pub(crate) fn m(tag: char) -> Vec<u8> {
    let body: &[u8] = match tag {
        'T' | 't' => b"\0\0",
        'G' | 'H' | 'W' => b"\0\0\0",
        'D' => b"\0\0",
        'd' => b"data",
        'V' => b"\0\0\0\0",
        'A' => b"\0\0\0\x01c\0p\0",
        _empty => b"",
    };
    message(tag as u8, body)
}

/// A DataRow.
pub(crate) fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).expect("a few").to_be_bytes().to_vec();
    for value in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).expect("short"));
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(value.unwrap_or_default().as_bytes());
    }
    message(b'D', &body)
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

pub(crate) fn bind(name: &str) -> Vec<u8> {
    message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes())
}

pub(crate) fn bind_to(name: &str, values: &[Option<&str>]) -> Vec<u8> {
    let mut body = format!("\0{name}\0\0\0").into_bytes();
    body.extend_from_slice(&u16::try_from(values.len()).expect("a few").to_be_bytes());
    for value in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).expect("short"));
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(value.unwrap_or_default().as_bytes());
    }
    body.extend_from_slice(b"\0\0");
    message(b'B', &body)
}

pub(crate) fn describe(name: &str) -> Vec<u8> {
    message(b'D', format!("S{name}\0").as_bytes())
}

pub(crate) fn close(name: &str) -> Vec<u8> {
    message(b'C', format!("S{name}\0").as_bytes())
}

/// A Parse that names the types of its parameters.
pub(crate) fn parse_of(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    message(b'P', &[format!("{name}\0{sql}\0").as_bytes(), &counted(types)].concat())
}

/// A ParameterDescription.
pub(crate) fn takes(types: &[u32]) -> Vec<u8> {
    message(b't', &counted(types))
}

fn counted(types: &[u32]) -> Vec<u8> {
    let mut out = u16::try_from(types.len()).expect("a few").to_be_bytes().to_vec();
    types.iter().for_each(|oid| out.extend_from_slice(&oid.to_be_bytes()));
    out
}

/// A RowDescription of text columns; NoData for none.
pub(crate) fn returns(columns: &[&str]) -> Vec<u8> {
    if columns.is_empty() {
        return m('n');
    }
    let mut out = u16::try_from(columns.len()).expect("a few").to_be_bytes().to_vec();
    for name in columns {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
    }
    message(b'T', &out)
}

pub(crate) fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub(crate) fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub(crate) fn flush() -> Vec<u8> {
    message(b'H', b"")
}

pub(crate) fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

pub(crate) fn ready(status: char) -> Vec<u8> {
    message(b'Z', &[status as u8])
}

pub(crate) fn report(tag: char, severity: &str, code: &str) -> Vec<u8> {
    message(tag as u8, format!("S{severity}\0V{severity}\0C{code}\0Mword\0\0").as_bytes())
}

pub(crate) fn error() -> Vec<u8> {
    report('E', "ERROR", "22012")
}
