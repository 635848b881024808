//! One server, asked once. PostgreSQL 12 and later.

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use trunkline_health::login::lacks_password;
use trunkline_health::{MonitorLogin, MonitorLoginError};
use trunkline_topology::Endpoint;

use super::walk::LivePlace;
use crate::commands::init::draft::{Granted, RoleFound};
use crate::failure::with_causes;

/// Most rows of pg_stat_replication that are taken.
const STANDBYS_MAX: usize = 1024;

/// What every server says to every role.
const ASK: &str = "SELECT pg_is_in_recovery() AS is_standby, current_setting('server_version_num') AS version, \
    current_setting('server_version') AS version_text, current_setting('ssl') AS ssl, \
    current_setting('max_connections') AS max_connections, current_setting('port') AS port, \
    current_setting('cluster_name') AS cluster_name, pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all, \
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_super, \
    (extract(epoch FROM pg_postmaster_start_time())*1e6)::int8 AS started_us";

/// Which a managed server may refuse.
const IDENTIFY: &str = "SELECT system_identifier FROM pg_control_system()";

const STANDBYS: &str = "SELECT application_name, client_addr, state, sync_state, slot.slot_name \
    FROM pg_stat_replication AS r LEFT JOIN pg_replication_slots AS slot ON slot.active_pid = r.pid \
    WHERE state IS DISTINCT FROM 'backup' ORDER BY application_name, client_addr";

const RECEIVER: &str = "SELECT sender_host, sender_port, slot_name FROM pg_stat_wal_receiver";

/// What one server said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerLook {
    pub(super) role: LookedRole,
    /// `server_version_num`.
    pub(super) version: u32,
    /// `server_version`.
    pub(super) version_text: String,
    /// `ssl`.
    pub(super) ssl: ServerSsl,
    pub(super) max_connections: u32,
    /// The port that it listens on, by itself.
    pub(super) port: Option<u16>,
    pub(super) cluster_name: String,
    pub(super) system_identifier: Option<String>,
    pub(super) started_us: String,
    /// Whether the role that asks sees all statistics.
    pub(super) sees_all: bool,
    /// The monitoring role.
    pub(super) monitor: RoleFound,
}

/// Whether a server has TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ServerSsl {
    On,
    #[default]
    Off,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LookedRole {
    /// A primary, with those that receive from it.
    Primary { standbys: Vec<StandbyRow> },
    /// A standby, with where it receives from, and those that receive from it.
    Standby { sender: Option<LivePlace>, slot: Option<String>, standbys: Vec<StandbyRow> },
}

impl Default for LookedRole {
    fn default() -> Self {
        LookedRole::Primary { standbys: Vec::new() }
    }
}

/// A row of pg_stat_replication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StandbyRow {
    pub(super) application_name: String,
    /// Its address; `None` over a Unix socket, and for a role that may not see it.
    pub(super) address: Option<String>,
    pub(super) state: String,
    pub(super) sync_state: String,
    pub(super) slot: Option<String>,
}

impl ServerLook {
    /// Those that receive from it.
    pub(super) fn standbys(&self) -> &[StandbyRow] {
        match &self.role {
            LookedRole::Primary { standbys } | LookedRole::Standby { standbys, .. } => standbys,
        }
    }

    /// The places that it leads to. The port of a standby is nowhere to be seen: that of this server is tried.
    pub(super) fn names(&self, place: &LivePlace) -> Vec<LivePlace> {
        let port = self.port.unwrap_or(place.port);
        let standbys =
            self.standbys().iter().filter_map(|row| Some(LivePlace { host: row.address.clone()?, port }));
        let sender = match &self.role {
            LookedRole::Standby { sender, .. } => sender.clone(),
            LookedRole::Primary { .. } => None,
        };
        standbys.chain(sender).collect()
    }

    /// Whether two places lead to one postmaster.
    pub(super) fn is_same_server(&self, other: &ServerLook) -> bool {
        (&self.system_identifier, &self.started_us, self.port)
            == (&other.system_identifier, &other.started_us, other.port)
    }

    pub(super) fn is_primary(&self) -> bool {
        matches!(self.role, LookedRole::Primary { .. })
    }
}

/// Logs in and asks.
pub(super) async fn look(
    login: &MonitorLogin,
    endpoint: &Endpoint,
    monitor: &str,
) -> Result<ServerLook, String> {
    let (client, connection) =
        login.connect_as(&login.config, endpoint).await.map_err(|error| in_words(&error))?;
    let driver = tokio::spawn(connection);
    let answer = ask(&client, monitor).await.map_err(|error| error_in_words(&error));
    drop(client);
    driver.abort();
    answer
}

