//! What requests do, read on their way to the server.

use trunkline_codec::frontend::Parse;

use super::Session;
use crate::carried::followed::{Followed, QueuedRequest};
use crate::carried::function_call;
use crate::carried::long::LongPart;
use crate::carried::recent_calls::CalledBy;
use crate::conversation::outstanding::Request;
use crate::conversation::state::LongMessage;
use crate::pin::{NotRepeatable, PinReason};
use crate::settings::Mobility;
use crate::sql::Class;
use crate::sql::calls::{CalledNames, calls};
use crate::sql::read::{Reading, may_execute, read, read_with};

impl Session {
    /// Reads a request on its way to the server. Of a long one `body` is the first part.
    #[inline]
    pub(crate) fn follow_sent(&mut self, request: Request, body: &[u8], is_whole: bool) -> Class {
        if self.mobility == Mobility::Fixed {
            return Class::PLAIN;
        }
        match request {
            Request::Query => self.follow_query(body, is_whole),
            Request::Parse => {
                let Followed { prepared, unsettled, encoding, .. } = self.followed();
                prepared.parse_sent(body, is_whole, encoding.era(), |sql| unsettled.read(sql));
                if is_whole {
                    return Class::PLAIN;
                }
                self.long_begins(LongMessage::Parse, body);
                Class::ONCE
            }
            Request::Bind => {
                let Some(followed) = &mut self.carried.followed else { return Class::PLAIN };
                followed.read_again_if_changed();
                followed.prepared.bind_sent(body, followed.encoding.era()).unwrap_or_else(|reasons| {
                    followed.pin_all(&reasons);
                    Class::PLAIN
                })
            }
            Request::DescribeStatement | Request::DescribePortal => {
                let is_noted = self.carried.followed.as_mut().is_some_and(|f| f.prepared.describe_sent(body));
                if is_noted { Class::DESCRIBE_NOTED } else { Class::PLAIN }
            }
            Request::Execute => self.follow_execute(body),
            Request::Close => {
                self.followed().prepared.close_sent(body);
                Class::PLAIN
            }
            Request::BrokenFlush | Request::Sync | Request::CopyEnd => Class::PLAIN,
            Request::FunctionCall => self.follow_function_call(body, is_whole),
        }
    }

    #[inline]
    fn follow_query(&mut self, body: &[u8], is_whole: bool) -> Class {
        if !is_whole {
            let found = self.long_begins(LongMessage::Query, body);
            let reading = if found.is_once { Reading::unread() } else { Reading::long(body) };
            return self.expect(Reading { pins: found.pins, ..reading });
        }
        let sql = body.strip_suffix(b"\0").unwrap_or(body);
        let mut called = CalledNames::default();
        let found = self.carried.functions.as_ref().and_then(|functions| calls(sql, functions, &mut called));
        if !called.is_empty() {
            self.followed().unsettled.called_lately(&called, CalledBy::Query);
        }
        let reading = match found {
            None => read(sql),
            Some(calls) => read_with(sql, &self.followed().unsettled.note(&calls)),
        };
        if reading.is_plain() { Class::PLAIN } else { self.expect(reading) }
    }

    /// A Query that is not plain.
    pub(crate) fn expect(&mut self, reading: Reading) -> Class {
        let Reading { class, mut pins, effects } = reading;
        if effects.is_empty() {
            return class;
        }
        let followed = self.followed();
        followed.read_again_if_changed();
        let era = followed.encoding.era();
        effects.iter().for_each(|effect| followed.prepared.pins_behind(effect, &mut pins));
        followed.pin_all(&pins);
        followed.queue.push_back(QueuedRequest::Query { effects: effects.into(), pins, era });
        class.with_effects()
    }

    #[inline]
    fn follow_execute(&mut self, body: &[u8]) -> Class {
        let Some(followed) = &mut self.carried.followed else { return Class::PLAIN };
        let effects = followed.prepared.execute_sent(body);
        let Some(lasting) = effects.lasting else { return effects.class };
        let lasting = followed.prepared.all_behind(lasting);
        followed.pin_all(&lasting.pins);
        followed.queue.push_back(QueuedRequest::Execute(lasting));
        effects.class.with_effects()
    }
}

impl Session {
    /// Reads a FunctionCall on its way to the server. Of a long one `body` is the first part.
    #[cold]
    fn follow_function_call(&mut self, body: &[u8], is_whole: bool) -> Class {
        self.expect(function_call::read(body, is_whole))
    }

    /// The function of the front request has returned.
    #[cold]
    pub(crate) fn follow_function_returned(&mut self) {
        let has_effects =
            self.conversation.outstanding.front().is_some_and(|front| front.class.has_effects());
        if let (true, Some(followed)) = (has_effects, &mut self.carried.followed) {
            followed.returned(&self.carried.parameters);
        }
    }
}

impl Session {
    /// The first part of a long Query or Parse goes to the server.
    #[cold]
    pub(crate) fn long_begins(&mut self, long: LongMessage, part: &[u8]) -> LongPart {
        self.client.long = long;
        let followed = self.followed();
        followed.carry.clear();
        let mut found = followed.long_part(part);
        if long == LongMessage::Parse {
            // What the name will stand for when this is run is not known.
            if Parse::parse_prefix(part).is_some_and(|parse| may_execute(parse.sql)) {
                found.pins.add(PinReason::UnknownStatement("EXECUTE"));
            }
            followed.prepared.pin_newest(&found.pins);
        }
        found
    }

    /// The next part of a long message goes to the server.
    #[cold]
    pub(crate) fn follow_long(&mut self, part: &[u8], is_last: bool) {
        match self.client.long {
            LongMessage::Other => {}
            LongMessage::Query | LongMessage::Parse => {
                let sql = if is_last { part.strip_suffix(b"\0").unwrap_or(part) } else { part };
                let sql = if is_last { sql.strip_suffix(b";").unwrap_or(sql) } else { sql };
                let is_parse = self.client.long == LongMessage::Parse;
                let followed = self.followed();
                let found = followed.long_part(part);
                if is_parse {
                    followed.prepared.pin_newest(&found.pins);
                } else {
                    followed.pin_newest(&found.pins);
                }
                // The SQL may be one statement or several.
                if found.is_once || sql.contains(&b';') {
                    self.close_attempt(NotRepeatable::SideEffects);
                }
            }
        }
        if is_last {
            self.client.long = LongMessage::Other;
        }
    }
}
