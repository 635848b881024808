//! What requests do, read on their way to the server.

use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::Parse;

use super::Session;
use crate::carried::followed::{Followed, QueuedRequest};
use crate::carried::function_call;
use crate::carried::long::LongPart;
use crate::carried::prepared::texts::TextId;
use crate::carried::prepared::{MessageExtent, StatementEffects, Wire};
use crate::carried::recent_calls::CalledBy;
use crate::carried::residue::InsertUse;
use crate::conversation::outstanding::Request;
use crate::conversation::state::LongMessage;
use crate::pin::{NotRepeatable, PinReason};
use crate::pins::Pins;
use crate::settings::Mobility;
use crate::sql::Class;
use crate::sql::calls::{CalledNames, calls};
use crate::sql::made::Made;
use crate::sql::read::{FunctionUse, Reading, may_execute, read};
use crate::sql::suspicious_names::exports_snapshot;

impl Session {
    /// Reads a request on its way to the server. Returns its SQL for the log, and what is known of it. Of a long one
    /// `body` is the first part.
    #[inline]
    pub(crate) fn follow_sent(
        &mut self,
        request: Request,
        body: &[u8],
        is_whole: bool,
    ) -> (Option<TextId>, Class) {
        match request {
            Request::Query => {
                let text = self.carried.followed.as_mut().and_then(|f| f.prepared.query_sent(body));
                (text, self.follow_query(body, is_whole))
            }
            Request::Parse => self.follow_parse(body, is_whole),
            Request::Bind => self.follow_bind(body),
            Request::DescribeStatement => {
                let text = self.carried.followed.as_mut().and_then(|f| f.prepared.described_text(body));
                (text, self.follow_describe(body))
            }
            Request::DescribePortal => (None, self.follow_describe(body)),
            Request::Execute => self.follow_execute(body),
            Request::Close => {
                if self.mobility == Mobility::Movable {
                    self.carried.follow();
                }
                if let Some(followed) = &mut self.carried.followed {
                    followed.prepared.close_sent(body);
                }
                (None, Class::PLAIN)
            }
            Request::BrokenFlush | Request::Sync | Request::CopyEnd => (None, Class::PLAIN),
            Request::FunctionCall => (None, self.follow_function_call(body, is_whole)),
        }
    }

    #[inline]
    fn follow_parse(&mut self, body: &[u8], is_whole: bool) -> (Option<TextId>, Class) {
        if self.conversation.status == TransactionStatus::InTransaction {
            let exports = |parse: Parse<'_>| exports_snapshot(parse.sql);
            self.conversation.exports_snapshot |= Parse::parse_prefix(body).is_some_and(exports);
        }
        if self.mobility == Mobility::Fixed {
            let prepared = self.carried.followed.as_mut().map(|followed| &mut followed.prepared);
            let wire = Wire::OfClient;
            let text =
                prepared.and_then(|p| p.parse_sent(body, is_whole, wire, |_sql| StatementEffects::PLAIN));
            return (text, Class::PLAIN);
        }
        let extent = if is_whole { MessageExtent::Whole } else { MessageExtent::Part };
        let wire = self.wire_of(body, extent);
        let Followed { prepared, unsettled, encoding, .. } = self.carried.follow();
        let is_plain_again = is_whole && prepared.is_plain_unnamed(body);
        let mut run_already = Pins::default();
        let text = prepared.parse_sent(body, is_whole, wire, |sql| {
            if is_plain_again && !unsettled.may_call(sql) {
                return StatementEffects::PLAIN;
            }
            let types = || Parse::parse(body).map_or(&[][..], |parse| parse.parameter_types);
            let reading = if is_whole { unsettled.read(sql, types) } else { Reading::unread() };
            run_already.extend(&reading.of_functions);
            StatementEffects::of(reading, |reading| unsettled.made_by(reading, sql), body, encoding.era())
        });
        let calls_functions = unsettled.calls_functions();
        if !run_already.is_empty() {
            self.carried.follow().pin_all(&run_already);
        }
        if calls_functions {
            self.may_use_sequences();
        }
        if is_whole {
            return (text, Class::PLAIN);
        }
        self.long_begins(LongMessage::Parse, body);
        (text, Class::ONCE)
    }

    #[inline]
    fn follow_bind(&mut self, body: &[u8]) -> (Option<TextId>, Class) {
        let Some(followed) = &mut self.carried.followed else { return (None, Class::PLAIN) };
        followed.before_bind(body);
        let bound = followed.prepared.bind_sent(body, followed.encoding.era());
        if bound.calls == FunctionUse::Possible {
            followed.unsettled.called_again();
        }
        if !bound.pins.is_empty() {
            followed.pin_all(&bound.pins);
        }
        (bound.text, bound.class)
    }

    fn follow_describe(&mut self, body: &[u8]) -> Class {
        let is_noted = self.mobility == Mobility::Movable
            && self.carried.followed.as_mut().is_some_and(|f| f.prepared.describe_sent(body));
        if is_noted { Class::DESCRIBE_NOTED } else { Class::PLAIN }
    }

