//! What a session was given by its first login, and how another login is asked for the same.
//!
//! ```text
//!                 a look from behind the login finds what one from before it found
//!  Unconfirmed ───────────────────────────────────────────────────────────────────────> Known
//!    │    │  it finds something else         the session's server has told               ^  │
//!    │    └────────────────────────> Asked ──────────────────────────────────────────────┘  │
//!    │                                 │   the session leaves its first server              v
//!    └─────────────────────────────────┴─────────────────────────────────────────────> Settled
//! ```

use std::time::Instant;

use trunkline_codec::startup::StartupMessage;
use trunkline_session::LoginValue;
use trunkline_topology::ServerId;

use super::Defaults;
use super::differences::{ReportedDefaults, corrected, differences, doubtful};
use super::generation::{DefaultsVersion, LoginSetting, UserDefaults};
use super::history::{History, PossibleGeneration};
use super::startup::{StartupSetting, extended, has_statement_timeout};
use crate::limits::DEFAULTS_CONFIRM_PATIENCE;

/// When a session logged in: from the connection on, and until its greeting had come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginTime {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

/// A session's defaults.
#[derive(Clone, Debug)]
pub(crate) struct SessionDefaults {
    /// Its first server.
    server: ServerId,
    at: LoginTime,
    given: LoginDefaults,
}

/// What is known of what the login gave.
#[derive(Clone, Debug)]
enum LoginDefaults {
    /// What the last look before it had found.
    Unconfirmed(Option<UserDefaults>),
    /// Looks before and after it differ: the session's own server is asked.
    Asked(UserDefaults),
    /// It is certain.
    Known(UserDefaults),
    /// The session left its first server. `None` when no look had found anything in time.
    Settled(Option<UserDefaults>),
}

impl SessionDefaults {
    /// Of a session that has just logged in on `server`, since `began`.
    pub(crate) fn at_login(
        defaults: &Defaults,
        server: ServerId,
        began: Instant,
        [user, database]: [&str; 2],
    ) -> Self {
        let newest = defaults.history(server).newest().map(|generation| generation.login(user, database));
        let at = LoginTime { began, ended: Instant::now() };
        defaults.look_soon(server);
        SessionDefaults { server, at, given: LoginDefaults::Unconfirmed(newest) }
    }

    /// Whether a look from behind the login is still due.
    #[inline]
    pub(crate) fn is_unconfirmed(&self) -> bool {
        matches!(self.given, LoginDefaults::Unconfirmed(_))
    }

    /// Whether a look from behind the login has ended.
    pub(crate) fn is_looked_at(&self, defaults: &Defaults) -> bool {
        defaults.history(self.server).has_looked_since(self.at.ended)
    }

    /// Whether it is worth waiting for.
    pub(crate) fn is_confirmed_soon(&self, now: Instant) -> bool {
        self.is_unconfirmed() && now < self.at.ended + DEFAULTS_CONFIRM_PATIENCE
    }

    /// Whether the session's server is to be asked, or has not answered.
    #[inline]
    pub(crate) fn is_asked(&self) -> bool {
        matches!(self.given, LoginDefaults::Asked(_))
    }

    /// Compares looks from before and after the login, if that one has ended. Gives the settings that the session's
    /// server must be asked for, as they were changed meanwhile.
    pub(crate) fn confirm(
        &mut self,
        defaults: &Defaults,
        names: [&str; 2],
        told: &ReportedDefaults,
    ) -> Vec<Box<str>> {
        let history = defaults.history(self.server);
        if !self.is_unconfirmed() || !history.has_looked_since(self.at.ended) {
            return Vec::new();
        }
        let (given, keys) = confirmed(&history, self.at, names, told);
        let Some(login) = given else { return Vec::new() };
        self.given = if keys.is_empty() { LoginDefaults::Known(login) } else { LoginDefaults::Asked(login) };
        keys
    }

    /// The session's server has told these.
    pub(crate) fn told(&mut self, values: Vec<LoginValue>) {
        if let LoginDefaults::Asked(login) = &self.given {
            tracing::debug!(
                server.id = self.server.0,
                settings = values.len(),
                "the server has told what a login gave"
            );
            self.given =
                LoginDefaults::Known(login.clone().with_told(values.into_iter().filter_map(text).collect()));
        }
    }

    /// The session leaves a server: what it has from there stays its own. A reload of the configuration is part of it.
    pub(crate) fn settle(&mut self, defaults: &Defaults, names: [&str; 2], told: &ReportedDefaults) {
        let history = defaults.history(self.server);
        let given = match &self.given {
            LoginDefaults::Settled(_) => return,
            LoginDefaults::Known(login) | LoginDefaults::Asked(login) => Some(login.clone()),
            // The server was lost before it was looked at again, or as it was.
            LoginDefaults::Unconfirmed(before) => match history.has_looked_since(self.at.ended) {
                true => confirmed(&history, self.at, names, told).0,
                false => before.clone(),
            },
        };
        let [user, database] = names;
        let newest = history.newest().map(|generation| generation.login(user, database));
        let reloaded =
            given.map(|given| newest.map_or_else(|| given.clone(), |newest| given.reloaded(&newest)));
        self.given = LoginDefaults::Settled(reloaded);
    }

