//! The defaults of a session's first login, and how another login asks for them.
//!
//! ```text
//!                 read after the login: the same as before the login
//!  Unconfirmed ─────────────────────────────────────────────────────────> Known
//!    │    │  they differ          the session's server has answered       ^  │
//!    │    └──────────────> Asked ─────────────────────────────────────────┘  │
//!    │                       │   the session leaves its first server          v
//!    └───────────────────────┴──────────────────────────────────────────> Settled
//! ```

use std::sync::Arc;
use std::time::Instant;

use trunkline_codec::startup::StartupMessage;
use trunkline_session::{LoginValue, names_temporary_schema};
use trunkline_topology::ServerId;

use super::Defaults;
use super::differences::{REPORTED, ReportedDefaults, corrected, differences, doubtful};
use super::generation::{DefaultsVersion, LoginSetting, UserDefaults};
use super::history::{History, PossibleGeneration};
use super::identity::LoginIdentity;
use super::startup::{StartupSetting, extended, has_statement_timeout, named};
use crate::limits::DEFAULTS_CONFIRM_PATIENCE;

/// When a session logged in: from the begin of the connection to the end of the login.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginTime {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

/// The defaults of a session.
#[derive(Clone, Debug)]
pub(crate) struct SessionDefaults {
    /// Its first server.
    server: ServerId,
    at: LoginTime,
    given: LoginDefaults,
    /// Reported settings that a reload has changed since: what the session was told of them may be older.
    outdated: Vec<&'static str>,
}

/// What is known about the defaults of the first login.
#[derive(Clone, Debug)]
enum LoginDefaults {
    /// As read before the login.
    Unconfirmed(Option<UserDefaults>),
    /// Those read before and after the login differ: the session's server is queried.
    Asked(UserDefaults),
    /// Certain.
    Known(UserDefaults),
    /// The session left its first server. `None` when the defaults could not be read in time.
    Settled(Option<UserDefaults>),
}

impl SessionDefaults {
    /// For a session that has just logged in on `server`, beginning at `began`.
    pub(crate) fn at_login(
        defaults: &Defaults,
        server: ServerId,
        began: Instant,
        [user, database]: [&str; 2],
    ) -> Self {
        let newest = defaults.history(server).newest().map(|generation| generation.login(user, database));
        let at = LoginTime { began, ended: Instant::now() };
        defaults.look_soon(server);
        // Where nobody looks, there is nothing to wait for.
        let given = if defaults.looks_at(server) {
            LoginDefaults::Unconfirmed(newest)
        } else {
            LoginDefaults::Settled(None)
        };
        SessionDefaults { server, at, given, outdated: Vec::new() }
    }

    /// Whether the defaults have not been confirmed after the login yet.
    #[inline]
    pub(crate) fn is_unconfirmed(&self) -> bool {
        matches!(self.given, LoginDefaults::Unconfirmed(_))
    }

    /// Whether the defaults have been read after the login.
    pub(crate) fn is_looked_at(&self, defaults: &Defaults) -> bool {
        defaults.history(self.server).has_looked_since(self.at.ended)
    }

    /// Whether it is worth waiting for the confirmation.
    pub(crate) fn is_confirmed_soon(&self, now: Instant) -> bool {
        self.is_unconfirmed() && now < self.at.ended + DEFAULTS_CONFIRM_PATIENCE
    }

