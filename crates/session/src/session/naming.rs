//! Messages whose statements stand on the server under names made from their content. See docs/decisions.

use std::ops::Range;

use trunkline_codec::backend::{BackendTag, TransactionStatus};
use trunkline_codec::frontend::{Bind, Describe, FrontendTag, Parse};

use super::Session;
use crate::carried::content::{ContentId, ContentThere, Contents};
use crate::carried::prepared::{Naming, SentAs, Sharing, Wire};
use crate::conversation::outstanding::{Request, RequestKind};
use crate::conversation::state::{Mode, Pipeline};
use crate::names::may_break;
use crate::rewritten::Rewritten;
use crate::settings::StatementNames;
use crate::sql::references::may_refer;

/// Type byte and length word.
const HEADER: usize = 5;

/// The client's message that is being forwarded.
pub(crate) struct Outgoing<'a> {
    pub(crate) tag: FrontendTag,
    /// Of a long one the first part.
    pub(crate) body: &'a [u8],
    /// Bytes in its whole body.
    pub(crate) length: usize,
    pub(crate) chunk: &'a [u8],
    /// Where what there is of it stands in the chunk.
    pub(crate) range: Range<usize>,
}

impl Session {
    /// What the connection has under names made from content.
    pub(crate) fn contents(&self) -> &Contents {
        self.carried.followed.as_ref().map_or(&self.carried.contents, |followed| &followed.prepared.contents)
    }

    pub(crate) fn set_contents(&mut self, contents: Contents) {
        match &mut self.carried.followed {
            Some(followed) => followed.prepared.contents = contents,
            None => self.carried.contents = contents,
        }
    }

    /// What this message of the client becomes.
    pub(crate) fn naming(&mut self, tag: FrontendTag, body: &[u8]) -> Naming {
        match self.mode {
            Mode::Tracked if self.conversation.pipeline == Pipeline::Skipping => return Naming::Same,
            Mode::Tracked => {}
            Mode::Untracked(_) => {
                let followed = self.carried.followed.as_mut();
                return followed.map_or(Naming::Same, |f| f.prepared.naming_alone(tag, body));
            }
            Mode::Opaque => return Naming::Same,
        }
        if self.carried.followed.is_none() {
            let is_parse = tag == FrontendTag::Parse;
            if !is_parse
                && (tag != FrontendTag::Query || self.carried.contents.is_empty() || !may_refer(body))
            {
                return Naming::Same;
            }
            self.carried.follow();
        }
        let followed = self.carried.followed.as_mut();
        followed.map_or(Naming::Same, |followed| followed.prepared.naming(tag, body))
    }

    /// Under which name the statement of a Parse goes to the server, and whether anything has to.
    pub(crate) fn wire_of(&mut self, body: &[u8], is_whole: bool) -> (Wire, SentAs) {
        let as_it_is = (Wire::OfClient, SentAs::Parse);
        let StatementNames::OfContent { statements_max } = self.names else { return as_it_is };
        let Some(parse) = Parse::parse_prefix(body).filter(|parse| !parse.name.is_empty()) else {
            return as_it_is;
        };
        let (may_share, may_answer) = (self.movability().is_ok(), self.may_answer_parse());
        let followed = self.carried.follow();
        let name = crate::names::compared(parse.name);
        if let Some(id) = followed.prepared.content_of(name) {
            return (Wire::OfContent(id), SentAs::Parse);
        }
        let Ok(parse) = Parse::parse(body) else { return as_it_is };
        if !is_whole || !may_share || may_break(parse.name) || followed.prepared.is_taken(name) {
            return as_it_is;
        }
        let Some(id) = followed.content_of(&parse) else { return as_it_is };
        let prepared = &followed.prepared;
        match prepared.contents.get(id) {
            ContentThere::Missing if prepared.is_in_flight(id) => as_it_is,
            ContentThere::Missing if prepared.contents.len() >= 2 * statements_max as usize => as_it_is,
            ContentThere::Missing => (Wire::OfContent(id), SentAs::Parse),
            ContentThere::Usable(_) if may_answer => (Wire::OfContent(id), SentAs::Close),
            ContentThere::Usable(_) | ContentThere::Stale => as_it_is,
        }
    }

    /// Whether a Parse may be answered without the server's reading it: where it has not failed, everything in flight is of
    /// the same series, so that what fails it takes the answer along.
    fn may_answer_parse(&self) -> bool {
        self.conversation.status != TransactionStatus::Failed
            && self.conversation.pipeline != Pipeline::Failed
            && self.conversation.outstanding.iter().all(|e| e.request.kind() == RequestKind::Extended)
    }

