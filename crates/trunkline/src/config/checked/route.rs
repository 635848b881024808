//! `route` of a `[[listener]]`, checked: what a listener needs that chooses a server for each request.

use std::time::Duration;

use trunkline_pool::PoolMode;
use trunkline_proxy::settings::{AddHost, AuthMode, RouteBy, RouteOverride, UserFunctions};
use trunkline_routing::TargetSessionAttrs;
use trunkline_topology::InsertedAsked;

use crate::config::raw::{OverrideEntry, RawConfig};
use crate::config::{Problem, Problems, Source};

const NAME: &str = "listener.route";

/// Longest that a read may wait for a standby.
const READ_YOUR_WRITES_WAIT_MAX: Duration = Duration::from_secs(60);

/// Reports what is missing. Returns whether health has to ask the primary where it writes: some session reads elsewhere what it
/// has written there.
pub(super) fn check(raw: &RawConfig, problems: &mut Problems) -> InsertedAsked {
    let mut splits = raw.listeners.iter().filter(|listener| listener.options.route == RouteBy::Statement);
    let mut inserted = InsertedAsked::No;
    for listener in &mut splits {
        inserted = InsertedAsked::Yes;
        let options = &listener.options;
        let mut wrong = |message: &str, hint: &str| {
            problems.push(Problem::new(&listener.source, NAME, message).hint(hint));
        };
        // Of transaction mode the same is said.
        let is_session = options.pool_mode.unwrap_or(raw.proxy.pool.mode) == PoolMode::Session;
        let auth = &raw.proxy.auth;
        if is_session && auth.mode == AuthMode::Relay && auth.hba_file.is_none() {
            wrong(
                "is statement, and [auth] mode is relay: who logs in by the server's own exchange has that server for all that it does",
                "Set [auth] mode to \"verify\" or \"login\", or route to \"session\".",
            );
        }
        if options.application_name_add_host == AddHost::On {
            wrong(
                "is statement, and application_name_add_host is on: a session that servers show by its client's address has one connection for all that it does",
                "Set application_name_add_host to \"off\", or route to \"session\".",
            );
        }
        let attrs = options.target_session_attrs;
        if attrs != TargetSessionAttrs::ReadWrite && attrs != TargetSessionAttrs::Primary {
            wrong(
                "is statement, and target_session_attrs allows other servers than the primary",
                "Set target_session_attrs = \"read-write\": what does not only read goes there.",
            );
        }
        if raw.proxy.session.functions != UserFunctions::Read {
            let key = "session.functions";
            let message = "is not read, and a listener's route is statement: only the catalog tells what a standby must not run";
            let problem = Problem::new(&Source::Default, key, message);
            problems.push(
                problem.hint("Set [session] functions to \"read\", or the listener's route to \"session\"."),
            );
        }
    }
    limits(raw, problems);
    inserted
}

/// A client that waits for longer is better off with the primary.
fn limits(raw: &RawConfig, problems: &mut Problems) {
    for listener in &raw.listeners {
        let wait = listener.options.read_your_writes_wait;
        if wait > READ_YOUR_WRITES_WAIT_MAX {
            let message = format!("is more than {} s", READ_YOUR_WRITES_WAIT_MAX.as_secs());
            let hint = "Where replicas are that far behind, the primary is the better place: set less.";
            problems
                .push(Problem::new(&listener.source, "listener.read_your_writes_wait", message).hint(hint));
        }
    }
}

/// What overrides say of reads.
pub(super) fn hints(overrides: &[OverrideEntry]) -> Vec<RouteOverride> {
    let one = |entry: &OverrideEntry| RouteOverride {
        user: entry.rule.user.clone(),
        database: entry.rule.database.clone(),
        hint: entry.route_hint,
    };
    overrides.iter().map(one).collect()
}

/// A hint that no session can follow.
pub(super) fn warn_of_hints(raw: &RawConfig, warnings: &mut Problems) {
    if raw.listeners.iter().any(|listener| listener.options.route == RouteBy::Statement) {
        return;
    }
    for entry in raw.pool.overrides.iter().filter(|entry| entry.route_hint.is_some()) {
        let message = "has no effect: no listener's route is statement";
        warnings.push(
            Problem::new(&entry.source, "pool.override.route_hint", message)
                .hint("Set route = \"statement\" for a listener, or remove the hint."),
        );
    }
}

#[cfg(test)]
mod tests {
    use trunkline_proxy::settings::RouteHint;
    use trunkline_topology::InsertedAsked;

