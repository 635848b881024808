//! By whom clients are authenticated: as it is configured, or as the servers' answers say (`auto`).
//!
//! `auto` is decided once per configuration, and by answers alone: until a server has said whether stored secrets can
//! be read, logins wait. What happens afterwards changes nothing, so that no bad moment, and no server that turns
//! hostile, makes clients send their passwords where a proof would do.

#![expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;
use trunkline_auth::secrets::{LookupError, SecretStore};
use trunkline_tls::accept::ClientSslMode;
use trunkline_topology::Address;

use crate::limits::LOOKUP_PAUSE;
use crate::settings::{AuthMode, ListenerSettings, SecretSource, Settings};

/// Who authenticates clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenMode {
    /// The servers: their exchange is passed through.
    Relay,
    /// The proxy.
    Verify,
    /// The servers, by a password that the proxy asks for where it is protected; others as by `Relay`.
    Login,
    /// Whoever the rule of `hba_file` says that is for the client.
    Rules,
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthReason {
    /// It is configured.
    Configured,
    /// There is a users file.
    UsersFile,
    /// A server has answered the query for stored secrets.
    SecretsRead,
    /// A server does not let the monitoring role read them, with this SQLSTATE.
    SecretsRefused(String),
}

/// Who authenticates clients, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledAuth {
    /// Who.
    pub mode: ChosenMode,
    /// Why.
    pub reason: AuthReason,
}

/// Who authenticates clients by the settings in force, as soon as that is known.
#[derive(Clone, Debug)]
pub(crate) struct AuthChoice(watch::Receiver<Option<SettledAuth>>);

impl AuthChoice {
    /// By the `settings`; asks the servers on `runtime` if need be.
    pub(crate) fn start(settings: &Settings, secrets: Option<&SecretStore>, runtime: &Handle) -> Self {
        let settled = SettledAuth::unasked(settings);
        let (settle, choice) = watch::channel(settled);
        if choice.borrow().is_none()
            && let Some(store) = secrets
        {
            let user = settings.health.login.config.get_user().unwrap_or_default().to_owned();
            let source = settings.auth.source.clone();
            let otherwise = ChosenMode::without_secrets(settings);
            runtime.spawn(ask(store.clone(), user, (source, otherwise), settle));
        }
        AuthChoice(choice)
    }

    /// Who, if that is known.
    pub(crate) fn now(&self) -> Option<SettledAuth> {
        self.0.borrow().clone()
    }

    /// Returns when it is known; `None` when it never will be, because the process ends.
    pub(crate) async fn settled(&self) -> Option<SettledAuth> {
        let mut choice = self.0.clone();
        choice.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Asks until a server has answered, or nobody wants to know any more.
async fn ask(
    store: SecretStore,
    user: String,
    (source, otherwise): (SecretSource, ChosenMode),
    settle: watch::Sender<Option<SettledAuth>>,
) {
    let mut last = None;
    let answered = async {
        loop {
            let answer = store.look_up_once(&user).await.map(drop);
            if let Some(settled) = SettledAuth::by(answer.as_ref().copied(), &source, otherwise) {
                return settled;
            }
            if let Err(error) = answer
                && last.as_ref() != Some(&error)
            {
                tracing::info!(%error, "no server has said yet whether stored secrets can be read: logins wait");
                last = Some(error);
            }
            sleep(LOOKUP_PAUSE).await;
        }
    };
    let settled = tokio::select! {
        settled = answered => settled,
        () = settle.closed() => return,
    };
    settled.log();
    settle.send_replace(Some(settled));
}

impl ChosenMode {
    /// What is left where stored secrets cannot be read: clients are asked for their passwords if some have a connection
    /// that protects those.
    #[must_use]
    pub fn without_secrets(settings: &Settings) -> Self {
        let protects = |listener: &ListenerSettings| {
            matches!(listener.address, Address::Unix(_))
                || listener.options.tls.sslmode() != ClientSslMode::Disable
        };
        if settings.listeners.iter().any(protects) { ChosenMode::Login } else { ChosenMode::Relay }
    }

    /// Its word in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ChosenMode::Relay => "relay",
            ChosenMode::Verify => "verify",
            ChosenMode::Login => "login",
            ChosenMode::Rules => "hba_file",
        }
    }

    /// What it means for sessions.
    #[must_use]
    pub fn consequence(self) -> &'static str {
        match self {
            ChosenMode::Relay => "the servers authenticate clients: sessions cannot move to another server",
            ChosenMode::Verify => "the proxy authenticates clients: sessions can move to another server",
            ChosenMode::Rules => "each client is authenticated as its rule in hba_file says",
            ChosenMode::Login => {
                "the servers authenticate clients: sessions that came by TLS or a Unix socket can move to another server"
            }
        }
    }
}

