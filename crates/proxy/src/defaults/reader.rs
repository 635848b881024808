//! Checks whether the defaults of one server have changed, and reads them.
//!
//! It has a connection of its own, without options: settings of the monitoring connection would hide the server's
//! defaults.

#![expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]

use std::sync::Arc;
use std::time::Instant;

use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow, Statement};
use trunkline_health::{Health, MonitorLogin, MonitorLoginError};
use trunkline_topology::{Endpoint, ServerId};

use super::ServerDefaults;
use super::generation::{Builder, Generation, TooManySettings};
use super::identity::Identities;
use super::version::moment;
use crate::limits::{
    DEFAULTS_BYTES_MAX, DEFAULTS_LOOK_GAP_MIN, DEFAULTS_LOOK_INTERVAL, DEFAULTS_LOOK_TIMEOUT,
    DEFAULTS_ROWS_MAX, DEFAULTS_SETTING_BYTES_MAX, IDENTITIES_MAX,
};

/// The `application_name` of these connections.
const APPLICATION_NAME: &str = "trunkline_defaults";

/// How often the defaults are read again if they change meanwhile.
const READS_MAX: usize = 3;

// The connection has the role's own search_path, so all names are qualified: a user's operator, function or type
// of the same name must not be used.

/// When the server was started and last read its configuration, and a text that changes whenever the defaults of a
/// login may.
fn look_sql() -> String {
    let [started, loaded] = [moment("pg_postmaster_start_time"), moment("pg_conf_load_time")];
    format!("SELECT {started}, {loaded}, {OF_NEW_LOGINS}, {OF_NAMES}")
}

const OF_NEW_LOGINS: &str = "pg_catalog.concat_ws(' ', pg_catalog.pg_postmaster_start_time(), pg_catalog.pg_conf_load_time(), \
 (SELECT pg_catalog.md5(pg_catalog.string_agg(\
 pg_catalog.concat_ws('|', s.xmin, d.datname, r.rolname, s.setconfig::pg_catalog.text), \
 ',' ORDER BY s.setdatabase, s.setrole)) FROM pg_catalog.pg_db_role_setting s \
 LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.setdatabase \
 LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) s.setrole), \
 (SELECT pg_catalog.md5(pg_catalog.string_agg(r.rolname, ',' ORDER BY r.rolname)) \
 FROM pg_catalog.pg_roles r WHERE r.rolsuper))";

/// A text that changes whenever the name of a role or database is given to another.
const OF_NAMES: &str = "pg_catalog.concat_ws(' ', \
 (SELECT pg_catalog.concat_ws('|', pg_catalog.count(*), pg_catalog.max(r.oid::pg_catalog.int8), \
 pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat_ws('|', r.oid, r.rolname))::pg_catalog.int8)) \
 FROM pg_catalog.pg_roles r WHERE r.rolcanlogin), \
 (SELECT pg_catalog.concat_ws('|', pg_catalog.count(*), pg_catalog.max(d.oid::pg_catalog.int8), \
 pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat_ws('|', d.oid, d.datname))::pg_catalog.int8)) \
 FROM pg_catalog.pg_database d WHERE d.datallowconn))";

/// A setting with a longer value than is kept is not read.
fn of_server() -> String {
    format!(
        "SELECT name, coalesce(reset_val, ''), context, source, coalesce(boot_val, '') FROM pg_catalog.pg_settings \
         WHERE context OPERATOR(pg_catalog.=) ANY ('{{user,superuser,backend,superuser-backend}}'::pg_catalog.text[]) \
         AND pg_catalog.octet_length(coalesce(reset_val, '')) OPERATOR(pg_catalog.<=) {DEFAULTS_SETTING_BYTES_MAX}"
    )
}

