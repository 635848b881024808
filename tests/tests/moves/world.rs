//! What the scripts work on: a database of a worker's own, its roles, and a way back to how it was.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use trunkline_cluster::{Cluster, MONITOR_ROLE};
use trunkline_tests::{Login, Wire};

use super::compare::DIRECT;
use super::script::{Script, Step};

/// The objects of the database; dropped and made again where a script has changed them.
const OBJECTS: &str = include_str!("world.sql");
/// Longest wait for something on a replica, as its replay; longer than it waits for queries, which is `max_standby_streaming_delay`.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(60);

/// A database on all servers.
#[derive(Debug)]
pub(crate) struct World {
    number: usize,
    primary: Wire,
    replicas: Vec<Wire>,
    /// The replicas' ports.
    ports: Vec<u16>,
    is_changed: bool,
    has_other_defaults: bool,
}

impl World {
    /// Makes database and roles.
    pub(crate) fn create(cluster: &Cluster, number: usize) -> Self {
        let own = |port| Login::default().connect(port);
        let mut admin = own(cluster.primary.port());
        for role in [
            format!("CREATE ROLE app_{number} LOGIN"),
            format!("CREATE ROLE super_{number} LOGIN SUPERUSER"),
            format!("CREATE ROLE member_{number} NOLOGIN IN ROLE pg_read_all_data"),
            format!("GRANT member_{number} TO app_{number}"),
            // With the superuser's cheap verifier, whose password is "postgres".
            format!(
                "DO $$ DECLARE v text; BEGIN SELECT rolpassword INTO v FROM pg_authid WHERE rolname = 'postgres'; \
                 EXECUTE format('ALTER ROLE app_{number} PASSWORD %L', v); \
                 EXECUTE format('ALTER ROLE super_{number} PASSWORD %L', v); END $$"
            ),
            format!("CREATE DATABASE moves_{number}"),
        ] {
            assert_eq!(admin.query(&role).error, None, "{role}");
        }
        let database = |port| {
            let parameters = vec![("database".to_owned(), format!("moves_{number}"))];
            Login { parameters, ..Login::default() }.connect(port)
        };
        let primary = database(cluster.primary.port());
        let ports: Vec<u16> = cluster.replicas.iter().map(|server| server.port()).collect();
        let replicas = ports.iter().map(|&port| own(port)).collect();
        let mut world =
            Self { number, primary, replicas, ports, is_changed: true, has_other_defaults: false };
        world.await_replay();
        world.restore();
        world
    }

    /// The database's name.
    pub(crate) fn database(&self) -> String {
        format!("moves_{}", self.number)
    }

    /// How a user of the scripts logs in.
    pub(crate) fn login(&self, script: &Script) -> Login {
        let mut login = Login::of(&format!("{}_{}", script.user, self.number), "postgres");
        login.parameters = vec![("database".to_owned(), self.database())];
        login.parameters.extend(script.startup.iter().cloned());
        login
    }

    /// Puts this world's names in place of `{app}`, `{super}`, `{member}` and `{db}`.
    pub(crate) fn localized(&self, step: &Step) -> Step {
        let named = |sql: &str| {
            let number = self.number;
            sql.replace("{app}", &format!("app_{number}"))
                .replace("{super}", &format!("super_{number}"))
                .replace("{member}", &format!("member_{number}"))
                .replace("{db}", &format!("moves_{number}"))
        };
        match step.clone() {
            Step::Query(sql) => Step::Query(named(&sql)),
            Step::UnreadQuery(sql) => Step::UnreadQuery(named(&sql)),
            Step::Ddl(sql) => Step::Ddl(named(&sql)),
            Step::Parse { name, types, sql } => Step::Parse { name, types, sql: named(&sql) },
            Step::Bind { portal, statement, formats, parameters, results } => {
                let parameters = parameters.into_iter().map(|p| p.map(|p| named(&p))).collect();
                Step::Bind { portal, statement, formats, parameters, results }
            }
            other => other,
        }
    }

    /// Changes it, on all servers. An error is the script's business: it then changes nothing.
    pub(crate) fn change(&mut self, sql: &str) {
        let is_about_defaults = sql.contains("ALTER ROLE") || sql.contains("ALTER DATABASE");
        self.is_changed = true;
        self.has_other_defaults |= is_about_defaults;
        let _error_changes_nothing = self.primary.query(sql);
        self.await_replay();
    }