impl SettledAuth {
    /// What needs no server's answer.
    #[must_use]
    pub fn unasked(settings: &Settings) -> Option<Self> {
        if settings.auth.hba_file.is_some() {
            return Some(SettledAuth { mode: ChosenMode::Rules, reason: AuthReason::Configured });
        }
        let (mode, reason) = match (settings.auth.mode, &settings.auth.source) {
            (AuthMode::Relay, _) => (ChosenMode::Relay, AuthReason::Configured),
            (AuthMode::Verify, _) => (ChosenMode::Verify, AuthReason::Configured),
            (AuthMode::Login, _) => (ChosenMode::Login, AuthReason::Configured),
            (AuthMode::Auto, SecretSource::File(_)) => (ChosenMode::Verify, AuthReason::UsersFile),
            (AuthMode::Auto, SecretSource::Query(_)) => return None,
        };
        Some(SettledAuth { mode, reason })
    }

    /// What the answer to a look-up in `source` decides for `auto`; `otherwise` is what is left without secrets.
    ///
    /// What another moment or another server could answer otherwise decides nothing. Nor does a query of the operator's
    /// that is wrong: what it should have read is not given up for that.
    #[must_use]
    pub fn by(
        answer: Result<(), &LookupError>,
        source: &SecretSource,
        otherwise: ChosenMode,
    ) -> Option<Self> {
        match answer {
            Ok(()) => Some(SettledAuth { mode: ChosenMode::Verify, reason: AuthReason::SecretsRead }),
            Err(error @ LookupError::Query { code, .. }) if source.is_out_of_reach(error) => {
                Some(SettledAuth { mode: otherwise, reason: AuthReason::SecretsRefused(code.clone()) })
            }
            Err(
                LookupError::Query { .. }
                | LookupError::NoServer
                | LookupError::Login { .. }
                | LookupError::Shape(_)
                | LookupError::Timeout
                | LookupError::Busy
                | LookupError::Stopped,
            ) => None,
        }
    }

    /// The reason in words, without hosts.
    #[must_use]
    pub fn why(&self) -> String {
        match &self.reason {
            AuthReason::Configured => "configured".to_owned(),
            AuthReason::UsersFile => "chosen by auto: there is a users file".to_owned(),
            AuthReason::SecretsRead => {
                "chosen by auto: the monitoring role may read stored secrets".to_owned()
            }
            AuthReason::SecretsRefused(code) => {
                format!("chosen by auto: the monitoring role may not read stored secrets (SQLSTATE {code})")
            }
        }
    }

    /// What would make more sessions movable.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match (self.mode, &self.reason) {
            (ChosenMode::Verify | ChosenMode::Rules, _) => None,
            (ChosenMode::Relay, AuthReason::Configured) => Some(
                "for sessions that can, run what `trunkline init-sql` prints on the primary, and start with --auth verify",
            ),
            (ChosenMode::Relay, _) => Some(
                "for sessions that can, run what `trunkline init-sql` prints on the primary, or set [client_tls] cert_file so \
                 that clients can be asked for their passwords; then reload",
            ),
            (ChosenMode::Login, AuthReason::Configured) => {
                Some("for sessions of other clients that can, let them connect by TLS")
            }
            (ChosenMode::Login, _) => Some(
                "for all sessions that can, run what `trunkline init-sql` prints on the primary and reload, or let all \
                 clients connect by TLS",
            ),
        }
    }

    /// One line in the log.
    pub fn log(&self) {
        let message = self.mode.consequence();
        tracing::info!(auth.mode = self.mode.word(), why = self.why(), hint = self.hint(), "{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(code: &str) -> LookupError {
        LookupError::Query { code: code.to_owned(), message: String::new() }
    }

    fn own() -> SecretSource {
        SecretSource::Query(Some("SELECT * FROM pgbouncer.get_auth($1)".to_owned()))
    }

    #[test]
    fn secrets_that_are_read_are_verified_against_and_those_refused_are_not() {
        let verify = SettledAuth::by(Ok(()), &own(), ChosenMode::Login).expect("an answer");
        assert_eq!(verify.mode, ChosenMode::Verify);
        let of_catalog = SecretSource::Query(None);
        for (code, source) in
            [("42501", &of_catalog), ("42883", &of_catalog), ("42P01", &of_catalog), ("42501", &own())]
        {
            for otherwise in [ChosenMode::Login, ChosenMode::Relay] {
                let settled = SettledAuth::by(Err(&query(code)), source, otherwise).expect("an answer");
                assert_eq!((settled.mode, settled.why().contains(code)), (otherwise, true));
            }
        }
    }

    #[test]
    fn an_own_query_that_names_what_is_missing_gives_nothing_up() {
        for code in ["3F000", "42883", "42P01", "42703", "42601", "22P02"] {
            assert_eq!(SettledAuth::by(Err(&query(code)), &own(), ChosenMode::Login), None, "{code}");
        }
    }

    #[test]
    fn silence_and_trouble_decide_nothing() {
        let login = |code: &str| LookupError::Login { code: code.to_owned(), message: String::new() };
        for error in [
            LookupError::NoServer,
            LookupError::Timeout,
            LookupError::Busy,
            LookupError::Shape("it is wrong"),
            login("28P01"),
            login("53300"),
            query("XX000"),
            query("42601"),
        ] {
            for source in [SecretSource::Query(None), own()] {
                assert_eq!(SettledAuth::by(Err(&error), &source, ChosenMode::Login), None, "{error}");
            }
        }
    }
}
