//! What many sessions of a thread have alike, kept once for all of them.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Arc, Weak};

use trunkline_auth::credentials::ServerCredentials;
use trunkline_codec::startup::StartupMessage;
use trunkline_telemetry::sessions::SessionNames;

/// Values below this number are not looked through for those that nobody has any more.
const SWEEP_MIN: usize = 64;

/// Equal values are one, for as long as somebody has it. There are never more than [`SWEEP_MIN`] or twice as many as are
/// in use.
#[derive(Debug)]
pub(crate) struct Interned<T: ?Sized> {
    /// By their hashes: of two values with one hash, the newer one is known.
    known: HashMap<u64, Weak<T>, BuildHasherDefault<HashItself>>,
    /// The one that was asked for last: it nearly always is again.
    latest: Option<Weak<T>>,
    hasher: RandomState,
    /// How many there may be before the next look.
    sweep_at: usize,
}

impl<T: ?Sized> Default for Interned<T> {
    fn default() -> Self {
        Interned { known: HashMap::default(), latest: None, hasher: RandomState::new(), sweep_at: SWEEP_MIN }
    }
}

impl<T: Eq + Hash + ?Sized> Interned<T> {
    /// The value that others have, if it is equal, or else this one.
    pub(crate) fn share<V: Borrow<T> + Into<Arc<T>>>(&mut self, value: V) -> Arc<T> {
        let is_equal = |known: &Arc<T>| **known == *value.borrow();
        if let Some(latest) = self.latest.as_ref().and_then(Weak::upgrade).filter(is_equal) {
            return latest;
        }
        let hash = self.hasher.hash_one(value.borrow());
        let known = self.known.get(&hash).and_then(Weak::upgrade);
        if let Some(known) = known.filter(is_equal) {
            self.latest = Some(Arc::downgrade(&known));
            return known;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, known| known.strong_count() > 0);
            self.sweep_at = (2 * self.known.len()).max(SWEEP_MIN);
        }
        let new = value.into();
        self.latest = Some(Arc::downgrade(&new));
        let _collided = self.known.insert(hash, Arc::downgrade(&new));
        new
    }
}

/// The names that the sessions of a thread have.
#[derive(Debug, Default)]
pub(crate) struct KnownNames {
    known: Interned<SessionNames>,
    /// The newest, also when nobody has them: the next client may well be one like the last.
    newest: Option<Arc<SessionNames>>,
}

impl KnownNames {
    /// These of user, database and listener.
    pub(crate) fn share(&mut self, names: [&str; 3]) -> Arc<SessionNames> {
        let have =
            |newest: &&Arc<SessionNames>| [&*newest.user, &*newest.database, &*newest.listener] == names;
        if let Some(newest) = self.newest.as_ref().filter(have) {
            return Arc::clone(newest);
        }
        let [user, database, listener] = names.map(Box::from);
        let names = self.known.share(SessionNames { user, database, listener });
        self.newest = Some(Arc::clone(&names));
        names
    }
}

/// For keys that are hashes, with a random key, already.
#[derive(Debug, Default)]
struct HashItself(u64);

impl Hasher for HashItself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What logs a session's user in on any server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UserLogin {
    /// The startup packet servers get.
    pub(crate) startup: StartupMessage,
    pub(crate) credentials: ServerCredentials,
}

/// Equal startup packets nearly always come with equal credentials.
impl Hash for UserLogin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (name, value) in self.startup.parameters() {
            (name, value).hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_for_all_who_have_the_same_three() {
        let mut known = KnownNames::default();
        let names = ["app", "shop", "reads"];
        let one = known.share(names);
        for other in [["other", "shop", "reads"], ["app", "other", "reads"], ["app", "shop", "other"]] {
            let differs = known.share(other);
            assert_eq!([&*differs.user, &*differs.database, &*differs.listener], other);
            assert!(Arc::ptr_eq(&one, &known.share(names)), "{other:?}");
        }
    }

    #[test]
    fn equal_values_are_one_while_somebody_has_it() {
        let mut names = Interned::<str>::default();
        let one = names.share("app");
        assert!(Arc::ptr_eq(&one, &names.share("app")));
        assert!(!Arc::ptr_eq(&one, &names.share("other")));
        let gone = Arc::downgrade(&one);
        drop(one);
        assert!(gone.upgrade().is_none(), "nothing is kept for nobody");
        assert_eq!(&*names.share("app"), "app");
    }

    #[test]
    fn values_that_nobody_has_any_more_are_forgotten() {
        let mut names = Interned::<str>::default();
        let held: Vec<_> = (0..SWEEP_MIN).map(|n| names.share(format!("held{n}"))).collect();
        for n in 0..10 * SWEEP_MIN {
            drop(names.share(format!("gone{n}")));
            assert!(names.known.len() <= 2 * held.len(), "{n}");
        }
        assert!(held.iter().all(|name| Arc::ptr_eq(name, &names.share(&**name))));
    }

    #[test]
    fn logins_are_equal_where_both_parts_are() {
        let startup = |user: &str| {
            let parameters = [(&b"user"[..], user.as_bytes())];
            StartupMessage::new(trunkline_codec::startup::ProtocolVersion::V3_0, parameters).expect("short")
        };
        let login = |user, password: &str| {
            let credentials = ServerCredentials::from_password(password.to_owned().into());
            UserLogin { startup: startup(user), credentials }
        };
        let mut logins = Interned::<UserLogin>::default();
        let first = logins.share(login("a", "x"));
        assert!(Arc::ptr_eq(&first, &logins.share(login("a", "x"))));
        assert!(!Arc::ptr_eq(&first, &logins.share(login("b", "x"))));
        assert!(!Arc::ptr_eq(&first, &logins.share(login("a", "y"))), "a password that has changed");
    }
}
