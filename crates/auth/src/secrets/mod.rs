//! The stored secrets of users: from a query over a monitoring connection, or from a users file.
//!
//! One task on the control thread owns the connection and the cache; [`SecretStore`] is a handle that session
//! threads ask. Requests are taken in batches: one look-up serves all who ask for the same user, and what has
//! to be fetched is pipelined over one connection.
//!
//! Each login reads its secret anew, so that a role or a password is known as soon as it is committed. The cache is for
//! when that cannot be done: while no server answers, or more is asked than the servers are to be troubled with. Names
//! of users and unknown names are treated alike in this, so that timing reveals nothing.

mod cache;
mod file;
#[expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]
mod query;
mod secret;
mod task;
mod userlist;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use trunkline_health::Health;

use trunkline_reactor::timer;

pub use cache::{CACHED_MAX, CACHED_UNKNOWN_MAX};
pub use query::DEFAULT_QUERY;
pub use query::{SecretsAccess, to_ask, try_access, without_hosts};
pub use secret::{Secret, Unusable};
pub use userlist::{ProblemKind, UsersFileError, UsersFileProblem, check as check_users_file};

use file::FileSecrets;
use task::{Freshness, StoreRequest};

/// Look-ups waiting for the store; one more fails at once with [`LookupError::Busy`].
pub const LOOKUPS_WAITING_MAX: usize = 1024;

/// Look-ups of users who were not found lately that wait beside them: whoever tries names at random fills no other queue.
pub const STRANGERS_WAITING_MAX: usize = 512;

/// Longest stored secret, in bytes; a user with a longer one cannot log in. PostgreSQL 18 stores at most 512
/// (src/include/libpq/crypt.h, `MAX_ENCRYPTED_PASSWORD_LEN`), PgBouncer reads 2048 (include/bouncer.h, `MAX_PASSWORD`).
pub const SECRET_BYTES_MAX: usize = 2048;

/// Longest a session waits for a look-up.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a login waits for its secret to be read anew before it makes do with one that was read lately.
pub const REFRESH_PATIENCE: Duration = Duration::from_millis(250);

/// Secrets read anew in one second, all names together: beyond it those read lately are believed. Whoever floods the
/// proxy with names costs the servers no more than that, but for names that nobody has tried lately. The same holds while
/// as many look-ups wait as are read at once. Unknown names count too, or the time of an answer would tell them from users.
pub const REFRESHES_PER_SECOND_MAX: usize = 1000;

/// Longest user name looked up, in bytes; longer ones are unknown. PostgreSQL's are at most 63 bytes.
pub const USER_NAME_BYTES_MAX: usize = 255;

/// Where secrets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A query over the monitoring connection; `None` reads `pg_authid`, itself or through `trunkline.user_secret`.
    Query(Option<String>),
    /// A file in PgBouncer's userlist.txt format.
    File(PathBuf),
}

impl Default for SecretSource {
    fn default() -> Self {
        SecretSource::Query(None)
    }
}

impl SecretSource {
    /// Whether this answer of a server says that stored secrets are out of reach, so that `auto` does without them.
    ///
    /// Of the operator's own query a missing right alone says so: what it names may be missing because of a slip in it, or
    /// because `[monitor] dbname` is another database, and clients' passwords must not arrive in the clear for that.
    #[must_use]
    pub fn is_out_of_reach(&self, error: &LookupError) -> bool {
        match (self, error) {
            (SecretSource::Query(None), LookupError::Query { code, .. }) => lacks_right_or_object(code),
            (SecretSource::Query(Some(_)), LookupError::Query { code, .. }) => code == LACKS_RIGHT,
            (SecretSource::Query(_) | SecretSource::File(_), _) => false,
        }
    }
}

/// Where secrets come from, and how long they are believed.
#[derive(Clone, Debug)]
pub struct SecretSettings {
    /// The query or the file.
    pub source: SecretSource,
    /// How long a secret is believed after it was read, when it cannot be read anew; zero = not beyond its batch.
    pub cache_ttl: Duration,
}

/// Why there is no answer about a user; never that the user does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No server is up, or none that could be reached answered.
    #[error("no server answers the query for stored secrets")]
    NoServer,
    /// The servers refuse the query.
    #[error("the query for stored secrets fails: {message} (SQLSTATE {code}); {}", mend_query(.code))]
    Query {
        /// SQLSTATE.
        code: String,
        /// The server's message; for the log only.
        message: String,
    },
    /// No server lets the monitoring role in.
    #[error(
        "the monitoring role cannot log in to read stored secrets: {message} (SQLSTATE {code}); {}",
        mend_login(.code)
    )]
    Login {
        /// SQLSTATE.
        code: String,
        /// The server's message; for the log only.
        message: String,
    },
    /// The query answers in another form than user name and password.
    #[error("[auth] query must return at most one row of user name and password: {0}")]
    Shape(&'static str),
    /// It took longer than [`LOOKUP_TIMEOUT`].
    #[error("the look-up took longer than {} s", LOOKUP_TIMEOUT.as_secs())]
    Timeout,
    /// Too many look-ups are waiting.
    #[error("more than {LOOKUPS_WAITING_MAX} look-ups are waiting")]
    Busy,
    /// The store's task has ended: the proxy is stopping.
    #[error("the store of secrets has stopped")]
    Stopped,
}

/// SQLSTATE insufficient_privilege.
const LACKS_RIGHT: &str = "42501";

/// Whether a query that is refused with this SQLSTATE lacks a right, or an object that it names: which a GRANT or CREATE
/// mends, whoever is looked up.
fn lacks_right_or_object(code: &str) -> bool {
    code == LACKS_RIGHT || ["42883", "42P01", "42703", "3F000"].contains(&code)
}

