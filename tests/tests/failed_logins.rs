//! Passwords cannot be guessed at speed, and nobody is locked out by a name alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use trunkline_tests::{Auth, Endpoint, Login, ServerError, Wire, eventually, http_get, shared_cluster};

#[path = "failed_logins/names.rs"]
mod names;

/// Three failures of a user from one address within a minute close the door for two seconds.
fn endpoint(auth: Auth) -> Endpoint {
    let listener =
        "[[listener]]\nname = \"reads\"\naddress = \"127.0.0.1:1\"\nproxy_protocol_from = \"127.0.0.0/8\"\n";
    Endpoint::over(shared_cluster())
        .auth(auth)
        .key("auth.failures_max", "3")
        .key("auth.failures_pause", "\"2s\"")
        .toml(listener)
        .start()
}

/// What comes of a login by a client at this address.
fn login(endpoint: &Endpoint, from: &str, user: &str, password: &str) -> Result<(), ServerError> {
    let login = Login::of(user, password);
    // The header comes before TLS.
    let mut wire = Wire::connect_plain(endpoint.reads());
    wire.send(format!("PROXY TCP4 {from} 127.0.0.1 40001 5434\r\n").as_bytes());
    wire.send(&login.packet());
    wire.finish_login(&login)
}

#[track_caller]
fn refused(outcome: Result<(), ServerError>, code: &str, words: &str) {
    let error = outcome.unwrap_err();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", code), "{error:?}");
    assert!(error.text.starts_with(words), "{error:?}");
}

fn refused_for_now(outcome: Result<(), ServerError>) {
    refused(outcome, "28000", "too many authentication failures");
}

#[test]
fn the_door_is_closed_to_who_guesses_and_to_nobody_else() {
    for auth in [Auth::Verify, Auth::Relay] {
        let endpoint = endpoint(auth);
        let (guesser, other) = ("192.0.2.1", "192.0.2.2");
        assert_eq!(login(&endpoint, guesser, "app", "app secret"), Ok(()));
        for guess in ["a", "b", "c"] {
            refused(login(&endpoint, guesser, "app", guess), "28P01", "password authentication failed");
        }
        refused_for_now(login(&endpoint, guesser, "app", "d"));
        refused_for_now(login(&endpoint, guesser, "app", "app secret"));
        assert_eq!(login(&endpoint, guesser, "md5_user", "md5"), Ok(()), "another user from there");
        assert_eq!(login(&endpoint, other, "app", "app secret"), Ok(()), "the user from elsewhere");
        let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
        let counted = "trunkline_sessions_refused_total{reason=\"too_many_failures\"} 2";
        assert!(metrics.lines().any(|line| line == counted), "{auth:?}");
        let line = "too many authentication failures: logins are refused for a while";
        assert_eq!(endpoint.log().matches(line).count(), 1, "{auth:?}");
        eventually(Duration::from_secs(10), "the door opens again", || {
            login(&endpoint, guesser, "app", "app secret").is_ok()
        });
    }
}

#[test]
fn an_unknown_user_is_refused_as_a_known_one() {
    let endpoint = endpoint(Auth::Verify);
    for user in ["app", "nobody", "nologin_user"] {
        for _ in 0..3 {
            refused(login(&endpoint, "192.0.2.1", user, "wrong"), "28P01", "password authentication failed");
        }
        refused_for_now(login(&endpoint, "192.0.2.1", user, "wrong"));
    }
}

#[test]
fn many_names_close_the_door_to_an_address() {
    let endpoint = endpoint(Auth::Verify);
    for number in 0..15 {
        let user = format!("user{number}");
        refused(login(&endpoint, "192.0.2.1", &user, "wrong"), "28P01", "password authentication failed");
        if number == 3 {
            assert_eq!(login(&endpoint, "192.0.2.1", "app", "app secret"), Ok(()));
        }
    }
    refused_for_now(login(&endpoint, "192.0.2.1", "postgres", "postgres"));
    assert_eq!(login(&endpoint, "192.0.2.1", "app", "app secret"), Ok(()), "who was let in before");
    assert_eq!(login(&endpoint, "192.0.2.2", "postgres", "postgres"), Ok(()), "from elsewhere");
}