async fn ask(client: &Client, monitor: &str) -> Result<ServerLook, tokio_postgres::Error> {
    // PostgreSQL's own functions, whatever functions of the same name users have created.
    client.batch_execute("SET search_path = pg_catalog").await?;
    let rows = rows(client, ASK).await?;
    let row = rows.first();
    let text = |name: &str| row.and_then(|row| row.get(name)).unwrap_or_default().to_owned();
    // Also what a role without pg_monitor, or a managed server, does not get.
    let standbys: Vec<_> =
        rows_or_none(client, STANDBYS).await.iter().take(STANDBYS_MAX).map(standby).collect();
    let is_standby = text("is_standby") == "t";
    let role = if is_standby {
        let receiver = rows_or_none(client, RECEIVER).await;
        let of =
            |name: &str| receiver.first().and_then(|row| row.get(name)).filter(|value| !value.is_empty());
        let port = of("sender_port").and_then(|port| port.parse().ok());
        let sender =
            of("sender_host").zip(port).map(|(host, port)| LivePlace { host: host.to_owned(), port });
        LookedRole::Standby { sender, slot: of("slot_name").map(str::to_owned), standbys }
    } else {
        LookedRole::Primary { standbys }
    };
    let identifier = rows_or_none(client, IDENTIFY).await;
    Ok(ServerLook {
        role,
        version: text("version").parse().unwrap_or_default(),
        version_text: text("version_text"),
        ssl: if text("ssl") == "on" { ServerSsl::On } else { ServerSsl::Off },
        max_connections: text("max_connections").parse().unwrap_or_default(),
        port: text("port").parse().ok(),
        cluster_name: text("cluster_name"),
        system_identifier: identifier.first().and_then(|row| row.get(0)).map(str::to_owned),
        started_us: text("started_us"),
        sees_all: text("sees_all") == "t",
        monitor: monitoring_role(client, monitor, &text("is_super"), &text("sees_all")).await,
    })
}

fn standby(row: &SimpleQueryRow) -> StandbyRow {
    let text = |name: &str| row.get(name).unwrap_or_default().to_owned();
    StandbyRow {
        application_name: text("application_name"),
        address: row.get("client_addr").filter(|address| !address.is_empty()).map(str::to_owned),
        state: text("state"),
        sync_state: text("sync_state"),
        slot: row.get("slot_name").map(str::to_owned),
    }
}

/// What the monitoring role may. Where it is not there, the role that asks will do if it sees all and is no superuser.
async fn monitoring_role(client: &Client, monitor: &str, is_super: &str, sees_all: &str) -> RoleFound {
    let literal = format!("'{}'", monitor.replace('\'', "''"));
    if let Some(found) = rights(client, &literal).await {
        return found;
    }
    if (is_super, sees_all) != ("f", "t") {
        return RoleFound::Missing;
    }
    let name = rows_or_none(client, "SELECT current_user")
        .await
        .first()
        .and_then(|row| row.get(0))
        .map(str::to_owned);
    match rights(client, "current_user").await {
        Some(RoleFound::There { monitors, secrets, .. }) => RoleFound::There { name, monitors, secrets },
        Some(RoleFound::NotAsked | RoleFound::Missing) | None => RoleFound::Missing,
    }
}

/// Rights of the role that the SQL expression `role` names; `None` without such a role.
async fn rights(client: &Client, role: &str) -> Option<RoleFound> {
    let ask = format!(
        "SELECT pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE') AS monitors, \
         has_table_privilege(r.oid, 'pg_authid', 'SELECT') OR EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n \
         ON n.oid = p.pronamespace WHERE n.nspname = 'trunkline' AND p.proname = 'user_secret' \
         AND has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_function_privilege(r.oid, p.oid, 'EXECUTE')) AS secrets \
         FROM pg_roles r WHERE r.rolname = {role}"
    );
    let rows = rows_or_none(client, &ask).await;
    let row = rows.first()?;
    let granted = |name: &str| if row.get(name) == Some("t") { Granted::Yes } else { Granted::No };
    Some(RoleFound::There { name: None, monitors: granted("monitors"), secrets: granted("secrets") })
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<SimpleQueryRow>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// Nothing where the server refuses to say: what is missing is then said to be unseen.
async fn rows_or_none(client: &Client, sql: &str) -> Vec<SimpleQueryRow> {
    rows(client, sql).await.unwrap_or_default()
}

fn in_words(error: &MonitorLoginError) -> String {
    match error {
        MonitorLoginError::Login(error) if lacks_password(error) => {
            "the server asks for a password, and none is given: set PGPASSWORD".to_owned()
        }
        MonitorLoginError::Login(error) => error_in_words(error),
        MonitorLoginError::Connect(_) | MonitorLoginError::Tls(_) => with_causes(error),
    }
}

fn error_in_words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => with_causes(error),
    }
}
