//! Messages that the proxy itself sends to the server, and errors that it sends in place of a server.

use bytes::{BufMut, Bytes, BytesMut};
use trunkline_codec::backend::BackendTag;
use trunkline_codec::frontend::{FrontendTag, Target};
use trunkline_codec::write;

use super::OwnRequest;
use crate::carried::content::{ContentId, PreparedAt};
use crate::carried::prepared::Step;
use crate::conversation::outstanding::Request;
use crate::names::OWN_STATEMENT;

/// A portal that does not exist. An Execute of it is the shortest way to fail a series.
const FAILS: &[u8] = b"trunkline: statement changed";

/// These surround the questions in a transaction.
pub(crate) const SAVEPOINT: &[u8] = b"SAVEPOINT \"trunkline: questions\"";
const ROLLBACK: &[u8] = b"ROLLBACK TO \"trunkline: questions\"";
pub(crate) const RELEASE: &[u8] = b"RELEASE \"trunkline: questions\"";

/// Messages being written, and what each of them is for.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) out: BytesMut,
    pub(crate) expected: Vec<(Request, OwnRequest)>,
}

impl Batch {
    fn expect(&mut self, request: Request, item: OwnRequest) {
        self.expected.push((request, item));
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Drop(name) => self.close(Target::Statement, &name, OwnRequest::Dropped(name.clone())),
            Step::Parse { name, sql, types } => self.parse(&name, &sql, &types, OwnRequest::Plain),
            Step::StandIn { name, types } => {
                self.parse(&name, b"", &types, OwnRequest::StoodIn(name.clone()))
            }
            Step::Bind { body, portal } => {
                self.bind(&body);
                self.close(Target::Portal, &portal, OwnRequest::Plain);
            }
            Step::Run { sql } => self.run(&sql, OwnRequest::Plain),
            Step::Check(name) => self.describe(&name, OwnRequest::Check(name.clone())),
            Step::Learn(name) => self.describe(&name, OwnRequest::Learn(name.clone())),
            Step::MakeContent { name, id, sql, types } => {
                self.close(Target::Statement, &id.name(), OwnRequest::ContentClosed(id));
                self.parse(&id.name(), &sql, &types, OwnRequest::ContentMade(id, PreparedAt::now()));
                self.describe(&id.name(), OwnRequest::Check(name));
            }
            Step::LearnContent { name, id } => self.describe(&id.name(), OwnRequest::Learn(name)),
            Step::CloseContent(id) => {
                self.close(Target::Statement, &id.name(), OwnRequest::ContentClosed(id));
            }
            Step::Await => {
                self.close(Target::Statement, ContentId::never_made(), OwnRequest::Plain);
            }
            Step::Fail => {
                let written = write::execute(&mut self.out, FAILS, 0);
                debug_assert!(written.is_ok(), "a constant without a NUL");
                self.expect(Request::Execute, OwnRequest::Fail);
            }
        }
    }

    /// All parts come from a Parse of the client's, or are short: the length fits.
    fn parse(&mut self, name: &[u8], sql: &[u8], types: &[u8], item: OwnRequest) {
        let length = name.len() + 1 + sql.len() + 1 + 2 + types.len();
        self.out.put_u8(FrontendTag::Parse.byte());
        self.out.put_u32(u32::try_from(length + 4).unwrap_or(u32::MAX));
        for text in [name, sql] {
            self.out.put_slice(text);
            self.out.put_u8(0);
        }
        self.out.put_u16(u16::try_from(types.len() / 4).unwrap_or(u16::MAX));
        self.out.put_slice(types);
        self.expect(Request::Parse, item);
    }

    /// Runs a statement; `item` says what its end means.
    pub(crate) fn run(&mut self, sql: &[u8], item: OwnRequest) {
        // It may be left over from one that failed.
        self.close(Target::Statement, OWN_STATEMENT, OwnRequest::Plain);
        self.parse(OWN_STATEMENT, sql, b"", OwnRequest::Plain);
        let written = write::bind(&mut self.out, OWN_STATEMENT, OWN_STATEMENT, std::iter::empty())
            .and_then(|()| write::execute(&mut self.out, OWN_STATEMENT, 0));
        debug_assert!(written.is_ok(), "constants without a NUL");
        self.expect(Request::Bind, OwnRequest::Plain);
        self.expect(Request::Execute, item);
        self.close(Target::Portal, OWN_STATEMENT, OwnRequest::Plain);
        self.close(Target::Statement, OWN_STATEMENT, OwnRequest::Plain);
    }

    /// A Bind with the body of a Bind of the client.
    fn bind(&mut self, body: &[u8]) {
        self.out.put_u8(FrontendTag::Bind.byte());
        self.out.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
        self.out.put_slice(body);
        self.expect(Request::Bind, OwnRequest::Plain);
    }

    fn close(&mut self, kind: Target, name: &[u8], item: OwnRequest) {
        let written = write::close(&mut self.out, kind, name);
        debug_assert!(written.is_ok(), "it was read from a message, so it has no NUL");
        self.expect(Request::Close, item);
    }

    pub(crate) fn describe(&mut self, name: &[u8], item: OwnRequest) {
        let written = write::describe(&mut self.out, Target::Statement, name);
        debug_assert!(written.is_ok(), "it was read from a message, so it has no NUL");
        self.expect(Request::DescribeStatement, item);
    }

    /// Steps that may fail in a transaction of the client without failing it. Statements that they prepare stay: ROLLBACK TO
    /// does not undo Parse.
    pub(crate) fn behind_a_savepoint(&mut self, steps: Vec<Step>) {
        self.run(SAVEPOINT, OwnRequest::Plain);
        steps.into_iter().for_each(|step| self.step(step));
        self.sync();
        self.back_to_the_savepoint();
    }

    /// Steps that set something, in a transaction of their own. It is undone before its Sync, behind which the server
    /// reports what is set, and once more there in case a step has failed.
    pub(crate) fn undone_in_a_transaction(&mut self, steps: Vec<Step>) {
        self.run(b"BEGIN", OwnRequest::Plain);
        steps.into_iter().for_each(|step| self.step(step));
        self.run(b"ROLLBACK", OwnRequest::Plain);
        self.sync();
        // The portal of what failed would be in the way.
        self.close(Target::Portal, OWN_STATEMENT, OwnRequest::Plain);
        self.run(b"ROLLBACK", OwnRequest::Plain);
        self.sync();
    }

    /// The same in a transaction of the client.
    pub(crate) fn undone_behind_a_savepoint(&mut self, mut steps: Vec<Step>) {
        steps.push(Step::Run { sql: ROLLBACK.into() });
        self.behind_a_savepoint(steps);
    }

    /// Rolls the transaction back to the savepoint.
    pub(crate) fn back_to_the_savepoint(&mut self) {
        // The portal of what failed would be in the way.
        self.close(Target::Portal, OWN_STATEMENT, OwnRequest::Plain);
        self.run(ROLLBACK, OwnRequest::Plain);
        self.run(RELEASE, OwnRequest::Plain);
        self.sync();
    }

    pub(crate) fn sync(&mut self) {
        write::sync(&mut self.out);
        self.expect(Request::Sync, OwnRequest::Plain);
    }
}