    /// Whether the session has left its first server, with these defaults.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.given, LoginDefaults::Settled(_))
    }

    /// Whether the session's server is being queried.
    #[inline]
    pub(crate) fn is_asked(&self) -> bool {
        matches!(self.given, LoginDefaults::Asked(_))
    }

    /// Compares the defaults read before and after the login, if both have been read. Returns the settings that
    /// differ, which the session's server must be queried for.
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

    /// The session's server returned these values.
    pub(crate) fn told(&mut self, values: Vec<LoginValue>) {
        if let LoginDefaults::Asked(login) = &self.given {
            tracing::debug!(
                server.id = self.server.0,
                settings = values.len(),
                "the server returned the session's own default settings"
            );
            self.given =
                LoginDefaults::Known(login.clone().with_told(values.into_iter().filter_map(text).collect()));
        }
    }

    /// The session leaves a server and keeps its defaults from there, including later reloads of the
    /// configuration.
    pub(crate) fn settle(&mut self, defaults: &Defaults, names: [&str; 2], told: &ReportedDefaults) {
        let history = defaults.history(self.server);
        let given = match &self.given {
            LoginDefaults::Settled(_) => return,
            LoginDefaults::Known(login) | LoginDefaults::Asked(login) => Some(login.clone()),
            // The server was lost before or while its defaults were read again.
            LoginDefaults::Unconfirmed(before) => match history.has_looked_since(self.at.ended) {
                true => confirmed(&history, self.at, names, told).0,
                false => before.clone(),
            },
        };
        let [user, database] = names;
        let newest = history.newest().map(|generation| generation.login(user, database));
        let reloaded = given.map(|given| match newest {
            Some(newest) => self.after_reload(&given, &newest),
            None => given,
        });
        self.given = LoginDefaults::Settled(reloaded);
    }

    /// These defaults with the server's settings in `newest`. What that changes is outdated.
    fn after_reload(&mut self, given: &UserDefaults, newest: &UserDefaults) -> UserDefaults {
        let reloaded = given.reloaded(newest);
        let changed = REPORTED.into_iter().filter(|key| given.value(key) != reloaded.value(key));
        let new: Vec<&str> = changed.filter(|key| !self.outdated.contains(key)).collect();
        self.outdated.extend(new);
        reloaded
    }

    /// What the session was told by its servers, less what is outdated.
    pub(crate) fn without_outdated(&self, mut told: ReportedDefaults) -> ReportedDefaults {
        self.outdated.iter().for_each(|key| told.forget(key));
        told
    }

    /// The session has left its first server, whose configuration may have been read again since: so have those of the
    /// connections that it shares. `None` if nothing has changed.
    pub(crate) fn reloaded(&self, defaults: &Defaults, [user, database]: [&str; 2]) -> Option<Self> {
        let LoginDefaults::Settled(Some(login)) = &self.given else { return None };
        let history = defaults.history(self.server);
        let newest = history.newest()?.login(user, database);
        if login.is_of_load(&newest) {
            return None;
        }
        let mut after = self.clone();
        after.given = LoginDefaults::Settled(Some(after.after_reload(login, &newest)));
        Some(after)
    }

    fn login(&self) -> Option<&UserDefaults> {
        match &self.given {
            LoginDefaults::Unconfirmed(login) | LoginDefaults::Settled(login) => login.as_ref(),
            LoginDefaults::Asked(login) | LoginDefaults::Known(login) => Some(login),
        }
    }

    /// A hash of the defaults, for pools: equal where they are. 0 where they are not known.
    pub(crate) fn digest(&self) -> u32 {
        self.login().map_or(0, UserDefaults::digest)
    }

    /// Whether new objects of a session may be temporary without saying so, by the `search_path` of its login.
    pub(crate) fn has_temporary_path(&self, startup: &StartupMessage) -> bool {
        let own = named(startup, "search_path");
        let by_default = || self.login().and_then(|login| login.value("search_path")).map(str::as_bytes);
        own.as_deref().or_else(by_default).is_some_and(names_temporary_schema)
    }

    /// Whether the next login has a statement_timeout before the session's own settings are restored.
    pub(crate) fn has_statement_timeout(&self, startup: &StartupMessage) -> bool {
        let by_default = self.login().and_then(|login| login.value("statement_timeout"));
        has_statement_timeout(startup) || by_default.is_some_and(|value| value != "0")
    }
}

/// A value that is the same in any encoding. Others are left as they were read by the monitoring role.
fn text((key, value): LoginValue) -> Option<LoginSetting> {
    let Some(value) = value else { return Some((key, None)) };
    let value = std::str::from_utf8(&value).ok().filter(|value| value.is_ascii())?;
    Some((key, Some(value.into())))
}

