//! The store without servers: a users file, and nobody up.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::super::secret::Unusable;
use super::super::{SecretStore, USER_NAME_BYTES_MAX};
use super::*;

const TTL: Duration = Duration::from_secs(10);

/// A users file of its own, removed when dropped.
struct UsersFile(PathBuf);

impl UsersFile {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("trunkline-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("a temporary file");
        UsersFile(path)
    }

    fn store(&self) -> SecretStore {
        start(SourceReader::File(Arc::new(FileSecrets::read(&self.0).expect("a good file"))))
    }
}

impl Drop for UsersFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn start(source: SourceReader) -> SecretStore {
    let (requests, received) = mpsc::channel(super::super::LOOKUPS_WAITING_MAX);
    let file = source.file().map(Arc::clone);
    tokio::spawn(run(source, TTL, received));
    SecretStore { requests, file }
}

fn password(secret: &Secret) -> (&str, String) {
    match secret {
        Secret::Password { password, verifier } => (password, verifier.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_users_password_is_derived_once() {
    let file = UsersFile::new("\"app\" \"hunter2\"\n");
    let store = file.store();
    let (first, again) = tokio::join!(store.lookup("app"), store.lookup("app"));
    let (first, again) = (first.expect("known"), again.expect("known"));
    assert_eq!(password(&first).0, "hunter2");
    assert_eq!(password(&first), password(&again));
    assert_eq!(password(&store.lookup("app").await.expect("known")), password(&first));
}

#[tokio::test]
async fn unknown_and_impossible_users_are_unknown() {
    let file = UsersFile::new("\"app\" \"hunter2\"\n");
    let store = file.store();
    for user in ["nobody", "", "a\0b", &"n".repeat(USER_NAME_BYTES_MAX), &"n".repeat(USER_NAME_BYTES_MAX + 1)]
    {
        let secret = store.lookup(user).await.expect("an answer");
        assert!(matches!(secret, Secret::Unusable(Unusable::Unknown)), "{user}");
    }
}

#[tokio::test]
async fn what_a_file_has_is_told_without_the_task() {
    let file = UsersFile::new("\"app\" \"hunter2\"\n\"old\" \"md5a3556571e93b0d20722ba62be61e8c2d\"\n");
    let (requests, received) = mpsc::channel(1);
    let secrets = Some(Arc::new(FileSecrets::read(&file.0).expect("a good file")));
    drop(received);
    let stopped = SecretStore { requests, file: secrets };
    assert!(matches!(stopped.lookup("old").await, Ok(Secret::Md5(_))));
    assert!(matches!(stopped.lookup("nobody").await, Ok(Secret::Unusable(Unusable::Unknown))));
    assert_eq!(stopped.lookup("app").await.expect_err("no verifier yet"), LookupError::Stopped);
    let SecretStore { requests, .. } =
        start(SourceReader::File(Arc::clone(stopped.file.as_ref().expect("it has one"))));
    let running = SecretStore { requests, file: stopped.file.clone() };
    let made = running.lookup("app").await.expect("known");
    assert_eq!(password(&made), password(&stopped.lookup("app").await.expect("it is kept")));
}

#[tokio::test]
async fn verifiers_are_made_before_anybody_asks_for_them() {
    let file = UsersFile::new("\"app\" \"hunter2\"\n\"other\" \"hunter3\"\n");
    let store = file.store();
    let file = store.file.as_ref().expect("it has one");
    let began = Instant::now();
    while ["app", "other"].iter().any(|user| file.at_hand(user).is_none()) {
        assert!(began.elapsed() < Duration::from_secs(60), "they are not made");
        tokio::task::yield_now().await;
    }
    assert_eq!(password(&file.at_hand("app").expect("it is made")).0, "hunter2");
}

#[test]
fn a_reload_changes_how_long_a_secret_is_believed() {
    let now = Instant::now();
    let mut store = store_with(Duration::ZERO, now);
    assert!(store.serve([StoreRequest::Reload { cache_ttl: TTL / 2 }]).is_empty());
    store.cache.insert("app".into(), Secret::Unusable(Unusable::Expired), now);
    let ask = |at| store.at_hand("app", Freshness::Lately, at, at);
    assert!(ask(now + TTL / 2 - Duration::from_nanos(1)).is_some());
    assert!(ask(now + TTL / 2).is_none());
}

#[test]
fn a_reload_believes_no_secret_and_makes_no_user_a_stranger() {
    let now = Instant::now();
    let (mut store, mut waiting) = (store_with(Duration::ZERO, now), Waiting::default());
    store.keep_waiting(&mut waiting, StoreRequest::Reload { cache_ttl: TTL });
    assert!(waiting.is_empty(), "it is done at once");
    assert!(store.at_hand("app", Freshness::Lately, now, now).is_none());
    assert!(store.cache.knows("app"));
}

#[test]
fn secrets_that_servers_refuse_fill_no_queue() {
    let now = Instant::now();
    let (mut store, mut waiting) = (store_with(Duration::ZERO, now), Waiting::default());
    assert!(store.at_hand("app", Freshness::Lately, now, now).is_some());
    for _ in 0..2 * super::super::LOOKUPS_WAITING_MAX {
        store.keep_waiting(&mut waiting, StoreRequest::Distrust { user: "app".into() });
    }
    assert!(waiting.is_empty());
    assert!(store.at_hand("app", Freshness::Lately, now, now).is_none());
}

#[tokio::test]
async fn a_store_that_has_stopped_says_so() {
    let (requests, received) = mpsc::channel(1);
    drop(received);
    let store = SecretStore { requests, file: None };
    assert_eq!(store.lookup("app").await.expect_err("stopped"), LookupError::Stopped);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let (requests, _received) = mpsc::channel(1);
    let store = SecretStore { requests, file: None };
    let request = StoreRequest::Reload { cache_ttl: TTL };
    store.requests.try_send(request).unwrap_or_else(|_| panic!("there is room for one"));
    assert_eq!(store.lookup("app").await.expect_err("full"), LookupError::Busy);
}

fn store_with(read: Duration, now: Instant) -> Store {
    let mut store = Store::new(TTL);
    store.cache.insert("app".into(), Secret::Unusable(Unusable::Expired), now - read);
    store
}

#[test]
fn a_secret_is_read_anew_for_each_login_and_serves_those_who_asked_before_it_was() {
    let now = Instant::now() + Duration::from_secs(60);
    let store = store_with(Duration::from_millis(1), now);
    let ask = |asked_at| store.at_hand("app", Freshness::Current, asked_at, now);
    assert!(ask(now).is_none(), "it may have been changed since");
    assert!(ask(now - Duration::from_millis(1)).is_some() && ask(now - Duration::from_secs(1)).is_some());
    assert!(store.at_hand("app", Freshness::Lately, now, now).is_some());
}

#[test]
fn beyond_the_bound_of_a_second_those_read_lately_are_believed() {
    let now = Instant::now();
    let mut store = store_with(Duration::from_millis(1), now);
    let lookup = || {
        let (reply, answer) = oneshot::channel();
        let user = "app".into();
        (
            StoreRequest::Lookup { user, freshness: Freshness::Current, asked_at: Instant::now(), reply },
            answer,
        )
    };
    for (fetched, trouble) in [(REFRESHES_PER_SECOND_MAX - 1, Trouble::No), (1, Trouble::Enough)] {
        store.fetches.note(fetched, now);
        assert_eq!(store.fetches.trouble(now), trouble);
        let (request, mut answer) = lookup();
        assert_eq!(store.answer(request, trouble).is_none(), trouble == Trouble::Enough);
        assert_eq!(answer.try_recv().is_ok(), trouble == Trouble::Enough);
    }
    assert_eq!(store.fetches.trouble(now + Duration::from_secs(1)), Trouble::No);
}

#[test]
fn a_failure_answers_all_who_waited_and_soon_after() {
    let now = Instant::now() + Duration::from_secs(60);
    let mut store = store_with(Duration::from_secs(60), now);
    store.failure = Some((now, LookupError::NoServer));
    let ask = |asked_at, at| store.at_hand("app", Freshness::Lately, asked_at, at);
    let waited = ask(now - Duration::from_secs(1), now + Duration::from_secs(2));
    assert_eq!(waited.expect("held").expect_err("failed"), LookupError::NoServer);
    assert!(ask(now + Duration::from_millis(499), now + Duration::from_millis(499)).is_some());
    assert!(ask(now + FAILURE_HOLD, now + FAILURE_HOLD).is_none(), "tried again");
}
