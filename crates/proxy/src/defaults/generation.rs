//! The defaults of a server for new logins, as read at one time.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, OnceLock};

use super::identity::{Identities, LoginIdentity};
use crate::limits::{DEFAULTS_BYTES_MAX, DEFAULTS_ROWS_MAX};

/// Significant bytes of the name of a role or database.
/// Source: PostgreSQL 18, src/include/pg_config_manual.h, `NAMEDATALEN`, less its NUL.
const NAME_BYTES_MAX: usize = 63;

/// Who may set a setting by a startup packet.
/// Source: PostgreSQL 18, src/backend/utils/misc/guc.c, `set_config_with_handle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SettableBy {
    Anyone,
    Superusers,
}

/// A setting of the server itself: from its configuration files, its command line, or built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSetting {
    /// `None` where the connection of the monitoring role hides it by its own.
    pub(crate) value: Option<Box<str>>,
    pub(crate) by: SettableBy,
}

/// The server's settings that a login may override, by name in lower case.
pub(crate) type ServerSettings = HashMap<Box<str>, ServerSetting>;

/// What ALTER ROLE or ALTER DATABASE has set for one role, one database or both: a row of `pg_db_role_setting`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DbRoleSettings {
    /// The transaction that wrote the row.
    written_by: Box<str>,
    /// Names in lower case, and values as written.
    settings: Vec<(Box<str>, Box<str>)>,
}

/// The database and the role of a row; `None` means all.
type DatabaseAndRole = (Option<Box<str>>, Option<Box<str>>);

/// The defaults of a server. Parts that have not changed are shared with the generation before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation {
    /// When the server was started, and when it last read its configuration, in its own words.
    started: Arc<str>,
    loaded: Arc<str>,
    level: Arc<ServerSettings>,
    /// A hash of `level`.
    level_digest: u64,
    /// By database and role.
    groups: HashMap<DatabaseAndRole, Arc<DbRoleSettings>>,
    superusers: Arc<HashSet<Box<str>>>,
    identities: Arc<Identities>,
}

/// There are more settings than are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("settings of roles and databases exceed {DEFAULTS_ROWS_MAX} or {DEFAULTS_BYTES_MAX} bytes")]
pub(crate) struct TooManySettings;

/// A setting, and the value that a login gave it.
pub(crate) type LoginSetting = (Box<str>, Option<Box<str>>);

/// The defaults of one user in one database.
#[derive(Clone, Debug)]
pub(crate) struct UserDefaults {
    started: Arc<str>,
    loaded: Arc<str>,
    level: Arc<ServerSettings>,
    level_digest: u64,
    /// The most specific first.
    groups: [Option<Arc<DbRoleSettings>>; 4],
    pub(crate) is_superuser: bool,
    pub(super) identity: LoginIdentity,
    /// Values that the session's server was asked for; `None` for a setting that it does not know.
    told: Arc<[LoginSetting]>,
    /// Computed when it is first asked for: sessions of pools do at each transaction.
    digest: OnceLock<u32>,
}

/// What determines the defaults of a login on a server, as one of its sessions reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DefaultsVersion {
    pub(super) started: Box<str>,
    pub(super) loaded: Box<str>,
    /// See [`UserDefaults::rows`].
    pub(super) rows: Box<str>,
    /// Of the session itself.
    pub(super) identity: LoginIdentity,
}

/// Gathers a [`Generation`].
#[derive(Debug, Default)]
pub(crate) struct Builder {
    loaded: Box<str>,
    level: ServerSettings,
    groups: HashMap<DatabaseAndRole, DbRoleSettings>,
    superusers: HashSet<Box<str>>,
    pub(super) identities: Identities,
    rows: usize,
    bytes: usize,
}

impl Builder {
    fn count(&mut self, texts: &[&str]) -> Result<(), TooManySettings> {
        self.rows += 1;
        self.bytes += texts.iter().map(|text| text.len()).sum::<usize>();
        let is_within = self.rows <= DEFAULTS_ROWS_MAX && self.bytes <= DEFAULTS_BYTES_MAX;
        if is_within { Ok(()) } else { Err(TooManySettings) }
    }