    fn login(&self) -> Option<&UserDefaults> {
        match &self.given {
            LoginDefaults::Unconfirmed(login) | LoginDefaults::Settled(login) => login.as_ref(),
            LoginDefaults::Asked(login) | LoginDefaults::Known(login) => Some(login),
        }
    }

    /// Whether statements of the next login may run out of time before the session has its own settings.
    pub(crate) fn has_statement_timeout(&self, startup: &StartupMessage) -> bool {
        let by_default = self.login().and_then(|login| login.value("statement_timeout"));
        has_statement_timeout(startup) || by_default.is_some_and(|value| value != "0")
    }
}

/// A value that a startup packet can have in any encoding. Others are left to the looks.
fn text((key, value): LoginValue) -> Option<LoginSetting> {
    let Some(value) = value else { return Some((key, None)) };
    let value = std::str::from_utf8(&value).ok().filter(|value| value.is_ascii())?;
    Some((key, Some(value.into())))
}

/// What a login at this time was given by the looks around it, where they agree; else what its greeting contradicts
/// least, or what the nearer one had, and the settings in which they differ.
pub(super) fn confirmed(
    history: &History,
    at: LoginTime,
    [user, database]: [&str; 2],
    told: &ReportedDefaults,
) -> (Option<UserDefaults>, Vec<Box<str>>) {
    let mut candidates = history.in_force(at.began, at.ended);
    // The session is on the run of the server that is there now, and takes part in its reloads.
    if let Some(last) = candidates.last().map(|last| last.generation.clone()) {
        candidates.retain(|candidate| candidate.generation.is_of_same_run(&last));
    }
    let Some(now) = candidates.last().map(|last| last.generation.login(user, database)) else {
        return (None, Vec::new());
    };
    let login = |candidate: &PossibleGeneration| candidate.generation.login(user, database).reloaded(&now);
    let logins: Vec<UserDefaults> = candidates.iter().map(login).collect();
    let keys = doubtful(&logins, told);
    let best = logins
        .into_iter()
        .zip(&candidates)
        .min_by_key(|(login, candidate)| (told.contradictions(login), candidate.distance));
    (best.map(|(login, _)| login), keys)
}

/// How a session that moves logs in.
#[derive(Debug)]
pub(crate) struct RestoringLogin<'a> {
    pub(crate) defaults: &'a Defaults,
    pub(crate) own: SessionDefaults,
    pub(crate) told: ReportedDefaults,
    pub(crate) names: [&'a str; 2],
}

/// What a login asks for.
#[derive(Debug, Default)]
pub(crate) struct RequestedSettings {
    pub(crate) settings: Vec<StartupSetting>,
    /// What it would be given by the last look; `None` when that is not known, or of no use.
    now: Option<UserDefaults>,
}

impl RequestedSettings {
    /// Whether a login on a server of this mark is given what the last look has found.
    pub(crate) fn fits(&self, mark: &DefaultsVersion) -> bool {
        self.now.as_ref().is_none_or(|now| now.is_of(mark))
    }

    /// Whether it can be told that it does not fit.
    pub(crate) fn is_of_a_look(&self) -> bool {
        self.now.is_some()
    }
}

impl RestoringLogin<'_> {
    /// What to ask of `server`, besides what the session's startup packet does.
    pub(crate) fn asking(&self, server: ServerId, startup: &StartupMessage) -> RequestedSettings {
        let [user, database] = self.names;
        let history = self.defaults.history(server);
        let now = history.newest().map(|generation| generation.login(user, database));
        let (Some(own), Some(now)) = (self.own.login(), now) else {
            tracing::debug!(server.id = server.0, "it is not known what the session was given, or would be");
            return RequestedSettings::default();
        };
        let settings = differences(own, &now, &self.told, startup);
        let names: Vec<&str> = settings.iter().map(|setting| &*setting.name).collect();
        tracing::debug!(server.id = server.0, settings = ?names, "the session asks for what it was given elsewhere");
        RequestedSettings { settings, now: Some(now) }
    }

    /// The startup packet that asks for it.
    pub(crate) fn startup(asking: &RequestedSettings, startup: &StartupMessage) -> StartupMessage {
        extended(startup, &asking.settings)
    }

    /// What was wrong in the `greeting` to `asked`.
    pub(crate) fn corrected(
        &self,
        login_reply: &[u8],
        startup: &StartupMessage,
        asked: &StartupMessage,
    ) -> Vec<StartupSetting> {
        corrected(&self.told, login_reply, startup, asked)
    }

    /// Returns when `server` has been looked at once more.
    pub(crate) async fn next_look(&self, server: ServerId) {
        self.defaults.next_look(server).await;
    }
}