    /// Whether a statement may be made for other sessions, too.
    pub(crate) fn sharing(&self) -> Sharing {
        match &self.carried.followed {
            Some(followed) if followed.reads_as_others() => Sharing::Allowed,
            Some(_) | None => Sharing::NotNow,
        }
    }

    /// A message goes to the server under another name, or as another one.
    #[cold]
    pub(crate) fn rename(&mut self, naming: Naming, message: &Outgoing<'_>, out: &mut Rewritten) {
        let Outgoing { tag, body, .. } = *message;
        match (naming, tag) {
            (Naming::Content(id), FrontendTag::Bind) => {
                let Some(Bind { portal, statement }) = Bind::parse_prefix(body) else { return };
                message.name_at(portal.len() + 1, statement.len(), id, out);
            }
            (Naming::Content(id), FrontendTag::Describe) => {
                let Ok(Describe { name, .. }) = Describe::parse(body) else { return };
                message.name_at(1, name.len(), id, out);
            }
            (Naming::Shared, FrontendTag::Close) => message.close_nothing(out),
            (Naming::Parse | Naming::First, FrontendTag::Parse) => {
                let newest = self.carried.followed.as_ref().and_then(|followed| followed.prepared.newest());
                let Some((Wire::OfContent(id), sent_as)) = newest else { return };
                match (sent_as, Parse::parse_prefix(body)) {
                    (SentAs::Close, _) => message.close_nothing(out),
                    (SentAs::Parse, Some(parse)) => message.name_at(0, parse.name.len(), id, out),
                    (SentAs::Parse, None) => {}
                }
            }
            _same => {}
        }
    }
}

impl Outgoing<'_> {
    /// The name at `at` in the body, of `length` bytes, becomes that of a content.
    fn name_at(&self, at: usize, length: usize, id: ContentId, out: &mut Rewritten) {
        let name = id.name();
        let (Some(before), true) = (self.body.get(..at), self.length >= length) else { return };
        let header = header(self.tag, self.length - length + name.len());
        let start = self.range.start;
        out.replace(self.chunk, start..start + HEADER + at + length, &[&header, before, &name]);
    }

    /// It becomes a Close of a statement that does not exist.
    fn close_nothing(&self, out: &mut Rewritten) {
        let name = ContentId::never_made();
        let header = header(FrontendTag::Close, name.len() + 2);
        out.replace(self.chunk, self.range.clone(), &[&header, b"S", name, b"\0"]);
    }
}

fn header(tag: FrontendTag, body: usize) -> [u8; HEADER] {
    let [a, b, c, d] = u32::try_from(body + 4).unwrap_or(u32::MAX).to_be_bytes();
    [tag.byte(), a, b, c, d]
}

impl Session {
    /// A CloseComplete has come. Whether the client waits for a ParseComplete in its place.
    pub(crate) fn answers_parse(&self) -> bool {
        self.conversation.front() == Some(Request::Parse)
            && self.carried.followed.as_ref().is_some_and(|followed| followed.prepared.is_closed_instead())
    }

    /// What the client gets in the place of a message of this tag, body and whole length, which stands at `range` in the
    /// chunk: it knows its own names only.
    #[inline]
    pub(crate) fn rename_answer(
        &self,
        message: (BackendTag, &[u8], u64),
        place: (&[u8], Range<usize>),
        out: &mut Rewritten,
    ) {
        if self.names != StatementNames::OfClient {
            self.rename_shared_answer(message, place, out);
        }
    }

    fn rename_shared_answer(
        &self,
        (tag, body, length): (BackendTag, &[u8], u64),
        (chunk, range): (&[u8], Range<usize>),
        out: &mut Rewritten,
    ) {
        match tag {
            BackendTag::CloseComplete if self.answers_parse() => {
                let start = range.start;
                out.replace(chunk, start..start + 1, &[&[BackendTag::ParseComplete.byte()]]);
            }
            BackendTag::ErrorResponse => {
                let prepared = self.carried.followed.as_ref().map(|followed| &followed.prepared);
                let found =
                    ContentId::found_in(body).and_then(|(at, id)| Some((at, prepared?.name_for(id)?)));
                let (Some((at, name)), true) = (found, range.len() as u64 == length) else { return };
                let length = u32::try_from(body.len() - at.len() + name.len() + 4).unwrap_or(u32::MAX);
                let (before, after) = (body.get(..at.start), body.get(at.end..));
                let (Some(before), Some(after)) = (before, after) else { return };
                let parts = [&[tag.byte()][..], &length.to_be_bytes(), before, name, after];
                out.replace(chunk, range, &parts);
            }
            _other => {}
        }
    }
}
