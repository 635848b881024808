//! Which role and which database a login means by their names.
//!
//! A name may be given to another: a role is renamed or dropped, and one made of the same name. Whoever is logged in goes on as
//! the former one, so connections that clients share are told apart by OIDs.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::IDENTITIES_MAX;

/// The role and the database of a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum LoginIdentity {
    /// They were not found.
    #[default]
    Unknown,
    /// These OIDs.
    Of { role: u32, database: u32 },
    /// The server has too many to keep them all: this is of all of them, and another one as soon as one of them is.
    OfMany(u64),
    /// Their names have changed hands around the login: nobody else's is the same.
    InDoubt(u64),
}

/// The roles that may log in, and the databases that may be connected to, each by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identities {
    roles: HashMap<Box<str>, u32>,
    databases: HashMap<Box<str>, u32>,
    /// A hash of all of them, where there are too many.
    of_many: Option<u64>,
}

impl LoginIdentity {
    /// What a login is whose names may have meant any of these, as looks before and after it have found.
    pub(super) fn agreed(possible: impl Iterator<Item = Self>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // A login does not succeed while there is no such role or database.
        let mut known = possible.filter(|identity| *identity != Self::Unknown);
        let Some(first) = known.next() else { return Self::Unknown };
        let is_one = known.all(|other| other == first);
        if is_one { first } else { Self::InDoubt(NEXT.fetch_add(1, Relaxed)) }
    }

    /// Whether a login on another connection is certainly that of another role, or to another database.
    pub(super) fn is_another(self, told: Self) -> bool {
        matches!((self, told), (Self::Of { .. }, Self::Of { .. })) && self != told
    }
}

impl Identities {
    pub(super) fn role(&mut self, name: &str, oid: u32) {
        self.roles.insert(name.into(), oid);
    }

    pub(super) fn database(&mut self, name: &str, oid: u32) {
        self.databases.insert(name.into(), oid);
    }

    /// Keeps no more than a hash of what was found on the server, if there are too many.
    pub(super) fn bounded(self, found: &str) -> Self {
        if self.roles.len() + self.databases.len() <= IDENTITIES_MAX {
            return self;
        }
        let mut hasher = DefaultHasher::new();
        found.hash(&mut hasher);
        Self { of_many: Some(hasher.finish()), ..Self::default() }
    }

    /// Those of a login, by the names as the server has them.
    pub(super) fn of_login(&self, user: &str, database: &str) -> LoginIdentity {
        match (self.of_many, self.roles.get(user), self.databases.get(database)) {
            (Some(all), ..) => LoginIdentity::OfMany(all),
            (None, Some(&role), Some(&database)) => LoginIdentity::Of { role, database },
            (None, ..) => LoginIdentity::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(role: u32) -> LoginIdentity {
        LoginIdentity::Of { role, database: 5 }
    }

    #[test]
    fn a_login_between_two_roles_of_one_name_is_in_doubt() {
        let unknown = LoginIdentity::Unknown;
        for (possible, expected) in [
            (vec![], unknown),
            (vec![unknown], unknown),
            (vec![of(1), of(1)], of(1)),
            (vec![unknown, of(1)], of(1)),
            (vec![of(1), unknown], of(1)),
        ] {
            assert_eq!(LoginIdentity::agreed(possible.clone().into_iter()), expected, "{possible:?}");
        }
        let in_doubt = [(), ()].map(|()| LoginIdentity::agreed([of(1), unknown, of(2)].into_iter()));
        assert!(in_doubt.iter().all(|one| matches!(one, LoginIdentity::InDoubt(_))), "{in_doubt:?}");
        assert_ne!(in_doubt[0], in_doubt[1], "no other login is as this one");
        assert!(of(1).is_another(of(2)));
        for same in [of(1), unknown, LoginIdentity::OfMany(2), LoginIdentity::InDoubt(3)] {
            assert!(!of(1).is_another(same) && !same.is_another(of(1)), "{same:?}");
        }
    }

    #[test]
    fn too_many_to_keep_are_told_apart_as_a_whole() {
        let mut identities = Identities::default();
        (0..IDENTITIES_MAX as u32).for_each(|oid| identities.role(&format!("r{oid}"), oid));
        assert_eq!(identities.clone().bounded("found").of_login("r0", "db"), LoginIdentity::Unknown);
        identities.database("db", 5);
        let [one, same, other] =
            ["found", "found", "later"].map(|found| identities.clone().bounded(found).of_login("r0", "db"));
        assert!(one == same && one != other && matches!(one, LoginIdentity::OfMany(_)), "{one:?} {other:?}");
        identities.roles.remove("r1");
        assert_eq!(identities.bounded("found").of_login("r0", "db"), of(0));
    }
}
