//! Statements that were read before functions changed, or before sessions made something that they may run.
//!
//! While a look is due for what was made, each statement is compared with it when it is bound or run by SQL: others wait for
//! nothing.

use crate::carried::followed::Followed;
use crate::carried::prepared::Prepared;
use crate::carried::unsettled::Unsettled;
use crate::sql::calls::ahead::ahead_of;
use crate::sql::effect::Effect;

impl Followed {
    /// A Bind goes to the server.
    #[inline]
    pub(crate) fn before_bind(&mut self, body: &[u8]) {
        if self.unsettled.must_read_again() && self.read_again() {
            let Self { prepared, unsettled, .. } = self;
            prepared.sql_bound(body).for_each(|sql| unsettled.runs_earlier(sql));
        }
    }

    /// Statements with these effects go to the server.
    pub(crate) fn before_execute(&mut self, effects: &[Effect]) {
        if self.unsettled.must_read_again() && self.read_again() {
            let Self { prepared, unsettled, .. } = self;
            effects.iter().for_each(|effect| unsettled.runs_behind(prepared, effect));
        }
    }

    /// An Execute of a statement with this effect, which may run others, goes to the server.
    #[inline]
    pub(crate) fn before_execute_behind(&mut self, effect: &Effect) {
        let Self { prepared, unsettled, .. } = self;
        if matches!(effect, Effect::Execute(_) | Effect::Explained(_))
            && unsettled.functions.as_ref().is_some_and(|functions| functions.is_change_ahead())
        {
            unsettled.runs_behind(prepared, effect);
        }
    }

    /// Reads statements again if functions have changed. Returns whether something was made that the next look knows.
    #[cold]
    fn read_again(&mut self) -> bool {
        let Self { prepared, unsettled, .. } = self;
        if unsettled.has_changed() {
            prepared.read_again(|sql, types| unsettled.read(sql, || types));
        }
        unsettled.functions.as_ref().is_some_and(|functions| functions.is_change_ahead())
    }
}

impl Unsettled {
    /// The statements that one with this effect runs, or may run.
    fn runs_behind(&mut self, prepared: &Prepared, effect: &Effect) {
        if let Effect::Execute(name) | Effect::Explained(name) = effect {
            prepared.sql_behind(name).for_each(|sql| self.runs_earlier(sql));
        }
    }

    /// A statement is run that was read earlier; `None` where its SQL is not kept.
    fn runs_earlier(&mut self, sql: Option<&[u8]>) {
        let Some(functions) = &self.functions else { return };
        match sql.map(|sql| ahead_of(sql, functions)) {
            Some(None) => return,
            Some(Some(calls)) => self.recent_calls.add_ahead(&calls, functions),
            None => self.recent_calls.add_any_ahead(functions),
        }
        self.proof.waits_for(functions.next_look());
    }
}