/// PostgreSQL's error for a statement whose result type has changed. `detail` is the proxy's: PostgreSQL has none.
/// Source: PostgreSQL 18, src/backend/utils/cache/plancache.c, `RevalidateCachedQuery`; drivers look at the name of
/// that function.
pub(crate) fn changed(detail: Option<&str>) -> Bytes {
    let detail = detail.map(|detail| format!("D{detail}"));
    let fields = ["SERROR", "VERROR", "C0A000", "Mcached plan must not change result type"];
    let source = ["Fplancache.c", "RRevalidateCachedQuery"];
    let mut body = BytesMut::new();
    for field in fields.into_iter().chain(detail.as_deref()).chain(source) {
        body.put_slice(field.as_bytes());
        body.put_u8(0);
    }
    body.put_u8(0);
    error_again(&body, true)
}

/// The detail for a session that has moved.
pub(crate) const CHANGED_BY_MOVE: &str =
    "The prepared statement takes or returns other types on the server that the session has moved to.";

/// The ParameterDescription of a statement with parameters of these types, which stand as in a Parse.
pub(crate) fn takes(types: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(types.len() + 7);
    out.put_u8(BackendTag::ParameterDescription.byte());
    out.put_u32(u32::try_from(types.len() + 6).unwrap_or(u32::MAX));
    out.put_u16(u16::try_from(types.len() / 4).unwrap_or(u16::MAX));
    out.put_slice(types);
    out
}

/// An ErrorResponse with this body; of a long one `body` is the first part, and its message is cut.
pub(crate) fn error_again(body: &[u8], is_whole: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 7);
    out.put_u8(BackendTag::ErrorResponse.byte());
    // The text that is cut ends with a NUL, and so do all texts together.
    let missing: &[u8] = match body.last() {
        _any if is_whole => b"",
        Some(0) | None => b"\0",
        Some(_) => b"\0\0",
    };
    out.put_u32(u32::try_from(body.len() + missing.len() + 4).unwrap_or(u32::MAX));
    out.put_slice(body);
    out.put_slice(missing);
    out.freeze()
}