/// The settings of roles and databases, NULL in place of one that is longer than is kept. Limited to about
/// `bytes_max` bytes and to `rows_max` rows.
fn of_roles(rows_max: usize, bytes_max: usize) -> String {
    format!(
        "SELECT of_one_database, datname, of_one_role, rolname, written_by, setting FROM ( \
         SELECT s.setdatabase OPERATOR(pg_catalog.<>) 0::pg_catalog.oid AS of_one_database, d.datname, \
         s.setrole OPERATOR(pg_catalog.<>) 0::pg_catalog.oid AS of_one_role, r.rolname, \
         pg_catalog.concat(s.xmin) AS written_by, c.setting, s.setdatabase, s.setrole, c.number, \
         pg_catalog.sum(coalesce(pg_catalog.octet_length(c.setting), 0)) OVER ( \
         ORDER BY s.setdatabase, s.setrole, c.number \
         ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before \
         FROM pg_catalog.pg_db_role_setting s \
         CROSS JOIN LATERAL (SELECT CASE WHEN pg_catalog.octet_length(u.setting) \
         OPERATOR(pg_catalog.<=) {DEFAULTS_SETTING_BYTES_MAX} THEN u.setting END, u.number \
         FROM pg_catalog.unnest(s.setconfig) WITH ORDINALITY AS u (setting, number)) AS c (setting, number) \
         LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.setdatabase \
         LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) s.setrole) AS all_of_them \
         WHERE coalesce(bytes_before, 0) OPERATOR(pg_catalog.<=) {bytes_max} \
         ORDER BY setdatabase, setrole, number LIMIT {rows_max}"
    )
}

const SUPERUSERS: &str = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper LIMIT ";

/// The OIDs of roles and databases. Not ordered: those of a server that has more than are kept are not told apart.
const ROLES: &str = "SELECT rolname, oid FROM pg_catalog.pg_roles WHERE rolcanlogin LIMIT ";
const DATABASES: &str = "SELECT datname, oid FROM pg_catalog.pg_database WHERE datallowconn LIMIT ";