/// The defaults of a login at this time. If the generations around it differ: those that contradict the reported
/// parameters least, or else the nearer ones, and the settings in which they differ.
pub(super) fn confirmed(
    history: &History,
    at: LoginTime,
    [user, database]: [&str; 2],
    told: &ReportedDefaults,
) -> (Option<UserDefaults>, Vec<Box<str>>) {
    let mut candidates = history.in_force(at.began, at.ended);
    // The session's server has not been restarted since the login, and its reloads apply to the session.
    if let Some(last) = candidates.last().map(|last| last.generation.clone()) {
        candidates.retain(|candidate| candidate.generation.is_of_same_run(&last));
    }
    let Some(now) = candidates.last().map(|last| last.generation.login(user, database)) else {
        return (None, Vec::new());
    };
    let login = |candidate: &PossibleGeneration| candidate.generation.login(user, database).reloaded(&now);
    let logins: Vec<UserDefaults> = candidates.iter().map(login).collect();
    let keys = doubtful(&logins, told);
    let identity = LoginIdentity::agreed(logins.iter().map(|login| login.identity));
    let best = logins
        .into_iter()
        .zip(&candidates)
        .min_by_key(|(login, candidate)| (told.contradictions(login), candidate.distance));
    (best.map(|(login, _)| login.with_identity(identity)), keys)
}

/// What a moving session needs to log in with its own defaults.
#[derive(Debug)]
pub(crate) struct RestoringLogin<'a> {
    pub(crate) defaults: &'a Defaults,
    pub(crate) own: Arc<SessionDefaults>,
    pub(crate) told: ReportedDefaults,
    pub(crate) names: [&'a str; 2],
}

/// The settings that a login asks for.
#[derive(Debug, Default)]
pub(crate) struct RequestedSettings {
    pub(crate) settings: Vec<StartupSetting>,
    /// The defaults it would get otherwise; `None` when they are unknown.
    now: Option<UserDefaults>,
    /// Whose login it has to be.
    identity: LoginIdentity,
}

impl RequestedSettings {
    /// Whether the server's defaults are still those that were read.
    pub(crate) fn fits(&self, version: &DefaultsVersion) -> bool {
        self.now.as_ref().is_none_or(|now| now.is_of(version))
    }

    /// Whether this login is of another role than the session's, or to another database, for all that they are called the same.
    pub(crate) fn is_of_another(&self, version: &DefaultsVersion) -> bool {
        self.identity.is_another(version.identity)
    }

    /// Whether the defaults of the server are known, so that a change can be noticed.
    pub(crate) fn is_of_a_look(&self) -> bool {
        self.now.is_some()
    }
}

impl RestoringLogin<'_> {
    /// The settings to ask `server` for, in addition to the session's startup packet.
    pub(crate) fn asking(&self, server: ServerId, startup: &StartupMessage) -> RequestedSettings {
        let [user, database] = self.names;
        let history = self.defaults.history(server);
        let now = history.newest().map(|generation| generation.login(user, database));
        let (Some(own), Some(now)) = (self.own.login(), now) else {
            tracing::debug!(
                server.id = server.0,
                "the session's or the server's default settings are unknown"
            );
            return RequestedSettings::default();
        };
        let settings = differences(own, &now, &self.told, startup);
        let names: Vec<&str> = settings.iter().map(|setting| &*setting.name).collect();
        tracing::debug!(server.id = server.0, settings = ?names, "the session asks for its own default settings");
        RequestedSettings { settings, now: Some(now), identity: own.identity }
    }

    /// The startup packet with these settings.
    pub(crate) fn startup(asking: &RequestedSettings, startup: &StartupMessage) -> StartupMessage {
        extended(startup, &asking.settings)
    }

    /// The settings that were still wrong after the login by `asked`.
    pub(crate) fn corrected(
        &self,
        login_reply: &[u8],
        startup: &StartupMessage,
        asked: &StartupMessage,
    ) -> Vec<StartupSetting> {
        corrected(&self.told, login_reply, startup, asked)
    }

    /// Returns when the defaults of `server` have been read again.
    pub(crate) async fn next_look(&self, server: ServerId) {
        self.defaults.next_look(server).await;
    }
}
