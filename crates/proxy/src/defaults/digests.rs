//! Digests of the defaults that logins get, computed once for each generation of a server's.

use std::cell::RefCell;
use std::ptr;
use std::sync::{Arc, Weak};

use trunkline_topology::ServerId;

use super::Defaults;
use super::generation::Generation;

/// Those of the logins of one user to one database, by the server's slot, each with the generation that it was computed of.
#[derive(Debug, Default)]
pub(crate) struct LoginDigests(RefCell<Vec<(Weak<Generation>, u32)>>);

impl LoginDigests {
    /// The digest of what a login of this user to this database gets on `server` now, as far as is known; 0 where it is not.
    pub(crate) fn newest(&self, defaults: &Defaults, server: ServerId, names: [&str; 2]) -> u32 {
        let history = defaults.history(server);
        history.newest().map_or(0, |generation| self.of(server, generation, names))
    }

    /// The same of this generation.
    pub(super) fn of(
        &self,
        server: ServerId,
        generation: &Arc<Generation>,
        [user, database]: [&str; 2],
    ) -> u32 {
        let mut known = self.0.borrow_mut();
        let slots = known.len().max(server.index() + 1);
        known.resize_with(slots, Default::default);
        let (of, digest) = &mut known[server.index()];
        // What a Weak names is not given to another while there is the Weak.
        if !ptr::eq(of.as_ptr(), Arc::as_ptr(generation)) {
            *of = Arc::downgrade(generation);
            *digest = generation.login(user, database).digest();
        }
        *digest
    }
}