    use crate::config::checked::{CheckedConfig, settings};
    use crate::config::{Loaded, Problems, file, keys};

    const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:5436\"\n";
    const SPLIT: &str = "route = \"statement\"\n";

    fn check(text: &str) -> Result<CheckedConfig, String> {
        let (mut raw, mut problems) = (keys::defaults(), Problems::default());
        let text = format!("[[server]]\naddress = \"db1\"\n{text}");
        file::apply("t.toml", &text, &mut raw, &mut problems);
        let (warnings, admin_places) = (Problems::default(), Vec::new());
        let loaded = Loaded { raw, file: None, problems, warnings, admin_places, pod_api: None };
        settings(loaded).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_route_by_statement_needs_the_primary_the_catalog_and_logins_anywhere() {
        let whole = "target_session_attrs = \"read-write\"\n";
        let named = format!("{whole}application_name_add_host = \"on\"\n");
        let auth = "[auth]\nmode = \"verify\"\n";
        let valid = |text: &str| check(text).unwrap_or_else(|problems| panic!("{problems}"));
        let split = valid(&format!("{LISTENER}{SPLIT}{whole}{auth}"));
        assert_eq!(split.proxy.health.judge.probe.inserted, InsertedAsked::Yes);
        for mode in ["session", "transaction"] {
            valid(&format!("{LISTENER}{SPLIT}{whole}pool_mode = \"{mode}\"\n{auth}"));
        }
        let plain = valid(&format!("{LISTENER}{whole}{auth}"));
        assert_eq!(plain.proxy.health.judge.probe.inserted, InsertedAsked::No, "nothing is asked in vain");
        let cases = [
            ("", "", "allows other servers than the primary"),
            (&*named, "", "application_name_add_host is on"),
            (whole, "[session]\nfunctions = \"trust\"\n", "only the catalog tells"),
            (whole, "[session]\nfunctions = \"pin\"\n", "only the catalog tells"),
        ];
        for (keys, rest, message) in cases {
            let problems = check(&format!("{LISTENER}{SPLIT}{keys}{auth}{rest}"))
                .map(|_| ())
                .expect_err("it is not valid");
            assert!(problems.contains(message), "{problems}");
        }
        let relayed = check(&format!("{LISTENER}{SPLIT}{whole}[auth]\nmode = \"relay\"\n"));
        let problems = relayed.map(|_| ()).expect_err("it is not valid");
        assert!(problems.contains("[auth] mode is relay: who logs in"), "{problems}");
    }

    #[test]
    fn a_read_waits_for_a_minute_at_most() {
        let wait = |text: &str| check(&format!("{LISTENER}read_your_writes_wait = \"{text}\"\n"));
        let checked = wait("60s").unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(checked.proxy.listeners[0].options.read_your_writes_wait.as_secs(), 60);
        let problems = wait("61s").map(|_| ()).expect_err("it is too long");
        assert!(problems.contains("is more than 60 s"), "{problems}");
    }

    #[test]
    fn what_an_override_says_of_reads_counts_for_the_first_that_fits() {
        let split =
            "target_session_attrs = \"read-write\"\npool_mode = \"transaction\"\nroute = \"statement\"\n";
        let overrides = "[auth]\nmode = \"verify\"\n[[pool.override]]\nuser = \"jobs\"\nroute_hint = \"primary\"\n\
                         [[pool.override]]\nuser = \"web\"\npool_size = 5\n[[pool.override]]\ndatabase = \"app\"\n\
                         route_hint = \"standby\"\n";
        let checked = check(&format!("{LISTENER}{split}{overrides}")).expect("it is valid");
        let hint = |user, database| checked.proxy.session.route_hint_of(user, database);
        assert_eq!(hint("jobs", "app"), Some(RouteHint::Primary));
        assert_eq!(hint("web", "app"), None, "its override says nothing of that");
        assert_eq!(hint("other", "app"), Some(RouteHint::Standby));
        assert_eq!(hint("other", "other"), None);
        assert!(!checked.warnings.to_string().contains("route_hint"), "{}", checked.warnings);
        let vain = check(&format!("{LISTENER}{overrides}")).expect("it is valid").warnings.to_string();
        assert_eq!(vain.matches("no listener's route is statement").count(), 2, "{vain}");
        let wrong = "[[pool.override]]\nuser = \"jobs\"\nroute_hint = \"replica\"\n";
        let problems = check(&format!("{LISTENER}{wrong}")).map(|_| ()).expect_err("there is no such word");
        assert!(problems.contains("route_hint"), "{problems}");
    }
}
