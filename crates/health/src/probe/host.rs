//! A server's name, and the addresses that it gave last.
//!
//! A name that cannot be looked up says nothing of the server: the last addresses are used while they answer. A name that
//! gives other addresses is followed, though the old one may still answer: once it has given them twice in a row, because
//! a name may give a part of its addresses at a time, in turn.
//!
//! While a name cannot be looked up, an address that another server's name gives is that server's: containers that are
//! started again get the addresses of those that are down.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use crate::guard::NamedBy;
use crate::judge::ProbeFailure;
use trunkline_topology::Address;

/// Most addresses of one name that are remembered.
pub(super) const NAME_ADDRESSES_MAX: usize = 64;

/// Where a server is.
#[derive(Debug)]
pub struct ServerHost {
    host: String,
    port: u16,
    last: Arc<Mutex<LastLookup>>,
    book: ServerHosts,
    /// Changes when the server is configured that was discovered, or the other way round.
    named_by: watch::Receiver<NamedBy>,
}

/// Servers that are watched together: each knows which addresses are another's. Those dropped are forgotten.
#[derive(Clone, Debug, Default)]
pub struct ServerHosts(Arc<Mutex<Vec<Weak<Mutex<LastLookup>>>>>);

impl ServerHosts {
    /// One more: a host name or address, or the directory of a Unix socket, and a port.
    #[must_use]
    pub fn enter(&self, host: String, port: u16) -> ServerHost {
        let last = Arc::default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&last));
        ServerHost { host, port, last, book: self.clone(), named_by: watch::channel(NamedBy::Operator).1 }
    }

    /// What the names of all gave last.
    fn lookups(&self) -> Vec<Arc<Mutex<LastLookup>>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

/// What the name gave.
#[derive(Debug, Default)]
struct LastLookup {
    /// Of the last look-up that succeeded.
    addresses: Vec<SocketAddr>,
    /// Of the one before that succeeded; `None` before there were two.
    before: Option<Vec<SocketAddr>>,
    /// Whether one has failed since.
    has_failed: bool,
}

/// The addresses to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) addresses: Vec<SocketAddr>,
    /// Why they are those of an earlier look-up, if they are.
    pub(super) failure: Option<ProbeFailure>,
}

impl ServerHost {
    /// A host name or address, or the directory of a Unix socket, and a port; alone.
    #[must_use]
    pub fn new(host: String, port: u16) -> Self {
        ServerHosts::default().enter(host, port)
    }

    /// The same, as one that who is in `named_by` says is there.
    #[must_use]
    pub fn named(mut self, named_by: watch::Receiver<NamedBy>) -> Self {
        self.named_by = named_by;
        self
    }

    pub(super) fn named_by(&self) -> NamedBy {
        *self.named_by.borrow()
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether a look-up has succeeded before.
    pub(super) fn is_known(&self) -> bool {
        !self.last().addresses.is_empty()
    }

    /// Whether the name no longer leads to `address`: the last two look-ups that succeeded did not give it, or the last
    /// one failed and the address is another server's.
    pub(crate) fn has_left(&self, address: &Address) -> bool {
        let Address::Tcp(address) = address else { return false };
        let last = self.last();
        let is_gone =
            |before: &Vec<SocketAddr>| !last.addresses.contains(address) && !before.contains(address);
        if last.before.as_ref().is_some_and(is_gone) {
            return true;
        }
        let has_failed = last.has_failed;
        drop(last);
        has_failed && self.is_of_another(*address)
    }

    /// Whether the name of another server gives `address` now. Not to be called with [`Self::last`] held.
    fn is_of_another(&self, address: SocketAddr) -> bool {
        self.book.lookups().iter().filter(|other| !Arc::ptr_eq(other, &self.last)).any(|other| {
            let other = other.lock().unwrap_or_else(PoisonError::into_inner);
            !other.has_failed && other.addresses.contains(&address)
        })
    }

    /// Takes in what a look-up gave, and says which addresses to try.
    ///
    /// # Errors
    /// The failure, when no look-up has ever succeeded, or all that it gave is another server's.
    pub(super) fn note_lookup(
        &self,
        found: Result<Vec<SocketAddr>, ProbeFailure>,
    ) -> Result<Lookup, ProbeFailure> {
        let found = match found {
            Ok(addresses) if addresses.is_empty() => {
                Err(ProbeFailure::Unresolved("the name has no address".to_owned()))
            }
            found => found,
        };
        let mut last = self.last();
        match found {
            Ok(addresses) => {
                if std::mem::take(&mut last.has_failed) {
                    tracing::info!(target: "trunkline::health", { server.host = %self.host }, "host name is resolved again");
                }
                let before = std::mem::replace(&mut last.addresses, addresses.clone());
                last.before = (!before.is_empty()).then_some(before);
                Ok(Lookup { addresses, failure: None })
            }
            Err(failure) if last.addresses.is_empty() => Err(failure),
            Err(failure) => {
                if !std::mem::replace(&mut last.has_failed, true) {
                    tracing::warn!(
                        target: "trunkline::health",
                        { server.host = %self.host, %failure },
                        "host name cannot be looked up: the addresses that it gave last are used"
                    );
                }
                let mut addresses = last.addresses.clone();
                drop(last);
                addresses.retain(|address| !self.is_of_another(*address));
                if addresses.is_empty() {
                    return Err(failure);
                }
                Ok(Lookup { addresses, failure: Some(failure) })
            }
        }
    }

    fn last(&self) -> MutexGuard<'_, LastLookup> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 5432))
    }

