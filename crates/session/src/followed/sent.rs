//! What requests do, read on their way to the server.

use super::{Followed, Item};
use crate::lately::CalledBy;
use crate::outstanding::Request;
use crate::session::Session;
use crate::settings::Mobility;
use crate::sql::Class;
use crate::sql::calls::{Harmless, calls};
use crate::sql::read::{Reading, read, read_with};
use crate::state::Long;

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
                self.long_begins(Long::Parse, body);
                Class::ONCE
            }
            Request::Bind => {
                let Some(followed) = &mut self.followed else { return Class::PLAIN };
                followed.read_again_if_changed();
                followed.prepared.bind_sent(body, followed.encoding.era()).unwrap_or_else(|reasons| {
                    followed.pin_all(&reasons);
                    Class::PLAIN
                })
            }
            Request::DescribeStatement | Request::DescribePortal => {
                let is_noted = self.followed.as_mut().is_some_and(|f| f.prepared.describe_sent(body));
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
            let found = self.long_begins(Long::Query, body);
            let reading = if found.is_once { Reading::unread() } else { Reading::long(body) };
            return self.expect(Reading { pins: found.pins, ..reading });
        }
        let sql = body.strip_suffix(b"\0").unwrap_or(body);
        let mut harmless = Harmless::default();
        let found = self.functions.as_ref().and_then(|functions| calls(sql, functions, &mut harmless));
        if !harmless.is_empty() {
            self.followed().unsettled.called_lately(&harmless, CalledBy::Query);
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
        followed.queue.push_back(Item::Query { effects: effects.into(), pins, era });
        class.with_effects()
    }

    #[inline]
    fn follow_execute(&mut self, body: &[u8]) -> Class {
        let Some(followed) = &mut self.followed else { return Class::PLAIN };
        let traits = followed.prepared.execute_sent(body);
        let Some(deeds) = traits.deeds else { return traits.class };
        let deeds = followed.prepared.all_behind(deeds);
        followed.pin_all(&deeds.pins);
        followed.queue.push_back(Item::Execute(deeds));
        traits.class.with_effects()
    }
}