    /// Writes something, so that there is something to replay.
    pub(crate) fn write(&mut self) {
        assert_eq!(self.primary.query("SELECT pg_logical_emit_message(true, 'moves', 'x')").error, None);
    }

    /// Makes it as it was at first.
    pub(crate) fn restore(&mut self) {
        let number = self.number;
        if std::mem::take(&mut self.has_other_defaults) {
            for target in [
                format!("ROLE app_{number}"),
                format!("ROLE super_{number}"),
                format!("ROLE app_{number} IN DATABASE moves_{number}"),
                format!("ROLE super_{number} IN DATABASE moves_{number}"),
                format!("DATABASE moves_{number}"),
            ] {
                self.change(&format!("ALTER {target} RESET ALL"));
            }
            self.has_other_defaults = false;
            self.await_looks_at_defaults();
        }
        if std::mem::take(&mut self.is_changed) {
            let made = self.primary.query(OBJECTS);
            assert_eq!(made.error, None);
            self.await_look_at_functions();
            self.await_replay();
        }
    }

    /// One value from replica `index`, as the superuser.
    pub(crate) fn ask(&mut self, index: usize, sql: &str) -> Vec<Vec<Option<String>>> {
        // Its server may have been killed since it was last asked.
        if !is_quiet(&self.replicas[index]) {
            self.replicas[index] = Login::default().connect(self.ports[index]);
        }
        self.replicas[index].query(sql).rows
    }

    fn await_replay(&mut self) {
        let written = self.primary.value("SELECT pg_current_wal_flush_lsn()");
        let question = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
        for index in 0..self.replicas.len() {
            self.await_true(index, &question);
        }
    }
}

impl World {
    /// Waits for the looks at defaults that a script has changed, and returns whether it has: of a change around a login
    /// the proxy does not know if the server is lost before them.
    pub(crate) fn await_known_defaults(&mut self) -> bool {
        if self.has_other_defaults {
            self.await_looks_at_defaults();
        }
        self.has_other_defaults
    }

    /// Waits until all endpoints have looked at the defaults of the servers that they may use. Of a login before that,
    /// on a server that is lost at once, they do not know what it was given.
    fn await_looks_at_defaults(&mut self) {
        for index in 0..DIRECT {
            let began = self.ask(index, "SELECT clock_timestamp()").remove(0).remove(0).unwrap();
            let question = format!(
                "SELECT bool_and(query_start > '{began}' AND state = 'idle') FROM pg_stat_activity \
                 WHERE query LIKE '%pg_db_role_setting%' AND usename = '{MONITOR_ROLE}'"
            );
            self.await_true(index, &question);
        }
    }

    /// The same of the functions of this database, which an endpoint reads on the primary while they are used. Nobody
    /// reads them before the first session, or after a while without one: the next one waits for a look then.
    fn await_look_at_functions(&mut self) {
        let began = self.primary.value("SELECT clock_timestamp()");
        // A look asks whether anything has changed; if so, it reads everything in a transaction.
        let question = format!(
            "SELECT pid, xact_start > '{began}' OR query_start > '{began}' AND state = 'idle' AND query <> 'COMMIT', \
             state = 'idle' AND (query = 'COMMIT' OR query_start < clock_timestamp() - interval '200 ms') \
             FROM pg_stat_activity WHERE datname = current_database() AND usename = '{MONITOR_ROLE}'"
        );
        let mut look = BTreeSet::new();
        let mut have_looked = || {
            self.primary.query(&question).rows.into_iter().fold(true, |all, row| {
                let [pid, has_begun, has_ended]: [Option<String>; 3] = row.try_into().unwrap();
                let pid = pid.unwrap();
                if has_begun.as_deref() == Some("t") {
                    look.insert(pid.clone());
                }
                all && look.contains(&pid) && has_ended.as_deref() == Some("t")
            })
        };
        let deadline = Instant::now() + REPLAY_TIMEOUT;
        while !have_looked() {
            assert!(Instant::now() < deadline, "the endpoint does not look at the functions");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn await_true(&mut self, index: usize, question: &str) {
        let deadline = Instant::now() + REPLAY_TIMEOUT;
        while self.ask(index, question) != [[Some("t".to_owned())]] {
            assert!(Instant::now() < deadline, "replica {index}: {question}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Nothing waits to be read, and the connection has not ended.
fn is_quiet(wire: &Wire) -> bool {
    wire.stream.is_quiet().unwrap()
}
