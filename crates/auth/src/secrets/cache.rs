//! Secrets read lately: bounded in number and in time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::secret::{Secret, Unusable};

/// Users whose secrets are kept; the one read longest ago makes room.
pub const CACHED_MAX: usize = 4096;

/// Names kept as unknown, apart from the users: whoever guesses names evicts no user.
pub const CACHED_UNKNOWN_MAX: usize = 1024;

/// The secrets read lately.
#[derive(Debug)]
pub(super) struct Cache {
    ttl: Duration,
    users: Entries,
    unknown: Entries,
}

#[derive(Debug)]
struct Entries {
    by_name: HashMap<Box<str>, CachedSecret>,
    max: usize,
}

/// One secret and when it was read.
#[derive(Clone, Debug)]
pub(super) struct CachedSecret {
    pub(super) secret: Secret,
    /// When its reading began: what was changed after that it need not show.
    pub(super) read_at: Instant,
    /// Whether it is to be read again before it is believed: a server has refused it since, or its source was reloaded.
    pub(super) is_distrusted: bool,
}

impl Cache {
    pub(super) fn new(ttl: Duration) -> Self {
        Self::with_bounds(ttl, CACHED_MAX, CACHED_UNKNOWN_MAX)
    }

    fn with_bounds(ttl: Duration, users_max: usize, unknown_max: usize) -> Self {
        let entries = |max| Entries { by_name: HashMap::new(), max };
        Cache { ttl, users: entries(users_max), unknown: entries(unknown_max) }
    }

    /// Changes the time to live, of what is cached already, too.
    pub(super) fn believe_for(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// The user's secret, unless it is older than the time to live or distrusted.
    pub(super) fn get(&self, user: &str, now: Instant) -> Option<&CachedSecret> {
        let entry = self.newest(user)?;
        let is_young = now.saturating_duration_since(entry.read_at) < self.ttl;
        (is_young && !entry.is_distrusted).then_some(entry)
    }

    /// The user's secret, however old.
    pub(super) fn newest(&self, user: &str) -> Option<&CachedSecret> {
        self.users.by_name.get(user).or_else(|| self.unknown.by_name.get(user))
    }

    /// Keeps what was read from `read_at` on.
    pub(super) fn insert(&mut self, user: Box<str>, secret: Secret, read_at: Instant) {
        let (into, other) = match secret {
            Secret::Unusable(Unusable::Unknown) => (&mut self.unknown, &mut self.users),
            Secret::Scram(_) | Secret::Md5(_) | Secret::Password { .. } | Secret::Unusable(_) => {
                (&mut self.users, &mut self.unknown)
            }
        };
        other.by_name.remove(&user);
        into.make_room(&user);
        into.by_name.insert(user, CachedSecret { secret, read_at, is_distrusted: false });
    }

    /// Believes the user's secret no more until it is read again.
    pub(super) fn distrust(&mut self, user: &str) {
        if let Some(entry) = self.users.by_name.get_mut(user) {
            entry.is_distrusted = true;
        }
    }

    /// Whether this user was found lately.
    pub(super) fn knows(&self, user: &str) -> bool {
        self.users.by_name.contains_key(user)
    }

    /// Believes nothing until it is read again. The names of users stay known.
    pub(super) fn distrust_all(&mut self) {
        self.users.by_name.values_mut().for_each(|entry| entry.is_distrusted = true);
        self.unknown.by_name.clear();
    }
}

impl Entries {
    fn make_room(&mut self, user: &str) {
        if self.by_name.len() < self.max || self.by_name.contains_key(user) {
            return;
        }
        // A walk over a few thousand entries, and only when full: cheaper than keeping an order at all times.
        let oldest = self.by_name.iter().min_by_key(|(_, entry)| entry.read_at).map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.by_name.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn known() -> Secret {
        Secret::Unusable(Unusable::NoPassword)
    }

    fn unknown() -> Secret {
        Secret::Unusable(Unusable::Unknown)
    }

    #[test]
    fn an_entry_is_believed_for_its_time_and_not_longer() {
        let (mut cache, start) = (Cache::new(TTL), Instant::now());
        cache.insert("app".into(), known(), start);
        assert!(cache.get("app", start + TTL - Duration::from_nanos(1)).is_some());
        assert!(cache.get("app", start + TTL).is_none());
        assert!(cache.newest("app").is_some());
        let mut off = Cache::new(Duration::ZERO);
        off.insert("app".into(), known(), start);
        assert!(off.get("app", start).is_none());
    }

    #[test]
    fn a_secret_that_a_server_refused_is_believed_again_once_it_is_read() {
        let (mut cache, start) = (Cache::new(TTL), Instant::now());
        cache.insert("app".into(), known(), start);
        cache.distrust("app");
        assert!(cache.get("app", start).is_none());
        assert!(cache.knows("app"), "the user exists all the same");
        cache.insert("app".into(), known(), start);
        assert!(cache.get("app", start).is_some());
    }

    #[test]
    fn users_at_the_bound_stay_and_one_more_evicts_the_oldest() {
        let (mut cache, start) = (Cache::with_bounds(TTL, 3, 2), Instant::now());
        for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
            cache.insert(name.into(), known(), start + Duration::from_millis(i as u64));
        }
        assert!(["a", "b", "c"].iter().all(|name| cache.newest(name).is_some()));
        cache.insert("a".into(), known(), start + Duration::from_millis(5));
        cache.insert("d".into(), known(), start + Duration::from_millis(6));
        assert!(cache.newest("b").is_none(), "a was read again, so b was the oldest");
        assert_eq!(cache.users.by_name.len(), 3);
    }

    #[test]
    fn guessed_names_evict_each_other_and_no_user() {
        let (mut cache, start) = (Cache::with_bounds(TTL, 3, 2), Instant::now());
        cache.insert("app".into(), known(), start);
        for i in 0..100_u64 {
            cache.insert(format!("guess{i}").into(), unknown(), start + Duration::from_millis(i));
        }
        assert_eq!(cache.unknown.by_name.len(), 2);
        assert!(cache.newest("app").is_some());
    }

    #[test]
    fn a_user_created_or_dropped_is_kept_once() {
        let (mut cache, start) = (Cache::new(TTL), Instant::now());
        cache.insert("app".into(), unknown(), start);
        cache.insert("app".into(), known(), start);
        assert!(cache.unknown.by_name.is_empty());
        cache.insert("app".into(), unknown(), start);
        assert!(cache.users.by_name.is_empty());
    }
}
