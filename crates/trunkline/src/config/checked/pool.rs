//! `[pool]`, checked.

use trunkline_pool::{PoolMode, PoolOverride, PoolSettings, ServerReuse};
use trunkline_proxy::settings::{AddHost, AuthMode};

use crate::config::raw::{OverrideEntry, RawConfig};
use crate::config::{Problem, Problems, Source};

const NAME: &str = "pool.override";

/// The settings of pools.
pub(super) fn pool(raw: &RawConfig, problems: &mut Problems, warnings: &mut Problems) -> PoolSettings {
    let size = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let settings = PoolSettings {
        min_pool_size: size(raw.pool.min_pool_size.value),
        reserve_pool_size: size(raw.pool.reserve_pool_size.value),
        overrides: raw.pool.overrides.iter().map(|entry| entry.rule.clone()).collect(),
        ..raw.proxy.pool.clone()
    };
    sizes(raw, &settings, problems);
    overrides(&raw.pool.overrides, problems, warnings);
    authentication(raw, problems, warnings);
    names_of_clients(raw, warnings);
    if settings.reserve_pool_size > 0 && settings.reserve_pool_timeout.is_zero() {
        let source = &raw.pool.reserve_pool_size.source;
        warnings.push(
            Problem::new(source, "pool.reserve_pool_size", "has no effect: reserve_pool_timeout is 0")
                .hint("Set how long a client waits before its pool uses the reserve, such as \"5s\"."),
        );
    }
    settings
}

/// A pool keeps no more open than it may have.
fn sizes(raw: &RawConfig, settings: &PoolSettings, problems: &mut Problems) {
    let (least, source) = (settings.min_pool_size, &raw.pool.min_pool_size.source);
    let size = settings.pool_size;
    if least > size {
        let message = format!("{least} is above pool_size, {size}");
        problems.push(Problem::new(source, "pool.min_pool_size", message).hint("Raise pool_size with it."));
        return;
    }
    for entry in &raw.pool.overrides {
        if let Some(size) = entry.rule.pool_size.filter(|size| least > *size) {
            let key = format!("{NAME}.pool_size");
            let message = format!("{size} is below min_pool_size, {least}");
            let hint = "Every pool with clients keeps so many open: raise this, or lower min_pool_size.";
            problems.push(Problem::new(&entry.source, key, message).hint(hint));
        }
    }
}

/// Each override is for somebody, says something, and counts for some session.
fn overrides(entries: &[OverrideEntry], problems: &mut Problems, warnings: &mut Problems) {
    for (at, entry) in entries.iter().enumerate() {
        let before = entries.get(..at).unwrap_or_default();
        let name = entry.name.value.as_deref();
        if name.is_some_and(|name| before.iter().any(|other| other.name.value.as_deref() == Some(name))) {
            let message = format!("{:?} is the name of another override", name.unwrap_or_default());
            problems.push(Problem::new(&entry.name.source, format!("{NAME}.name"), message));
        }
        let rule = &entry.rule;
        if rule.user.is_none() && rule.database.is_none() {
            let problem = Problem::new(&entry.source, NAME, "names neither a user nor a database");
            problems.push(problem.hint("Name one of them; what is for all belongs in [pool]."));
        } else if rule.mode.is_none() && rule.pool_size.is_none() && entry.route_hint.is_none() {
            let problem =
                Problem::new(&entry.source, NAME, "has neither pool_mode, pool_size nor route_hint");
            problems.push(problem.hint("Write what is different for these sessions, or delete it."));
        } else if let Some(first) = before.iter().find(|other| covers(&other.rule, rule)) {
            let message = format!("never counts: the one before it ({}) fits all its sessions", first.source);
            let hint = "The first that fits counts: write the narrower one first.";
            warnings.push(Problem::new(&entry.source, NAME, message).hint(hint));
        }
    }
}

/// Whether every session that `narrow` is for is one that `wide` is for.
fn covers(wide: &PoolOverride, narrow: &PoolOverride) -> bool {
    let covers = |wide: &Option<String>, narrow: &Option<String>| wide.is_none() || wide == narrow;
    covers(&wide.user, &narrow.user) && covers(&wide.database, &narrow.database)
}

/// A session whose login was the server's own exchange has the server connection that it logged in on, and no other.
fn authentication(raw: &RawConfig, problems: &mut Problems, warnings: &mut Problems) {
    let auth = &raw.proxy.auth;
    if auth.mode != AuthMode::Relay || auth.hba_file.is_some() {
        return;
    }
    let is_transaction = |mode: Option<PoolMode>| mode == Some(PoolMode::Transaction);
    let of_all = is_transaction(Some(raw.proxy.pool.mode)).then_some((Source::Default, "pool.pool_mode"));
    let of_listeners = raw.listeners.iter().filter(|listener| is_transaction(listener.options.pool_mode));
    let of_overrides = raw.pool.overrides.iter().filter(|entry| is_transaction(entry.rule.mode));
    let places = of_all
        .into_iter()
        .chain(of_listeners.map(|listener| (listener.source.clone(), "listener.pool_mode")))
        .chain(of_overrides.map(|entry| (entry.source.clone(), "pool.override.pool_mode")));
    for (source, key) in places {
        let message = "is transaction, and [auth] mode is relay: who logs in by the server's own exchange keeps that server connection";
        let hint = "Set [auth] mode to \"verify\", by which the proxy reads stored secrets, or to \"login\", by which clients on TLS give it their password; or this to \"session\".";
        problems.push(Problem::new(&source, key, message).hint(hint));
    }
    if raw.proxy.pool.server_reuse == ServerReuse::On {
        let message = "has no effect: [auth] mode is relay, and each login is one of the server's";
        let hint = "Set [auth] mode to \"verify\" or \"login\".";
        warnings.push(Problem::new(&Source::Default, "pool.server_reuse", message).hint(hint));
    }
}

