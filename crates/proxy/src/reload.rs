//! Changed settings, put in force while sessions live.
//!
//! What can fail is tried first, while nothing has changed yet.

#![expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use trunkline_auth::mock::MockSecret;
use trunkline_auth::secrets::{SecretSettings, SecretSource, SecretStore, UsersFileError};
use trunkline_discovery::merge::place;
use trunkline_health::{MonitorLogin, MonitorSettings, try_login};
use trunkline_tls::fleet::FleetTls;
use trunkline_topology::{Origin, ServerSpec, Snapshot};

use crate::access::Access;
use crate::context::{AuthChoice, ChosenMode, Live, LiveStores, RunPhase};
use crate::failure::{ReloadError, StartError};
use crate::functions::FunctionStore;
use crate::limits::LISTENERS_CHANGE_TIMEOUT;
use crate::listening::PreparedListeners;
use crate::serve::{Bound, Running, reads_secrets, session_passwords_of};
use crate::settings::{AuthMode, AuthSettings, Settings};

/// What is configured of how clients are authenticated, and who reads stored secrets.
#[derive(Clone, Copy, Debug)]
struct AutoBasis<'a> {
    auth: &'a AuthSettings,
    login: &'a MonitorLogin,
}

impl AutoBasis<'_> {
    /// Whether `auto` decides.
    fn is_auto(self) -> bool {
        self.auth.mode == AuthMode::Auto && self.auth.hba_file.is_none()
    }
}

/// Whether `auto` has found that stored secrets can be read, and is told nothing new: then a reload is no occasion to
/// fall back to passwords. The servers' TLS says nothing of that, and changes with each certificate that is renewed.
fn is_verified_still(chosen: Option<ChosenMode>, old: AutoBasis<'_>, new: AutoBasis<'_>) -> bool {
    chosen == Some(ChosenMode::Verify)
        && old.is_auto()
        && new.is_auto()
        && old.auth.source == new.auth.source
        && old.login.config == new.login.config
}

/// Who must let a new login in: the servers of the new configuration, and those that are found or were added. One that
/// was configured and no longer is has no say.
#[must_use]
pub fn asked_for_login(configured: &[ServerSpec], snapshot: &Snapshot) -> Vec<ServerSpec> {
    let mut servers = configured.to_vec();
    let mut places: HashSet<_> = servers.iter().map(|spec| place(&spec.host, spec.port)).collect();
    for server in snapshot.servers.iter().filter(|server| !server.is_leaving) {
        let has_say = match server.origin {
            Origin::Configured => false,
            Origin::Added | Origin::Discovered(_) => true,
        };
        if has_say && places.insert(place(&server.host, server.port)) {
            let (name, host) = (server.name.to_string(), server.host.to_string());
            servers.push(ServerSpec { name, host, port: server.port, ..ServerSpec::default() });
        }
    }
    servers
}