    fn failure() -> ProbeFailure {
        ProbeFailure::Unresolved("no answer".to_owned())
    }

    #[test]
    fn a_name_never_looked_up_fails_and_one_that_was_keeps_its_addresses() {
        let host = ServerHost::new("db1".to_owned(), 5432);
        assert_eq!(host.note_lookup(Err(failure())), Err(failure()));
        assert!(!host.is_known());
        let found = Lookup { addresses: vec![at(1)], failure: None };
        assert_eq!(host.note_lookup(Ok(vec![at(1)])), Ok(found.clone()));
        for nothing in [Err(failure()), Ok(Vec::new())] {
            let kept = host.note_lookup(nothing).expect("it was known");
            assert_eq!(kept.addresses, found.addresses);
            assert!(matches!(kept.failure, Some(ProbeFailure::Unresolved(_))));
        }
    }

    #[test]
    fn an_address_is_left_when_the_name_gives_only_others_twice() {
        let host = ServerHost::new("db1".to_owned(), 5432);
        assert!(!host.has_left(&at(1).into()), "nothing is known yet");
        host.note_lookup(Ok(vec![at(1), at(2)])).expect("found");
        assert!(!host.has_left(&at(1).into()) && !host.has_left(&at(2).into()));
        host.note_lookup(Ok(vec![at(2), at(3)])).expect("found");
        assert!(!host.has_left(&at(1).into()), "once says little");
        host.note_lookup(Err(failure())).expect("known");
        assert!(
            !host.has_left(&at(1).into()) && !host.has_left(&at(2).into()),
            "a failed look-up moves nobody"
        );
        host.note_lookup(Ok(vec![at(2), at(3)])).expect("found");
        assert!(host.has_left(&at(1).into()) && !host.has_left(&at(2).into()));
        host.note_lookup(Err(failure())).expect("known");
        assert!(host.has_left(&at(1).into()), "nor does one bring anybody back");
        let socket = Address::of_directory("/run/postgresql", 5432).expect("a directory");
        assert!(!host.has_left(&socket));
    }

    #[test]
    fn an_address_is_another_servers_once_only_that_ones_name_gives_it() {
        let hosts = ServerHosts::default();
        let [db1, db2] = ["db1", "db2"].map(|name| hosts.enter(name.to_owned(), 5432));
        db1.note_lookup(Ok(vec![at(1)])).expect("found");
        db2.note_lookup(Ok(vec![at(2)])).expect("found");
        for host in [&db1, &db2] {
            host.note_lookup(Err(failure())).expect("the addresses that it gave last");
        }
        db1.note_lookup(Ok(vec![at(2)])).expect("started again, with what was db2's");
        assert!(db2.has_left(&at(2).into()) && !db1.has_left(&at(2).into()));
        assert_eq!(db2.note_lookup(Err(failure())), Err(failure()));
        assert!(db2.is_known(), "it is looked up as before");
        db2.note_lookup(Ok(vec![at(2)])).expect("who says so is believed");
        assert!(!db2.has_left(&at(2).into()));
    }

    #[test]
    fn a_server_that_has_gone_holds_no_address() {
        let hosts = ServerHosts::default();
        let [db1, db2] = ["db1", "db2"].map(|name| hosts.enter(name.to_owned(), 5432));
        db1.note_lookup(Ok(vec![at(1)])).expect("found");
        db2.note_lookup(Ok(vec![at(1)])).expect("found");
        db1.note_lookup(Err(failure())).expect_err("its only address is db2's");
        drop(db2);
        db1.note_lookup(Err(failure())).expect("its address is its own again");
    }

    #[test]
    fn a_name_that_gives_its_addresses_in_turn_has_left_none_of_them() {
        let host = ServerHost::new("db1".to_owned(), 5432);
        for turn in [[1, 2], [3, 4], [1, 2], [3, 4]] {
            host.note_lookup(Ok(turn.map(at).to_vec())).expect("found");
            assert!((1..=4).all(|last| !host.has_left(&at(last).into())), "{turn:?}");
        }
    }
}