/// A server connection that has one client's address in its name is that client's alone.
fn names_of_clients(raw: &RawConfig, warnings: &mut Problems) {
    let pool = &raw.proxy.pool;
    let is_shared_by_override =
        raw.pool.overrides.iter().any(|entry| entry.rule.mode == Some(PoolMode::Transaction));
    for listener in &raw.listeners {
        let options = &listener.options;
        let mode = options.pool_mode.unwrap_or(pool.mode);
        let is_shared =
            mode == PoolMode::Transaction || is_shared_by_override || pool.server_reuse == ServerReuse::On;
        if is_shared && options.application_name_add_host == AddHost::On {
            let message =
                "is on: each client of this listener has a server connection to itself, as without a pool";
            let hint = "Set it to \"off\", or pool_mode and server_reuse to what they are without pools.";
            let key = "listener.application_name_add_host";
            warnings.push(Problem::new(&listener.source, key, message).hint(hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use crate::config::checked::{CheckedConfig, settings};
    use crate::config::{Loaded, environment, file, keys};

    fn check(text: &str, variables: &[(&str, &str)]) -> Result<CheckedConfig, String> {
        let (mut raw, mut problems) = (keys::defaults(), Problems::default());
        let text = format!("[[server]]\naddress = \"db1\"\n{text}");
        file::apply("t.toml", &text, &mut raw, &mut problems);
        let variables: HashMap<_, _> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        environment::apply(variables, &mut raw, &mut problems);
        let loaded = Loaded {
            raw,
            file: None,
            problems,
            warnings: Problems::default(),
            admin_places: Vec::new(),
            pod_api: None,
        };
        settings(loaded).map_err(|problems| problems.to_string())
    }

    fn valid(text: &str) -> CheckedConfig {
        check(text, &[]).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn problems(text: &str) -> String {
        check(text, &[]).expect_err("it is not valid")
    }

    #[test]
    fn nothing_is_pooled_unless_it_is_written() {
        let checked = valid("");
        let expected = PoolSettings {
            pool_size: 20,
            reserve_pool_timeout: Duration::from_secs(5),
            query_wait_timeout: Duration::from_secs(120),
            server_idle_timeout: Duration::from_secs(600),
            server_lifetime: Duration::from_secs(3600),
            server_check_delay: Duration::from_secs(30),
            max_prepared_statements: 200,
            ..PoolSettings::default()
        };
        assert_eq!(checked.proxy.pool, expected);
        assert!(!checked.proxy.is_pooling());
        assert_eq!(checked.proxy.listeners[0].options.pool_mode, None);
    }

    #[test]
    fn every_key_arrives() {
        let text = r#"
[[listener]]
address = "127.0.0.1:5434"
pool_mode = "transaction"
[pool]
server_reuse = "on"
pool_size = 7
min_pool_size = 2
reserve_pool_size = 3
reserve_pool_timeout = "6s"
max_db_connections = 8
max_user_connections = 9
query_wait_timeout = "10s"
server_idle_timeout = "11s"
server_lifetime = "12s"
server_check_delay = "13s"
max_prepared_statements = 14
[[pool.override]]
user = "batch"
pool_mode = "session"
pool_size = 4
[[pool.override]]
database = "app"
pool_mode = "transaction"
"#;
        let checked = valid(text);
        let seconds = Duration::from_secs;
        let expected = PoolSettings {
            mode: PoolMode::Session,
            server_reuse: ServerReuse::On,
            pool_size: 7,
            min_pool_size: 2,
            reserve_pool_size: 3,
            reserve_pool_timeout: seconds(6),
            max_db_connections: 8,
            max_user_connections: 9,
            query_wait_timeout: seconds(10),
            server_idle_timeout: seconds(11),
            server_lifetime: seconds(12),
            server_check_delay: seconds(13),
            max_prepared_statements: 14,
            overrides: vec![
                PoolOverride {
                    user: Some("batch".to_owned()),
                    database: None,
                    mode: Some(PoolMode::Session),
                    pool_size: Some(4),
                },
                PoolOverride {
                    user: None,
                    database: Some("app".to_owned()),
                    mode: Some(PoolMode::Transaction),
                    pool_size: None,
                },
            ],
        };
        assert_eq!(checked.proxy.pool, expected);
        assert_eq!(checked.proxy.listeners[0].options.pool_mode, Some(PoolMode::Transaction));
        assert!(checked.proxy.is_pooling());
        assert!(checked.summary().contains("5434 (prefer-standby, round-robin, pool_mode transaction)"));
    }

    #[test]
    fn an_override_is_named_by_a_variable() {
        let text = "[[pool.override]]\nname = \"batch-jobs\"\nuser = \"batch\"\npool_size = 4\n";
        let changed = [("TRUNKLINE__POOL__OVERRIDE__BATCH_JOBS__POOL_SIZE", "5")];
        let checked = check(text, &changed).unwrap_or_else(|problems| panic!("{problems}"));
        let [rule] = checked.proxy.pool.overrides.as_slice() else { panic!("one override") };
        assert_eq!((rule.user.as_deref(), rule.pool_size), (Some("batch"), Some(5)));
        let added = [
            ("TRUNKLINE__POOL__OVERRIDE__WEB__DATABASE", "app"),
            ("TRUNKLINE__POOL__OVERRIDE__WEB__POOL_MODE", "transaction"),
        ];
        let checked = check("", &added).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(checked.proxy.pool.overrides[0].mode, Some(PoolMode::Transaction));
    }

    #[test]
    fn transaction_mode_needs_sessions_that_can_log_in_anywhere() {
        let relay = "[auth]\nmode = \"relay\"\n";
        for (key, text) in [
            ("pool.pool_mode", "[pool]\npool_mode = \"transaction\"\n"),
            ("listener.pool_mode", "[[listener]]\naddress = \"127.0.0.1:1\"\npool_mode = \"transaction\"\n"),
            ("pool.override.pool_mode", "[[pool.override]]\nuser = \"u\"\npool_mode = \"transaction\"\n"),
        ] {
            let problems = problems(&format!("{text}{relay}"));
            assert!(
                problems.contains(&format!("{key}: is transaction, and [auth] mode is relay")),
                "{problems}"
            );
            assert!(problems.contains("\"verify\"") && problems.contains("\"login\""), "{problems}");
            valid(&format!("{text}[auth]\nmode = \"login\"\n"));
        }
        let reuse = valid(&format!("[pool]\nserver_reuse = \"on\"\n{relay}"));
        let told = reuse.warnings.to_string();
        assert!(told.contains("pool.server_reuse: has no effect"), "{told}");
    }

    #[test]
    fn sizes_and_overrides_that_contradict_each_other_are_refused() {
        let over = "[[pool.override]]\n";
        for (text, expected) in [
            ("[pool]\nmin_pool_size = 21\n".to_owned(), "pool.min_pool_size: 21 is above pool_size, 20"),
            (
                format!("[pool]\nmin_pool_size = 3\n{over}user = \"u\"\npool_size = 2\n"),
                "t.toml:5: pool.override.pool_size: 2 is below min_pool_size, 3",
            ),
            (
                format!("{over}pool_size = 2\n"),
                "t.toml:3: pool.override: names neither a user nor a database",
            ),
            (
                format!("{over}user = \"u\"\n"),
                "pool.override: has neither pool_mode, pool_size nor route_hint",
            ),
            ("[pool]\noverride = 3\n".to_owned(), "pool.override: is a list of tables"),
            (format!("{over}usr = \"u\"\n"), "pool.override.usr: unknown key"),
        ] {
            let problems = problems(&text);
            assert!(problems.contains(expected), "{expected} is not in:\n{problems}");
        }
    }

    #[test]
    fn what_cannot_take_effect_is_warned_of() {
        let over = |keys: &str| format!("[[pool.override]]\npool_size = 2\n{keys}");
        let wide = over("user = \"u\"\n");
        let narrow = over("user = \"u\"\ndatabase = \"d\"\n");
        let told = |text: &str| valid(text).warnings.to_string();
        assert!(!told(&format!("{narrow}{wide}")).contains("never counts"));
        assert!(told(&format!("{wide}{narrow}")).contains("never counts: the one before it (t.toml:3)"));
        let reserve = told("[pool]\nreserve_pool_size = 2\nreserve_pool_timeout = \"0\"\n");
        assert!(reserve.contains("pool.reserve_pool_size: has no effect"), "{reserve}");
    }

    #[test]
    fn names_that_keep_clients_from_sharing_connections_are_warned_of() {
        let listener = "[[listener]]\naddress = \"127.0.0.1:5434\"\n";
        let named = "application_name_add_host = \"on\"\n";
        let shared = "pool_mode = \"transaction\"\n";
        let told =
            |text: &str| valid(text).warnings.to_string().contains("has a server connection to itself");
        assert!(told(&format!("{listener}{named}{shared}")));
        assert!(told(&format!("{listener}{named}[pool]\n{shared}")));
        assert!(told(&format!("{listener}{named}[pool]\nserver_reuse = \"on\"\n")));
        assert!(told(&format!("{listener}{named}[[pool.override]]\nuser = \"u\"\n{shared}")));
        assert!(!told(&format!("{listener}{named}")));
        assert!(!told(&format!("{listener}{shared}")));
        assert!(!told(&format!("{listener}{named}pool_mode = \"session\"\n[pool]\n{shared}")));
    }
}