    #[inline]
    fn follow_query(&mut self, body: &[u8], is_whole: bool) -> Class {
        if self.mobility == Mobility::Fixed {
            // Outside of a transaction block its snapshot ends with the Query.
            let begins = |word: &[u8]| body.get(..word.len()).is_some_and(|b| b.eq_ignore_ascii_case(word));
            if self.conversation.status == TransactionStatus::InTransaction
                || !self.conversation.outstanding.is_empty()
                || begins(b"begin")
                || begins(b"start")
            {
                self.conversation.exports_snapshot |= exports_snapshot(body);
            }
            return Class::PLAIN;
        }
        if !is_whole {
            return self.follow_long_query(body);
        }
        let sql = body.strip_suffix(b"\0").unwrap_or(body);
        let mut called = CalledNames::default();
        let found = self.carried.functions.as_ref().and_then(|functions| calls(sql, functions, &mut called));
        if !called.is_empty() {
            self.followed().unsettled.called_lately(&called, CalledBy::Query);
            self.may_use_sequences();
        }
        let reading = match found {
            None => {
                let reading = read(sql);
                if reading.runs_relations() {
                    self.followed().unsettled.of_relations(reading)
                } else {
                    reading
                }
            }
            Some(calls) => self.followed().unsettled.read_called(sql, calls, || &[]),
        };
        if reading.is_plain() { Class::PLAIN } else { self.follow_reading(sql, reading) }
    }

    #[cold]
    fn follow_long_query(&mut self, body: &[u8]) -> Class {
        let found = self.long_begins(LongMessage::Query, body);
        let reading = if found.is_once { Reading::unread() } else { Reading::long(body) };
        self.expect(Reading { pins: found.pins, ..reading }, Made::Anything)
    }

    /// A Query of which this was read.
    #[inline(never)]
    fn follow_reading(&mut self, sql: &[u8], reading: Reading) -> Class {
        self.conversation.exports_snapshot |= exports_snapshot(sql);
        if reading.effects.is_empty() {
            return reading.class;
        }
        let made = self.followed().unsettled.made_by(&reading, sql);
        self.expect(reading, made)
    }

    /// A Query that is not plain.
    pub(crate) fn expect(&mut self, reading: Reading, made: Made) -> Class {
        let Reading { class, mut pins, effects, .. } = reading;
        if effects.is_empty() {
            return class;
        }
        let followed = self.followed();
        followed.before_execute(&effects);
        let era = followed.encoding.era();
        effects.iter().for_each(|effect| followed.prepared.pins_behind(effect, &mut pins));
        if effects.iter().any(|effect| followed.prepared.calls_behind(effect) == FunctionUse::Possible) {
            followed.unsettled.called_again();
        }
        followed.pin_all(&pins);
        effects.iter().for_each(|effect| followed.unsettled.pinned_by(effect.pin().into_iter()));
        followed.queue.push_back(QueuedRequest::Query { effects: effects.into(), pins, era, made });
        class.with_effects()
    }

    #[inline]
    fn follow_execute(&mut self, body: &[u8]) -> (Option<TextId>, Class) {
        let Some(followed) = &mut self.carried.followed else { return (None, Class::PLAIN) };
        let (text, effects) = followed.prepared.execute_sent(body);
        if effects.calls == FunctionUse::Possible {
            followed.unsettled.called_again();
        }
        let Some(lasting) = effects.lasting else { return (text, effects.class) };
        if followed.prepared.calls_behind(&lasting.effect) == FunctionUse::Possible {
            followed.unsettled.called_again();
        }
        followed.before_execute_behind(&lasting.effect);
        let lasting = followed.prepared.all_behind(lasting);
        followed.pin_all(&lasting.pins);
        followed.unsettled.pinned_by(lasting.effect.pin().into_iter());
        followed.queue.push_back(QueuedRequest::Execute(lasting));
        (text, effects.class.with_effects())
    }
}

impl Session {
    /// Draws some of the statements that go to the server.
    #[inline]
    pub(crate) fn sample(&mut self, request: Request, body: &[u8], sent: u64) {
        match request {
            Request::Query => {
                if self.sampler.draws(sent) {
                    self.sampler.sent(body.strip_suffix(b"\0").unwrap_or(body), sent);
                }
            }
            Request::Bind => {
                if let Some(followed) = &self.carried.followed
                    && self.sampler.draws(sent)
                    && let Some(sql) = followed.prepared.sql_of_bind(body)
                {
                    self.sampler.bound(sql);
                }
            }
            Request::Execute => self.sampler.executed(sent),
            Request::Parse
            | Request::DescribeStatement
            | Request::DescribePortal
            | Request::Close
            | Request::BrokenFlush
            | Request::Sync
            | Request::FunctionCall
            | Request::CopyEnd => {}
        }
    }
}

impl Session {
    /// Reads a FunctionCall on its way to the server. Of a long one `body` is the first part.
    #[cold]
    fn follow_function_call(&mut self, body: &[u8], is_whole: bool) -> Class {
        if self.mobility == Mobility::Fixed {
            return Class::PLAIN;
        }
        self.expect(function_call::read(body, is_whole), Made::Nothing)
    }

    /// The function of the front request has returned.
    #[cold]
    pub(crate) fn follow_function_returned(&mut self) {
        let has_effects =
            self.conversation.outstanding.front().is_some_and(|front| front.class.has_effects());
        if let (true, Some(followed)) = (has_effects, &mut self.carried.followed) {
            followed.returned(&self.carried.parameters);
        }
        if self.has_named_sequences() {
            self.residue.inserts = InsertUse::Possible;
        }
    }
}

impl Session {
    /// The first part of a long Query or Parse goes to the server.
    #[cold]
    pub(crate) fn long_begins(&mut self, long: LongMessage, part: &[u8]) -> LongPart {
        self.client.long = long;
        self.may_use_sequences();
        let followed = self.followed();
        followed.carry.clear();
        // In the parts, functions without effects are not looked for.
        followed.unsettled.calls_unnoted(long == LongMessage::Parse);
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
                if is_last {
                    followed.unsettled.calls_unnoted(is_parse);
                }
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
