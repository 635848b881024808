//! Prepared statements are read again when functions that they call have changed.

use std::sync::Arc;

use trunkline_codec::frontend::Parse;

use super::{LastingEffects, Origin, Pending, Prepared, SavedStatement, StatementEffects};
use crate::carried::encoding::EncodingEra;
use crate::sql::Class;
use crate::sql::effect::Effect;
use crate::sql::read::Reading;

impl Prepared {
    /// Reads all statements again.
    #[cold]
    pub(crate) fn read_again(&mut self, mut read: impl FnMut(&[u8]) -> Reading) {
        let in_flight = self.pending.iter_mut().filter_map(|pending| match pending {
            Pending::Parse { saved, .. } => Some(saved),
            Pending::CloseStatement(_) | Pending::Nothing => None,
        });
        for saved in self.named.values_mut().chain(&mut self.unnamed).chain(in_flight) {
            let was_odd = usize::from(!saved.effects.is_plain());
            saved.read_again(&mut read);
            self.odd = self.odd - was_odd + usize::from(!saved.effects.is_plain());
        }
    }
}

impl SavedStatement {
    /// Reads the statement again: functions that it calls have changed.
    fn read_again(&mut self, read: &mut impl FnMut(&[u8]) -> Reading) {
        let reading = match &self.origin {
            Origin::Parse(body) => Parse::parse_prefix(body).map(|parse| read(parse.sql)),
            Origin::Sql(sql) => Some(Reading { class: Class::ONCE, ..read(sql) }),
            Origin::Unsaved => None,
        };
        let Some(Reading { class, pins, .. }) = reading else { return };
        let before = self.effects.lasting.as_deref();
        let (effect, era) = before
            .map_or((Effect::None, EncodingEra::default()), |lasting| (lasting.effect.clone(), lasting.era));
        let is_something = !pins.is_empty() || effect != Effect::None;
        let lasting = is_something.then(|| Arc::new(LastingEffects { pins, effect, era }));
        self.effects = StatementEffects { class, lasting };
    }
}
