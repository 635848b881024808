//! Changed settings, put in force while sessions live.
//!
//! What can fail is tried first, while nothing has changed yet.

#![expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use trunkline_auth::secrets::{SecretSource, UsersFileError, check_users_file};

use tokio::sync::mpsc;
use tokio::time::timeout;
use trunkline_control::ListenError;
use trunkline_health::{LoginRefusal, MonitorSettings, try_login};

use crate::context::{Live, RunPhase};
use crate::limits::LISTENERS_CHANGE_TIMEOUT;
use crate::listening::PreparedListeners;
use crate::serve::Running;
use crate::settings::{AuthSettings, Settings};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The proxy cannot listen on a new address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A server refuses the monitoring role's new login.
    #[error(transparent)]
    Login(#[from] LoginRefusal),
    /// The users file cannot be read, or has errors.
    #[error(transparent)]
    Users(#[from] UsersFileError),
}

impl Running {
    /// Puts the `settings` in force, but for those that need a restart: the keys of these that differ.
    ///
    /// # Errors
    /// Nothing has changed, and why.
    pub async fn reload(&mut self, settings: Settings) -> Result<Vec<&'static str>, ReloadError> {
        let needs_restart = self.fixed(&settings);
        let listeners = self.listening.prepare(&settings.listeners, self.shared.workers.len())?;
        let MonitorSettings { servers, login, judge } = &settings.health;
        if *login != *self.shared.health.login() {
            try_login(servers, login, judge).await?;
        }
        let started = &self.started_with.auth;
        if let (Some(_), SecretSource::File(path)) = (&self.shared.secrets, &started.source) {
            check_users(path.clone()).await?;
        }
        let auth =
            AuthSettings { mode: started.mode, source: started.source.clone(), ..settings.auth.clone() };
        let cache_ttl = auth.cache_ttl;
        self.shared.live.store(Arc::new(Live { auth, ..Live::of(&settings) }));
        self.shared.health.reload(settings.health.judge, settings.health.servers);
        self.shared.health.set_login(settings.health.login);
        if let Some(secrets) = &self.shared.secrets
            && let Err(error) = secrets.reload(cache_ttl).await
        {
            tracing::error!(%error, "could not read the users file again, the users read before stay in force");
        }
        self.change_listeners(listeners).await;
        self.phase.send_replace(RunPhase::Running);
        Ok(needs_restart)
    }

    /// Opens new listening sockets and closes old ones. Sessions keep their connections.
    async fn change_listeners(&mut self, listeners: PreparedListeners) {
        let before = std::mem::take(&mut self.bound.listeners);
        let (done, mut all_done) = mpsc::channel::<Infallible>(1);
        let changes = self.listening.commit(listeners, &self.shared, &done);
        drop(done);
        self.bound.listeners = self.listening.bound();
        let changed = async {
            for (worker, change) in self.shared.workers.iter().zip(changes) {
                // Fails only when the worker has ended.
                let _ended = worker.listeners.send(change).await;
            }
            all_done.recv().await
        };
        if timeout(LISTENERS_CHANGE_TIMEOUT, changed).await.is_err() {
            tracing::warn!("listening sockets are not closed yet: a worker is busy");
        }
        let now = &self.bound.listeners;
        for address in now.iter().filter(|address| !before.contains(address)) {
            tracing::info!(%address, "listening on a new address");
        }
        for address in before.iter().filter(|address| !now.contains(address)) {
            tracing::info!(%address, "no longer listening: the sessions that came by this address go on");
        }
    }

    /// The keys that differ and cannot change live.
    fn fixed(&self, new: &Settings) -> Vec<&'static str> {
        let old = &self.started_with;
        let changes = [
            (!old.health.has_servers_of(&new.health), "server"),
            (old.auth.mode != new.auth.mode, "auth.mode"),
            (old.auth.source != new.auth.source, "auth.query, auth.users_file"),
            (old.auth.mock_nonce != new.auth.mock_nonce, "auth.mock_nonce"),
            (old.session.functions != new.session.functions, "session.functions"),
            (old.http != new.http, "http.listen"),
            (old.http_checkers != new.http_checkers, "http.checkers"),
            (old.agent != new.agent, "agent.listen"),
            (old.admin != new.admin, "admin.socket"),
            (old.threads != new.threads, "runtime.threads"),
        ];
        changes.into_iter().filter(|(is_changed, _)| *is_changed).map(|(_, key)| key).collect()
    }
}

/// Reads the users file on a thread that may wait for it.
async fn check_users(path: PathBuf) -> Result<(), UsersFileError> {
    let file = path.clone();
    match tokio::task::spawn_blocking(move || check_users_file(&file)).await {
        Ok(checked) => checked.map(drop),
        Err(ended) => Err(UsersFileError::Unreadable { path, error: std::io::Error::other(ended) }),
    }
}