    /// Adds a row of `pg_settings`: name, `reset_val`, `context`, `source` and `boot_val`. A setting of the
    /// monitoring role by ALTER ROLE hides the server's configuration: the server is then assumed to have
    /// PostgreSQL's default.
    pub(crate) fn server(
        &mut self,
        [name, value, context, source, boot_value]: [&str; 5],
    ) -> Result<(), TooManySettings> {
        self.count(&[name, value])?;
        let by = match context {
            "user" | "backend" => SettableBy::Anyone,
            "superuser" | "superuser-backend" => SettableBy::Superusers,
            _of_the_whole_server => return Ok(()),
        };
        let value = match source {
            "default"
            | "dynamic default"
            | "environment variable"
            | "configuration file"
            | "command line" => Some(value),
            "global" | "database" | "user" | "database user" => Some(boot_value),
            _of_the_connection => None,
        };
        let value = value.map(Box::from);
        self.level.insert(name.to_ascii_lowercase().into(), ServerSetting { value, by });
        Ok(())
    }

    /// When the server has last read its configuration.
    pub(crate) fn loaded(&mut self, when: &str) {
        self.loaded = when.into();
    }

    /// A row of `pg_db_role_setting`, and who wrote it.
    pub(crate) fn row(&mut self, database: Option<&str>, role: Option<&str>, written_by: &str) {
        let of = (database.map(Box::from), role.map(Box::from));
        self.groups.entry(of).or_default().written_by = written_by.into();
    }

    /// One setting, `name=value`, of such a row.
    pub(crate) fn setting(
        &mut self,
        database: Option<&str>,
        role: Option<&str>,
        setting: &str,
    ) -> Result<(), TooManySettings> {
        self.count(&[database.unwrap_or_default(), role.unwrap_or_default(), setting])?;
        let Some((name, value)) = setting.split_once('=') else { return Ok(()) };
        let of = (database.map(Box::from), role.map(Box::from));
        self.groups.entry(of).or_default().settings.push((name.to_ascii_lowercase().into(), value.into()));
        Ok(())
    }

    /// A role that is a superuser.
    pub(crate) fn superuser(&mut self, name: &str) -> Result<(), TooManySettings> {
        self.count(&[name])?;
        self.superusers.insert(name.into());
        Ok(())
    }

    /// The generation. It shares what has not changed with the one before.
    pub(crate) fn finish(self, started: &str, before: Option<&Generation>) -> Generation {
        let Builder { loaded, level, groups, superusers, identities, .. } = self;
        let groups = groups.into_iter().map(|(of, group)| {
            let shared = before.and_then(|before| before.groups.get(&of)).filter(|same| ***same == group);
            (of, shared.cloned().unwrap_or_else(|| Arc::new(group)))
        });
        let level_digest = digest_of(&level);
        Generation {
            started: started.into(),
            loaded: loaded.into(),
            level_digest,
            groups: groups.collect(),
            level: shared(before.map(|before| &before.level), level),
            superusers: shared(before.map(|before| &before.superusers), superusers),
            identities: shared(before.map(|before| &before.identities), identities),
        }
    }
}

/// Independent of the order of the settings.
fn digest_of(level: &ServerSettings) -> u64 {
    let hash = |(name, setting): (&str, &ServerSetting)| {
        let mut hasher = DefaultHasher::new();
        (name, &setting.value).hash(&mut hasher);
        hasher.finish()
    };
    level.iter().map(|(name, setting)| hash((name, setting))).fold(0, u64::wrapping_add)
}

fn shared<T: PartialEq>(before: Option<&Arc<T>>, now: T) -> Arc<T> {
    before.filter(|before| ***before == now).cloned().unwrap_or_else(|| Arc::new(now))
}

impl Generation {
    /// What a login of `user` to `database` gets.
    /// Source: PostgreSQL 18, src/backend/utils/init/postinit.c, `process_settings`.
    pub(crate) fn login(&self, user: &str, database: &str) -> UserDefaults {
        let [user, database] = [cut(user), cut(database)];
        let group = |database: Option<&str>, role: Option<&str>| {
            self.groups.get(&(database.map(Box::from), role.map(Box::from))).cloned()
        };
        UserDefaults {
            started: Arc::clone(&self.started),
            loaded: Arc::clone(&self.loaded),
            level: Arc::clone(&self.level),
            level_digest: self.level_digest,
            groups: [
                group(Some(database), Some(user)),
                group(None, Some(user)),
                group(Some(database), None),
                group(None, None),
            ],
            is_superuser: self.superusers.contains(user),
            identity: self.identities.of_login(user, database),
            told: Arc::default(),
            digest: OnceLock::new(),
        }
    }

    /// Whether both are of one run of the server.
    pub(crate) fn is_of_same_run(&self, other: &Generation) -> bool {
        self.started == other.started
    }
}

