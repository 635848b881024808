//! What a session was given by its first login, and how another login is asked for the same.

use std::time::Instant;

use trunkline_codec::startup::StartupMessage;
use trunkline_health::ServerId;

use super::Defaults;
use super::differences::{Told, corrected, differences};
use super::generation::Login;
use super::history::History;
use super::startup::{extended, has_statement_timeout};

/// A session's defaults.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// Its first server.
    server: ServerId,
    /// When it was logged in there.
    since: Instant,
    given: Given,
}

/// What is known of what the login gave.
#[derive(Clone, Debug)]
enum Given {
    /// What the last look before it had found.
    AtLogin(Option<Login>),
    /// The session left its first server. `None` when no look had found anything in time.
    Settled(Option<Login>),
}

impl Own {
    /// Of a session that was just logged in on `server`.
    pub(crate) fn at_login(defaults: &Defaults, server: ServerId, [user, database]: [&str; 2]) -> Self {
        let newest = defaults.history(server).newest().map(|generation| generation.login(user, database));
        let since = Instant::now();
        defaults.look_soon(server);
        Own { server, since, given: Given::AtLogin(newest) }
    }

    /// The session leaves a server: what it has from there stays its own.
    pub(crate) fn settle(&mut self, defaults: &Defaults, names: [&str; 2], told: &Told) {
        if let Given::AtLogin(given) = &self.given {
            let history = defaults.history(self.server);
            self.given = Given::Settled(settled(given.as_ref(), &history, self.since, names, told));
        }
    }

    fn login(&self) -> Option<&Login> {
        match &self.given {
            Given::AtLogin(login) | Given::Settled(login) => login.as_ref(),
        }
    }

    /// Whether statements of the next login may run out of time before the session has its own settings.
    pub(crate) fn has_statement_timeout(&self, startup: &StartupMessage) -> bool {
        let by_default = self.login().and_then(|login| login.value("statement_timeout"));
        has_statement_timeout(startup) || by_default.is_some_and(|value| value != "0")
    }
}

/// What the session was given: as the last look before its login had it, or the first one after it.
pub(super) fn settled(
    before: Option<&Login>,
    history: &History,
    since: Instant,
    [user, database]: [&str; 2],
    told: &Told,
) -> Option<Login> {
    let after = history.changed_around(since).map(|change| (change.generation.login(user, database), change));
    let given = match (before.cloned(), after) {
        (Some(before), Some((after, change))) if !before.is_like(&after) => {
            let [of_before, of_after] = [&before, &after].map(|login| told.contradictions(login));
            let is_after = of_after < of_before || (of_after == of_before && change.is_nearer_to_next);
            if is_after { after } else { before }
        }
        (Some(before), _) => before,
        (None, Some((after, _))) => after,
        (None, None) => return None,
    };
    let newest = history.newest().map(|generation| generation.login(user, database));
    Some(newest.map_or_else(|| given.clone(), |newest| given.reloaded(&newest)))
}

/// How a session that moves logs in.
#[derive(Debug)]
pub(crate) struct Restoring<'a> {
    pub(crate) defaults: &'a Defaults,
    pub(crate) own: Own,
    pub(crate) told: Told,
    pub(crate) names: [&'a str; 2],
}

impl Restoring<'_> {
    /// The startup packet for `server`, of the session's own.
    pub(crate) fn startup(&self, server: ServerId, startup: &StartupMessage) -> StartupMessage {
        let [user, database] = self.names;
        let history = self.defaults.history(server);
        let now = history.newest().map(|generation| generation.login(user, database));
        let (Some(own), Some(now)) = (self.own.login(), now) else {
            tracing::debug!(server.id = server.0, "it is not known what the session was given, or would be");
            return startup.clone();
        };
        let settings = differences(own, &now, &self.told, startup);
        let names: Vec<&str> = settings.iter().map(|setting| &*setting.name).collect();
        tracing::debug!(server.id = server.0, settings = ?names, "the session asks for what it was given elsewhere");
        extended(startup, &settings)
    }

    /// The packet to log in with once more, where the `greeting` shows that `asked` was not enough.
    pub(crate) fn corrected(
        &self,
        greeting: &[u8],
        startup: &StartupMessage,
        asked: &StartupMessage,
    ) -> Option<StartupMessage> {
        corrected(&self.told, greeting, startup, asked)
    }
}