impl Running {
    /// Puts the `settings` in force, but for those that need a restart: the keys of these that differ.
    ///
    /// # Errors
    /// Nothing has changed, and why.
    pub async fn reload(&mut self, mut settings: Settings) -> Result<Vec<&'static str>, ReloadError> {
        let needs_restart = self.fixed(&settings);
        let before = self.shared.live();
        let mut stores = self.stores(&before, &settings).await?;
        let MonitorSettings { servers, login, judge } = &settings.health;
        let old_login = self.shared.health.login();
        if *login != *old_login {
            let servers = asked_for_login(servers, &self.shared.health.load());
            try_login(&servers, login, judge).await?;
        }
        let aside = self.aside.prepare(&settings)?;
        let listeners = self.listening.prepare(&settings.listeners, self.shared.workers.len())?;
        // From here on nothing fails.
        stores.server_tls = stores.server_tls.keeping(&before.stores.server_tls);
        settings.health.login.tls = stores.server_tls.clone();
        self.shared.health.set_login(settings.health.login.clone());
        if let Some(secrets) = &stores.secrets {
            secrets.reload(settings.auth.cache_ttl).await;
        }
        let old = AutoBasis { auth: &before.auth, login: &old_login };
        let new = AutoBasis { auth: &settings.auth, login: &settings.health.login };
        let chosen = before.auth_choice.now().map(|settled| settled.mode);
        let auth_choice = match is_verified_still(chosen, old, new) {
            true => before.auth_choice.clone(),
            false => AuthChoice::start(&settings, stores.secrets.as_ref(), &Handle::current()),
        };
        self.shared.live.store(Arc::new(Live::of(&settings, stores, auth_choice)));
        self.retire_reached_otherwise(&before.stores.server_tls);
        self.shared.attached.prefer(settings.spread.zones());
        self.shared.pools.reconfigure(settings.pool.clone());
        self.shared.health.reload(settings.health.judge);
        // It knows the new sources before they can have said anything, or the old ones are gone.
        let sources = settings.discovery.sources.iter().map(|source| Arc::clone(&source.name)).collect();
        self.fleet.configure(settings.health.servers, sources).await;
        self.discovery.set(settings.discovery.sources, settings.discovery.state_dir);
        self.aside.commit(aside, &self.shared);
        self.change_listeners(listeners).await;
        self.look_at_certificates();
        self.phase.send_replace(RunPhase::Running);
        Ok(needs_restart)
    }

    /// Has nobody share connections that were made by other rules of TLS than those in force.
    fn retire_reached_otherwise(&self, before: &FleetTls) {
        let now = &self.shared.live().stores.server_tls;
        let snapshot = self.shared.health.load();
        for server in snapshot.servers.iter().filter(|server| now.differs(before, &server.host, server.port))
        {
            let effects = self.shared.pools.lock().retire(server.id);
            self.shared.pools.deliver(effects);
        }
    }

    /// What sessions look up by the new settings: those there are, or others.
    async fn stores(&self, before: &Live, settings: &Settings) -> Result<LiveStores, StartError> {
        let LiveStores { server_tls: _, access: _, secrets, session_passwords, functions, mock } =
            before.stores.clone();
        let server_tls = settings.health.login.tls.clone();
        let access = Access::load(&settings.auth, &settings.listeners)?.map(Arc::new);
        let auth = &settings.auth;
        let secrets = match (reads_secrets(settings, access.as_deref()), &auth.source, secrets) {
            (false, ..) => None,
            // It keeps what it has read, for when no server answers.
            (true, SecretSource::Query(_), Some(store)) if before.auth.source == auth.source => Some(store),
            (true, source, _) => {
                let secrets = SecretSettings { source: source.clone(), cache_ttl: auth.cache_ttl };
                Some(self.open_secrets(secrets).await?)
            }
        };
        let policy = settings.session.functions;
        let functions = if before.session.functions == policy {
            functions
        } else {
            Arc::new(FunctionStore::new(policy, self.shared.health.clone(), Handle::current()))
        };
        let mock = if before.auth.mock_nonce == auth.mock_nonce {
            mock
        } else {
            Arc::new(MockSecret::new(auth.mock_nonce.as_ref()).map_err(StartError::Random)?)
        };
        let session_passwords = match (&auth.password_command, session_passwords) {
            // It keeps what it has.
            (Some(command), Some(known)) if *command == known.command() => Some(known),
            (command, _) => session_passwords_of(command.clone()),
        };
        Ok(LiveStores { server_tls, access, secrets, session_passwords, functions, mock })
    }

    /// Reads a users file on a thread that may wait for it.
    async fn open_secrets(&self, settings: SecretSettings) -> Result<SecretStore, UsersFileError> {
        let (health, runtime) = (self.shared.health.clone(), Handle::current());
        let opening = tokio::task::spawn_blocking(move || SecretStore::start(settings, health, &runtime));
        opening.await.expect("reading a file does not panic")
    }

    /// Opens new listening sockets and closes old ones. Sessions keep their connections.
    async fn change_listeners(&mut self, listeners: PreparedListeners) {
        let before = self.bound.all();
        let (done, mut all_done) = mpsc::channel::<Infallible>(1);
        let changes = self.listening.commit(listeners, &self.shared, &done);
        drop(done);
        let (http, agent) = (self.aside.http(), self.aside.agent());
        self.bound = Bound { listeners: self.listening.bound(), http, agent };
        let queues: Vec<_> = self.shared.workers.iter().map(|worker| worker.listeners.clone()).collect();
        tokio::spawn(async move {
            for (queue, change) in queues.into_iter().zip(changes) {
                // Fails only when the worker has ended.
                let _ended = queue.send(change).await;
            }
        });
        if timeout(LISTENERS_CHANGE_TIMEOUT, all_done.recv()).await.is_err() {
            tracing::warn!("listening sockets are not closed yet: a worker is busy");
        }
        let now = self.bound.all();
        for address in now.iter().filter(|address| !before.contains(address)) {
            tracing::info!(%address, "listening on a new address");
        }
        for address in before.iter().filter(|address| !now.contains(address)) {
            tracing::info!(%address, "no longer listening: who has come by this address goes on");
        }
    }

    /// The keys that differ and cannot change live.
    fn fixed(&self, new: &Settings) -> Vec<&'static str> {
        let old = &self.started_with;
        let changes = [(old.threads != new.threads, "runtime.threads")];
        changes.into_iter().filter(|(is_changed, _)| *is_changed).map(|(_, key)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use trunkline_telemetry::exposition::testing::snapshot;
    use trunkline_tls::connect::{ConnectSettings, ServerSslMode};
    use trunkline_tls::fleet::FleetSettings;

    use super::*;

    #[test]
    fn auto_that_verifies_asks_again_only_where_auth_or_the_monitoring_role_is_another() {
        let auth = AuthSettings { mode: AuthMode::Auto, ..AuthSettings::default() };
        let login = MonitorLogin::default();
        let keeps = |chosen, auth_now: &AuthSettings, login_now: &MonitorLogin| {
            let old = AutoBasis { auth: &auth, login: &login };
            is_verified_still(Some(chosen), old, AutoBasis { auth: auth_now, login: login_now })
        };
        assert!(keeps(ChosenMode::Verify, &auth, &login));
        assert!(!keeps(ChosenMode::Login, &auth, &login) && !keeps(ChosenMode::Relay, &auth, &login));

        let all = ConnectSettings { sslmode: ServerSslMode::Require, ..ConnectSettings::default() };
        let tls =
            FleetTls::load(&FleetSettings { all, ..FleetSettings::default() }).expect("no file is read");
        let by_other_tls = MonitorLogin { tls, ..login.clone() };
        assert_ne!(by_other_tls, login);
        assert!(keeps(ChosenMode::Verify, &auth, &by_other_tls));

        let mut other_role = login.clone();
        other_role.config.user("another");
        assert!(!keeps(ChosenMode::Verify, &auth, &other_role));
        for other in [
            AuthSettings { mode: AuthMode::Relay, ..auth.clone() },
            AuthSettings { source: SecretSource::File("/users".into()), ..auth.clone() },
            AuthSettings { hba_file: Some("/hba".to_owned()), ..auth.clone() },
        ] {
            assert!(!keeps(ChosenMode::Verify, &other, &login), "{other:?}");
        }
    }

    #[test]
    fn servers_that_were_found_are_asked_for_a_new_login() {
        let mut snapshot = snapshot();
        for (port, server) in (1..).zip(&mut snapshot.servers) {
            server.port = port;
        }
        snapshot.servers[1].origin = Origin::Discovered("dns".into());
        snapshot.servers[2].origin = Origin::Added;
        let ports = |configured: &[ServerSpec], snapshot: &Snapshot| -> Vec<u16> {
            asked_for_login(configured, snapshot).iter().map(|spec| spec.port).collect()
        };
        assert_eq!(ports(&[], &snapshot), [2, 3]);
        let configured = ServerSpec { host: "localhost".to_owned(), port: 2, ..ServerSpec::default() };
        snapshot.servers[2].is_leaving = true;
        assert_eq!(ports(&[configured], &snapshot), [2], "it is asked once");
    }
}
