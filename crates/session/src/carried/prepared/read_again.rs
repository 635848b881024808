//! Prepared statements are read again when functions that they call have changed.

use std::sync::Arc;

use super::texts::Texts;
use super::{LastingEffects, Pending, Prepared, SavedStatement, StatementEffects, StatementOrigin};
use crate::carried::encoding::EncodingEra;
use crate::sql::Class;
use crate::sql::effect::Effect;
use crate::sql::made::Made;
use crate::sql::read::Reading;

impl Prepared {
    /// Reads all statements again.
    #[cold]
    pub(crate) fn read_again(&mut self, mut read: impl FnMut(&[u8], &[u8]) -> Reading) {
        let Self { named, unnamed, pending, texts, odd, .. } = self;
        let in_flight = pending.iter_mut().filter_map(|pending| match pending {
            Pending::Parse { saved, .. } => Some(saved),
            Pending::CloseStatement(_) | Pending::Nothing => None,
        });
        for saved in named.values_mut().chain(unnamed).chain(in_flight) {
            let was_odd = usize::from(!saved.effects.is_plain());
            saved.read_again(texts, &mut read);
            *odd = *odd - was_odd + usize::from(!saved.effects.is_plain());
        }
    }
}

impl SavedStatement {
    /// Reads the statement again: functions that it calls have changed.
    fn read_again(&mut self, texts: &Texts, read: &mut impl FnMut(&[u8], &[u8]) -> Reading) {
        let Some(sql) = self.kept_sql(texts) else { return };
        let Reading { class, pins, calls, of_functions, .. } = read(sql, self.parsed_types(texts));
        let class = if self.origin == StatementOrigin::Sql { Class::ONCE } else { class };
        let before = self.effects.lasting.as_deref();
        let (effect, era) = before
            .map_or((Effect::None, EncodingEra::default()), |lasting| (lasting.effect.clone(), lasting.era));
        let made = before.map_or(Made::Nothing, |lasting| lasting.made.clone());
        let is_something = !pins.is_empty() || effect != Effect::None;
        let lasting =
            is_something.then(|| Arc::new(LastingEffects { pins, of_functions, effect, era, made }));
        self.effects = StatementEffects { class, lasting, calls };
    }
}
