//! Messages whose statements stand on the server under names made from their content. See docs/decisions.

use std::ops::Range;

use trunkline_codec::backend::{BackendTag, TransactionStatus};
use trunkline_codec::frontend::{Bind, Describe, FrontendTag, Parse};
use trunkline_codec::sqlstate::SqlState;

use super::Session;
use crate::carried::content::{ContentId, ContentThere, Contents};
use crate::carried::followed::Followed;
use crate::carried::prepared::{AheadOfMessage, ContentRefused, MessageExtent, Naming, Sharing, Step, Wire};
use crate::conversation::outstanding::Request;
use crate::conversation::state::{CopyState, Flow, Mode, ObjectsMade, Pipeline};
use crate::names::may_break;
use crate::rewritten::Rewritten;
use crate::settings::StatementNames;
use crate::sql::references::may_refer;
use crate::step::ClientThen;

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
    pub(crate) fn naming(&mut self, message: (FrontendTag, &[u8], MessageExtent)) -> Naming {
        let (tag, body, _) = message;
        let may_name = match tag {
            FrontendTag::Query | FrontendTag::Parse | FrontendTag::Bind | FrontendTag::Close => true,
            // Of a portal there is nothing to be named.
            FrontendTag::Describe => body.first() == Some(&b'S'),
            _other => false,
        };
        if !may_name {
            return Naming::Same;
        }
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
        if self.carried.followed.as_ref().is_some_and(|followed| followed.has_other_names()) {
            self.name_anew();
        }
        let Some(followed) = &self.carried.followed else { return Naming::Same };
        followed.prepared.naming(message, self.ahead(followed))
    }

    #[cold]
    fn name_anew(&mut self) {
        let may_share = self.sharing() == Sharing::Allowed && self.conversation.outstanding.is_empty();
        if let (Some(followed), true) = (&mut self.carried.followed, may_share) {
            followed.name_anew();
        }
    }

    fn ahead(&self, followed: &Followed) -> AheadOfMessage {
        let in_series =
            if followed.prepared.has_pending() { self.conversation.outstanding.named_in_series() } else { 0 };
        AheadOfMessage { in_series, statements: followed.statements_ahead() }
    }

    /// The same, once nothing has to come before the message any more.
    #[cold]
    pub(crate) fn naming_after_all(&mut self, message: (FrontendTag, &[u8], MessageExtent)) -> Naming {
        match self.naming(message) {
            Naming::First | Naming::Unsettled => Naming::Same,
            known => known,
        }
    }

    /// Under which name the statement of a Parse goes to the server. One made from content is that of this very Parse. What
    /// the connection has already is prepared again, under the client's name: the tables may have changed since, and the
    /// client is to get the statement as it would be made now.
    pub(crate) fn wire_of(&mut self, body: &[u8], extent: MessageExtent) -> Wire {
        let StatementNames::OfContent { statements_max } = self.names else { return Wire::OfClient };
        let Ok(parse) = Parse::parse(body) else { return Wire::OfClient };
        if parse.name.is_empty() || extent == MessageExtent::Part || may_break(parse.name) {
            return Wire::OfClient;
        }
        let sharing = self.sharing();
        let Some(followed) = self.carried.followed.as_deref() else { return Wire::OfClient };
        let prepared = &followed.prepared;
        let is_free = prepared.is_free(crate::names::compared(parse.name), self.ahead(followed));
        if sharing == Sharing::NotNow || !is_free || !prepared.has_room(body.len()) {
            return Wire::OfClient;
        }
        let Some(id) = followed.content_of(&parse) else { return Wire::OfClient };
        let has_room = prepared.contents.len() < 2 * statements_max as usize;
        match prepared.contents.get(id) {
            ContentThere::Missing if has_room && !prepared.is_in_flight(id) => Wire::OfContent(id),
            ContentThere::Missing | ContentThere::Usable(..) | ContentThere::Stale => Wire::OfClient,
        }
    }

    /// Whether a statement may be made for other sessions, too: nothing that runs is in flight, and the transaction at hand
    /// has made no tables that others do not have.
    pub(crate) fn sharing(&self) -> Sharing {
        let conversation = &self.conversation;
        let leaves_all = |request| {
            matches!(request, Request::Parse | Request::DescribeStatement | Request::Close | Request::Sync)
        };
        let may_share = conversation.objects == ObjectsMade::None
            && conversation.status != TransactionStatus::Failed
            && conversation.pipeline != Pipeline::Failed
            && conversation.copy == CopyState::None
            && conversation.outstanding.iter().all(|entry| leaves_all(entry.request))
            && self.movability().is_ok();
        if may_share { Sharing::Allowed } else { Sharing::NotNow }
    }

    /// What comes before a message of the client so that all that is in flight is answered: nothing, once it is.
    #[cold]
    pub(crate) fn settles_first(&mut self, tag: FrontendTag, body: &[u8], sent: u64) -> Option<ClientThen> {
        // While the server reads COPY data, it answers nothing, and refuses all else without reading it.
        if self.conversation.outstanding.is_empty() || self.reads_copy_data() {
            return None;
        }
        if self.conversation.is_series_open() {
            return Some(ClientThen::Ask(self.send_steps(vec![Step::Await], tag, body, sent)));
        }
        self.client.flow = Flow::Waiting;
        Some(ClientThen::Pause)
    }

    /// A message goes to the server under another name, or as another one.
    #[cold]
    pub(crate) fn rename(&mut self, naming: Naming, message: &Outgoing<'_>, out: &mut Rewritten) {
        let Outgoing { tag, body, .. } = *message;
        let renamed = match (naming, tag) {
            (Naming::Content(id), FrontendTag::Bind) => {
                let Some(Bind { portal, statement }) = Bind::parse_prefix(body) else { return };
                message.name_at(portal.len() + 1, statement.len(), id, out);
                (id, statement)
            }
            (Naming::Content(id), FrontendTag::Describe) => {
                let Ok(Describe { name, .. }) = Describe::parse(body) else { return };
                message.name_at(1, name.len(), id, out);
                (id, name)
            }
            (Naming::Shared, FrontendTag::Close) => return message.close_nothing(out),
            (Naming::Parse, FrontendTag::Parse) => {
                let newest = self.carried.followed.as_ref().and_then(|followed| followed.prepared.newest());
                let (Some(Wire::OfContent(id)), Some(parse)) = (newest, Parse::parse_prefix(body)) else {
                    return;
                };
                message.name_at(0, parse.name.len(), id, out);
                (id, parse.name)
            }
            _same => return,
        };
        if let (Mode::Tracked, Some(followed)) = (self.mode, &mut self.carried.followed) {
            followed.prepared.renamed.push(renamed.0, renamed.1);
            self.conversation.outstanding.newest_is_shared();
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
    /// What the client gets in the place of an error with this body and whole length, which stands at `range` in the chunk: it
    /// knows its own names only.
    #[cold]
    pub(crate) fn rename_error(
        &self,
        (body, length): (&[u8], u64),
        (chunk, range): (&[u8], Range<usize>),
        out: &mut Rewritten,
    ) {
        if range.len() as u64 == length
            && let Some(body) = self.in_clients_words(body)
        {
            let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
            out.replace(chunk, range, &[&[BackendTag::ErrorResponse.byte()], &length.to_be_bytes(), &body]);
        }
    }
}

impl Session {
    /// The body of an error with the client's names in the place of those made from content; `None` where it has none.
    #[cold]
    pub(crate) fn in_clients_words(&self, body: &[u8]) -> Option<Vec<u8>> {
        let prepared = self.carried.followed.as_ref().map(|followed| &followed.prepared)?;
        let is_shared = self.conversation.outstanding.front().is_some_and(|front| front.class.is_shared());
        let front = if is_shared { prepared.renamed.front() } else { None };
        let (mut told, mut rest) = (Vec::new(), body);
        while let Some((at, id)) = ContentId::found_in(rest) {
            let of_front = front.as_ref().filter(|(of, _)| *of == id).map(|(_, name)| name.as_slice());
            let known = rest.get(at.clone()).unwrap_or_default();
            told.extend_from_slice(rest.get(..at.start).unwrap_or_default());
            told.extend_from_slice(of_front.or_else(|| prepared.name_for(id)).unwrap_or(known));
            rest = rest.get(at.end..).unwrap_or_default();
        }
        if rest.len() == body.len() {
            return None;
        }
        told.extend_from_slice(rest);
        Some(told)
    }

    /// The server has refused a message with the name of a shared statement: it does not have that, or what it needs has
    /// changed. Then it is made anew the next time.
    #[cold]
    pub(crate) fn shared_is_refused(&mut self, request: Request, code: Option<SqlState>) {
        let Some(prepared) = self.carried.followed.as_mut().map(|followed| &mut followed.prepared) else {
            return;
        };
        let Some((id, _name)) = prepared.renamed.front() else { return };
        let what = if request == Request::Parse { ContentRefused::Parse } else { ContentRefused::Use };
        prepared.content_refused(id, what, code);
    }
}
