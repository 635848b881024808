//! What two server connections must have in common to stand in for each other.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What bounds the server connections of a key, besides `max_db_connections` and `max_user_connections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolBound {
    /// `pool_size`, and the reserve: all such keys of a database and user together have at most so many on a server.
    Sized,
    /// Nothing: each client has one, as long as it is connected. `pool_size` bounds those that are idle, of all such keys of
    /// a database and user together; they do not count as connections of those that are [sized](PoolBound::Sized).
    Unlimited,
    /// One to each server, the own of the key's only client for as long as it is connected: no limit of the settings counts
    /// them, and none of their times ends them.
    Own,
}

/// A limit of a server's own, by the connections that count against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLimit {
    /// CONNECTION LIMIT of a role.
    User,
    /// CONNECTION LIMIT of a database.
    Database,
    /// `max_connections`.
    All,
}

/// Database, user, and all else that makes connections to a server not interchangeable. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct PoolKey(Arc<KeyParts>);

#[derive(PartialEq, Eq)]
struct KeyParts {
    digest: u64,
    user: Box<str>,
    database: Box<str>,
    bound: PoolBound,
    rest: Box<[u8]>,
}

impl PoolKey {
    /// `rest` has the startup parameters, the listener's class and the generation of the secrets, in any encoding that
    /// is equal for equal values; `digest` is a hash of it.
    #[must_use]
    pub fn new(database: &str, user: &str, bound: PoolBound, digest: u64, rest: &[u8]) -> Self {
        PoolKey(Arc::new(KeyParts {
            digest,
            user: user.into(),
            database: database.into(),
            bound,
            rest: rest.into(),
        }))
    }

    /// The database that connections are logged in to.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.0.database
    }

    /// The user that connections are logged in as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// What bounds its connections.
    #[must_use]
    pub fn bound(&self) -> PoolBound {
        self.0.bound
    }

    /// The hash of the [rest](PoolKey::rest).
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.0.digest
    }

    /// All that is neither database, user nor bound, as it was given.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.0.rest
    }
}

impl Hash for PoolKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
        self.0.user.hash(state);
        self.0.database.hash(state);
    }
}

impl fmt::Debug for PoolKey {
    // Not the rest: a startup parameter may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolKey({}/{} {:016x})", self.database(), self.user(), self.digest())
    }
}

/// A key as the pools know it, for as long as a client [has joined](crate::Pools::join) it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId {
    pub(crate) index: usize,
    /// Tells apart the keys that have had the index.
    pub(crate) serial: u64,
}