/// What mends a query that the servers refuse with this SQLSTATE.
fn mend_query(code: &str) -> &'static str {
    match code {
        "42501" => {
            "run what `trunkline init-sql` prints (`--user` names [monitor] user) on the primary, in the database that \
             [monitor] dbname names; or GRANT the role what [auth] query reads"
        }
        "42883" | "42P01" | "42703" | "3F000" => {
            "create what [auth] query names in the database that [monitor] dbname names, or leave the key out and run what \
             `trunkline init-sql` prints"
        }
        _ => "change [auth] query, or leave it out and run what `trunkline init-sql` prints",
    }
}

/// What mends a login of the monitoring role that the servers refuse with this SQLSTATE.
#[must_use]
pub fn mend_login(code: &str) -> &'static str {
    match code {
        "3D000" => "set [monitor] dbname to a database that exists",
        "42501" => "GRANT CONNECT on the database of [monitor] dbname to the role",
        "53300" => "raise max_connections, or the role's CONNECTION LIMIT by ALTER ROLE",
        _ => {
            "set [monitor] user and TRUNKLINE__MONITOR__PASSWORD to a login that pg_hba.conf lets in (`trunkline init-sql` \
             prints the SQL for it)"
        }
    }
}

/// What was asked of the store.
enum PendingLookup {
    /// It needed no asking.
    Answered(Secret),
    /// The answer will come here.
    Waiting(oneshot::Receiver<Result<Secret, LookupError>>),
}

/// A handle to the store. Clones share it; its task ends with the last one.
#[derive(Clone, Debug)]
pub struct SecretStore {
    requests: mpsc::Sender<StoreRequest>,
    /// Where secrets come from, if that is a file.
    file: Option<Arc<FileSecrets>>,
}

impl SecretStore {
    /// Starts the store's task on `runtime`; a users file is read here.
    ///
    /// # Errors
    /// When the users file cannot be read or has errors: all of them, with their lines.
    pub fn start(
        settings: SecretSettings,
        health: Health,
        runtime: &Handle,
    ) -> Result<SecretStore, UsersFileError> {
        let (requests, received) = mpsc::channel(LOOKUPS_WAITING_MAX);
        let source = task::SourceReader::open(&settings, health)?;
        let file = source.file().map(Arc::clone);
        runtime.spawn(task::run(source, settings.cache_ttl, received));
        Ok(SecretStore { requests, file })
    }

    /// The secret of a user, as it is now. While it cannot be read within [`REFRESH_PATIENCE`], or more than
    /// [`REFRESHES_PER_SECOND_MAX`] are, one that was read lately.
    ///
    /// # Errors
    /// When it cannot be said now; see [`LookupError`]. An unknown user is a [`Secret::Unusable`].
    pub async fn lookup(&self, user: &str) -> Result<Secret, LookupError> {
        if let Some(secret) = self.file.as_ref().and_then(|file| file.at_hand(user)) {
            return Ok(secret);
        }
        let secret = match timer::timeout(REFRESH_PATIENCE, self.ask(user, Freshness::Current)).await {
            Ok(Ok(secret)) => secret,
            Ok(Err(_)) | Err(_) => self.ask(user, Freshness::Lately).await?,
        };
        Ok(match &self.file {
            Some(file) => file.keep(user, secret),
            None => secret,
        })
    }

    /// What the source says of a user now: one attempt, and nothing that was read before. For tasks beside the sessions.
    ///
    /// # Errors
    /// When it cannot be said now; see [`LookupError`].
    pub async fn look_up_once(&self, user: &str) -> Result<Secret, LookupError> {
        match self.request(user, Freshness::Current)? {
            PendingLookup::Answered(secret) => Ok(secret),
            // The store limits the time that it takes itself.
            PendingLookup::Waiting(answer) => answer.await.map_err(|_dropped| LookupError::Stopped)?,
        }
    }

    /// Believes nothing that is cached until it has been read anew, and from then on for `cache_ttl`.
    pub async fn reload(&self, cache_ttl: Duration) {
        // Fails only when the store has stopped.
        let _stopped = self.requests.send(StoreRequest::Reload { cache_ttl }).await;
    }

    /// A server has refused a login with this user's secret, which the proxy had accepted: it is read anew before it is
    /// believed again.
    pub fn distrust(&self, user: &str) {
        // A full queue: what the task has cached is believed a little longer.
        let _full = self.requests.try_send(StoreRequest::Distrust { user: user.into() });
    }

    async fn ask(&self, user: &str, freshness: Freshness) -> Result<Secret, LookupError> {
        let answer = match self.request(user, freshness)? {
            PendingLookup::Answered(secret) => return Ok(secret),
            PendingLookup::Waiting(answer) => answer,
        };
        match timer::timeout(LOOKUP_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_dropped)) => Err(LookupError::Stopped),
            Err(_elapsed) => Err(LookupError::Timeout),
        }
    }

    fn request(&self, user: &str, freshness: Freshness) -> Result<PendingLookup, LookupError> {
        if user.is_empty() || user.len() > USER_NAME_BYTES_MAX || user.contains('\0') {
            return Ok(PendingLookup::Answered(Secret::Unusable(Unusable::Unknown)));
        }
        let (reply, answer) = oneshot::channel();
        let request = StoreRequest::Lookup { user: user.into(), freshness, asked_at: Instant::now(), reply };
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LookupError::Busy,
            mpsc::error::TrySendError::Closed(_) => LookupError::Stopped,
        })?;
        Ok(PendingLookup::Waiting(answer))
    }
}