/// A name, truncated as servers truncate it.
fn cut(name: &str) -> &str {
    let end = (0..=NAME_BYTES_MAX.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or(0)]
}

impl UserDefaults {
    /// The value of a setting, by name in lower case; `None` when it has none, or it is unknown.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        if let Some((_, told)) = self.told.iter().find(|(name, _)| **name == *key) {
            return told.as_deref();
        }
        let of_level = || self.level.get(key).and_then(|of_server| of_server.value.as_deref());
        self.set_for_it(key).or_else(of_level)
    }

    /// The value by ALTER ROLE or ALTER DATABASE.
    fn set_for_it(&self, key: &str) -> Option<&str> {
        let groups = self.groups.iter().flatten();
        let mut settings = groups.flat_map(|group| group.settings.iter().rev());
        settings.find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }

    /// A hash of them, and of whose they are: equal defaults of one role and database have the same.
    #[inline]
    pub(crate) fn digest(&self) -> u32 {
        *self.digest.get_or_init(|| self.compute_digest())
    }

    fn compute_digest(&self) -> u32 {
        let mut hasher = DefaultHasher::new();
        let groups = self.groups.each_ref().map(|group| group.as_ref().map(|group| &group.settings));
        (self.level_digest, groups, self.is_superuser, self.identity, &self.told).hash(&mut hasher);
        // Half of the bits tell them apart well enough; zero is for those that are not known.
        (hasher.finish() as u32).max(1)
    }

    /// The names of settings of roles and databases; a name may occur more than once.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let of_groups = self.groups.iter().flatten().flat_map(|group| &group.settings).map(|(key, _)| &**key);
        of_groups.chain(self.told.iter().map(|(key, _)| &**key))
    }

    /// The same with values that the session's server was asked for.
    pub(crate) fn with_told(self, told: Vec<LoginSetting>) -> UserDefaults {
        UserDefaults { told: told.into(), digest: OnceLock::new(), ..self }
    }

    /// The same of a login whose role and database are known better.
    pub(super) fn with_identity(self, identity: LoginIdentity) -> UserDefaults {
        UserDefaults { identity, digest: OnceLock::new(), ..self }
    }

    /// The rows of `pg_db_role_setting` that apply, and the transactions that wrote them, the least specific
    /// first.
    fn rows(&self) -> String {
        let written_by =
            |group: &Option<Arc<DbRoleSettings>>| group.as_ref().map(|group| group.written_by.clone());
        let [both, role, database, all] = self.groups.each_ref().map(written_by);
        let rows = [("f:f", all), ("f:t", role), ("t:f", database), ("t:t", both)];
        let rows = rows.into_iter().filter_map(|(of, row)| Some(format!("{of}:{}", row?)));
        rows.collect::<Vec<_>>().join(" ")
    }

    /// Whether a login that read this version got these defaults. A server process that existed before the last
    /// reload has read the configuration a moment later than the postmaster.
    pub(crate) fn is_of(&self, version: &DefaultsVersion) -> bool {
        *self.started == *version.started && *version.loaded <= *self.loaded && self.rows() == *version.rows
    }

    pub(crate) fn level(&self) -> &Arc<ServerSettings> {
        &self.level
    }

    /// The same with the server's settings in `now`, unless the server was restarted in between: a reload of the
    /// configuration applies to existing sessions.
    pub(crate) fn reloaded(&self, now: &UserDefaults) -> UserDefaults {
        if self.started != now.started {
            return self.clone();
        }
        UserDefaults {
            level: Arc::clone(&now.level),
            level_digest: now.level_digest,
            loaded: Arc::clone(&now.loaded),
            digest: if self.level_digest == now.level_digest { self.digest.clone() } else { OnceLock::new() },
            ..self.clone()
        }
    }

    /// Whether these have the server's settings in `now`, or are of another run of the server.
    pub(crate) fn is_of_load(&self, now: &UserDefaults) -> bool {
        self.started != now.started || Arc::ptr_eq(&self.level, &now.level)
    }

    /// Whether what ALTER ROLE and ALTER DATABASE say is kept once for both.
    #[cfg(test)]
    pub(super) fn shares_with(&self, other: &UserDefaults) -> bool {
        let mut pairs = self.groups.iter().flatten().zip(other.groups.iter().flatten());
        pairs.all(|(one, other)| Arc::ptr_eq(one, other))
    }
}