/// Why the defaults could not be read.
#[derive(Debug, thiserror::Error)]
enum DefaultsReadError {
    #[error(transparent)]
    Login(#[from] MonitorLoginError),
    #[error("{}", words(.0))]
    Query(#[from] tokio_postgres::Error),
    #[error("the server's answer does not fit the query")]
    Malformed,
    #[error(transparent)]
    TooManySettings(#[from] TooManySettings),
    #[error("no answer in time")]
    TimedOut,
}

/// The server's error message, if it sent one.
fn words(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |refusal| refusal.message().to_owned())
}

/// Checks and reads until the task is aborted.
pub(super) async fn look(health: Health, id: ServerId, server: Arc<ServerDefaults>) {
    let mut reader = DefaultsReader { login: health.login(), client: None, seen: None };
    let mut has_complained = false;
    loop {
        match place(&health, id) {
            Some((endpoint, name)) => {
                reader.follow(health.login());
                let looked = timeout(DEFAULTS_LOOK_TIMEOUT, reader.look(&endpoint, &server)).await;
                server.tried();
                match looked.unwrap_or(Err(DefaultsReadError::TimedOut)) {
                    Ok(()) => has_complained = false,
                    Err(error) => {
                        server.failed();
                        // An answer may still be on its way.
                        reader.client = None;
                        if !std::mem::replace(&mut has_complained, true) {
                            tracing::warn!(
                                server.name = %name, %error,
                                "could not read the server's default settings: sessions that move may get different ones"
                            );
                        }
                    }
                }
            }
            // A server that shuts down waits for its clients to disconnect.
            None => reader.client = None,
        }
        // Sessions may log in one after the other, and each check costs the server something.
        sleep(DEFAULTS_LOOK_GAP_MIN).await;
        tokio::select! {
            () = sleep(DEFAULTS_LOOK_INTERVAL - DEFAULTS_LOOK_GAP_MIN) => {}
            () = server.login.notified() => {}
        }
    }
}

/// The address of the server, if it is worth asking.
fn place(health: &Health, id: ServerId) -> Option<(Endpoint, Arc<str>)> {
    let snapshot = health.load();
    let status = snapshot.server(id)?;
    let place = || (status.endpoint(), Arc::clone(&status.name));
    status.state.may_be_asked().then(place)
}

/// A connection to the server.
struct DefaultsClient {
    client: Client,
    /// [`look_sql`], which each check asks: to plan it costs more than to run it.
    look: Statement,
}

struct DefaultsReader {
    /// The monitoring role's, by which the connection was made.
    login: Arc<MonitorLogin>,
    client: Option<DefaultsClient>,
    /// What the last check found, and the generation that was read then.
    seen: Option<(LookFound, Arc<Generation>)>,
}

impl DefaultsReader {
    /// Connects again where a reload has put another login in force.
    fn follow(&mut self, login: Arc<MonitorLogin>) {
        if !Arc::ptr_eq(&login, &self.login) {
            self.login = login;
            self.client = None;
        }
    }

    async fn look(&mut self, endpoint: &Endpoint, server: &ServerDefaults) -> Result<(), DefaultsReadError> {
        if self.client.as_ref().is_none_or(|known| known.client.is_closed()) {
            self.client = Some(connect(&self.login, endpoint).await?);
        }
        let Some(known) = &self.client else { return Ok(()) };
        for _ in 0..READS_MAX {
            let began = Instant::now();
            let look = fingerprint(known).await?;
            let found_by = Instant::now();
            if let Some((seen, _)) = &self.seen
                && *seen == look.found
            {
                server.publish(server.history.load().confirmed(began));
                return Ok(());
            }
            let before = self.seen.as_ref().map(|(_, generation)| &**generation);
            let generation = Arc::new(read(&known.client, &look, before).await?);
            let began_again = Instant::now();
            // Nothing changed between two equal checks, so all that was read belongs together.
            if fingerprint(known).await?.found == look.found {
                tracing::debug!(server.host = %endpoint.host, server.port = endpoint.port, "read the server's default settings");
                server.publish(server.history.load().found(Arc::clone(&generation), found_by, began_again));
                self.seen = Some((look.found, generation));
                return Ok(());
            }
        }
        Ok(())
    }
}

async fn connect(login: &MonitorLogin, endpoint: &Endpoint) -> Result<DefaultsClient, DefaultsReadError> {
    let mut config = login.config.clone();
    config.application_name(APPLICATION_NAME);
    let (client, connection) = login.connect_as(&config, endpoint).await?;
    tokio::spawn(connection);
    let look = client.prepare(&look_sql()).await?;
    Ok(DefaultsClient { client, look })
}

/// The result of a check.
struct Look {
    started: String,
    loaded: String,
    found: LookFound,
}

/// What changes with what is read.
#[derive(PartialEq, Eq)]
struct LookFound {
    of_new_logins: String,
    of_names: String,
}

async fn fingerprint(known: &DefaultsClient) -> Result<Look, DefaultsReadError> {
    let row = known.client.query_one(&known.look, &[]).await?;
    let found = LookFound { of_new_logins: row.try_get(2)?, of_names: row.try_get(3)? };
    Ok(Look { started: row.try_get(0)?, loaded: row.try_get(1)?, found })
}

async fn read(
    client: &Client,
    look: &Look,
    before: Option<&Generation>,
) -> Result<Generation, DefaultsReadError> {
    let mut builder = Builder::default();
    builder.loaded(&look.loaded);
    for row in rows(client, &of_server()).await? {
        builder.server(columns(&row)?)?;
    }
    let limit = DEFAULTS_ROWS_MAX + 1;
    for row in rows(client, &of_roles(limit, DEFAULTS_BYTES_MAX)).await? {
        let name = |is_of_one: usize, name: usize| match (row.get(is_of_one), row.get(name)) {
            (Some("t"), Some(name)) => Some(Some(name)),
            (Some("f"), None) => Some(None),
            // It was dropped.
            _no_one => None,
        };
        if let (Some(database), Some(role), Some(written_by)) = (name(0, 1), name(2, 3), row.get(4)) {
            builder.row(database, role, written_by);
            if let Some(setting) = row.get(5) {
                builder.setting(database, role, setting)?;
            }
        }
    }
    for row in rows(client, &format!("{SUPERUSERS}{limit}")).await? {
        let [name] = columns(&row)?;
        builder.superuser(name)?;
    }
    let mut identities = Identities::default();
    let limit = IDENTITIES_MAX + 1;
    for row in rows(client, &format!("{ROLES}{limit}")).await? {
        let [name, oid] = columns(&row)?;
        identities.role(name, oid.parse().map_err(|_not_a_number| DefaultsReadError::Malformed)?);
    }
    for row in rows(client, &format!("{DATABASES}{limit}")).await? {
        let [name, oid] = columns(&row)?;
        identities.database(name, oid.parse().map_err(|_not_a_number| DefaultsReadError::Malformed)?);
    }
    builder.identities = identities.bounded(&look.found.of_names);
    Ok(builder.finish(&look.started, before))
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<SimpleQueryRow>, DefaultsReadError> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _end => None,
    });
    Ok(rows.collect())
}

fn columns<const N: usize>(row: &SimpleQueryRow) -> Result<[&str; N], DefaultsReadError> {
    let mut columns = [""; N];
    for (index, column) in columns.iter_mut().enumerate() {
        *column = row.try_get(index).ok().flatten().ok_or(DefaultsReadError::Malformed)?;
    }
    Ok(columns)
}
