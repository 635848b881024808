//! The flags layer, and the flags themselves.

use std::path::PathBuf;

use trunkline_pool::PoolMode;
use trunkline_proxy::settings::{ListenerOptions, RouteBy};
use trunkline_routing::TargetSessionAttrs;
use trunkline_topology::ExpectedRole;

use super::keys::{self, LISTENER_KEYS, SERVER_KEYS};
use super::raw::{ConfigPurpose, RawConfig};
use super::{Problem, Problems, RawValue, Source};

/// What flags say, in the words of the key table.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Servers given by `--primary` and `--replica`.
    pub servers: Vec<ServerFlag>,
    /// Listeners given by `--reads` and `--writes`.
    pub listeners: Vec<ListenerFlag>,
    /// What the configuration is for.
    pub purpose: ConfigPurpose,
    /// Keys with the flag that sets them: (key, flag, value).
    pub values: Vec<(&'static str, &'static str, String)>,
}

/// One server given by a flag.
#[derive(Clone, Debug)]
pub struct ServerFlag {
    /// The flag.
    pub flag: &'static str,
    /// The role it stands for.
    pub role: ExpectedRole,
    /// `[name=]host:port`.
    pub text: String,
}

/// One listener given by a flag.
#[derive(Clone, Debug)]
pub struct ListenerFlag {
    /// The flag.
    pub flag: &'static str,
    /// Whose sessions come there.
    pub sessions: FlagSessions,
    /// `address:port`.
    pub text: String,
}

/// Whose sessions come to a listener that is given by a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagSessions {
    /// Those that read.
    Reads,
    /// Those that write.
    Writes,
    /// Those that do both: a server is chosen for each request.
    Split,
}

impl FlagSessions {
    /// The name of the listener.
    fn name(self) -> &'static str {
        match self {
            FlagSessions::Reads => "reads",
            FlagSessions::Writes => "writes",
            FlagSessions::Split => "split",
        }
    }

    fn put(self, options: &mut ListenerOptions) {
        match self {
            FlagSessions::Reads => options.target_session_attrs = TargetSessionAttrs::PreferStandby,
            FlagSessions::Writes => options.target_session_attrs = TargetSessionAttrs::ReadWrite,
            FlagSessions::Split => {
                options.target_session_attrs = TargetSessionAttrs::ReadWrite;
                options.pool_mode = Some(PoolMode::Transaction);
                options.route = RouteBy::Statement;
            }
        }
    }
}

/// Flags that say which servers there are and how they are judged.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServerFlags {
    /// Configuration file [default: ./trunkline.toml if there is one]
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,
    /// The primary; may be given more than once
    #[arg(long, value_name = "[NAME=]HOST:PORT", help_heading = "Servers")]
    primary: Vec<String>,
    /// A replica; may be given more than once
    #[arg(long, value_name = "[NAME=]HOST:PORT", help_heading = "Servers")]
    replica: Vec<String>,
    /// How health probes log in, such as "user=monitor password=secret dbname=postgres"
    ///
    /// The process list shows it: outside of tests, leave the password out and set TRUNKLINE__MONITOR__PASSWORD.
    #[arg(long, value_name = "CONNINFO", help_heading = "Servers")]
    monitor: Option<String>,
    /// A replica with more proven lag than this gets no reads [default: 10s]
    #[arg(long, value_name = "DURATION", help_heading = "Servers")]
    max_lag: Option<String>,
    /// HTTP: health checks, metrics, status; "off" for none [default: 127.0.0.1:8008]
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Endpoints")]
    http: Option<String>,
    /// HAProxy's agent-check
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Endpoints")]
    agent: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Log")]
    log_format: Option<String>,
    /// error, warn, info, debug, trace, or a filter [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Log")]
    log_level: Option<String>,
}

/// Flags that only the proxy has.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ProxyFlags {
    /// Where clients read: replicas, or what the fallback says [default: 127.0.0.1:5434]
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Endpoints")]
    reads: Option<String>,
    /// Where clients write: the primary
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Endpoints")]
    writes: Option<String>,
    /// Who authenticates clients: auto, verify, login or relay [default: auto]
    #[arg(long, value_name = "MODE", help_heading = "Configuration")]
    auth: Option<String>,
    /// Log statements that take at least this long; 0 = all [default: off]
    #[arg(long, value_name = "THRESHOLD", help_heading = "Log")]
    log_statements: Option<String>,
    /// File of the admin socket, for `trunkline drain` and its kin; "off" for none [default: in /run/trunkline, or the
    /// user's $XDG_RUNTIME_DIR/trunkline]
    #[arg(long, value_name = "PATH", help_heading = "Endpoints")]
    admin: Option<String>,
    /// Worker threads; 0 = one per core [default: 0]
    #[arg(long, value_name = "N", help_heading = "Configuration")]
    threads: Option<String>,
}

impl From<&ServerFlags> for Flags {
    fn from(given: &ServerFlags) -> Self {
        let server = |flag, role, texts: &[String]| {
            texts.iter().map(move |text| ServerFlag { flag, role, text: text.clone() }).collect::<Vec<_>>()
        };
        let mut servers = server("--primary", ExpectedRole::Primary, &given.primary);
        servers.extend(server("--replica", ExpectedRole::Replica, &given.replica));
        let values = [
            ("monitor.conninfo", "--monitor", &given.monitor),
            ("health.max_lag", "--max-lag", &given.max_lag),
            ("http.listen", "--http", &given.http),
            ("agent.listen", "--agent", &given.agent),
            ("log.format", "--log-format", &given.log_format),
            ("log.level", "--log-level", &given.log_level),
        ];
        Flags { file: given.config.clone(), servers, values: written(&values), ..Flags::default() }
    }
}

impl Flags {
    /// Adds what the proxy's own flags say.
    #[must_use]
    pub fn with_proxy(mut self, given: &ProxyFlags) -> Self {
        let listener = |flag, sessions, text: &Option<String>| {
            text.clone().map(|text| ListenerFlag { flag, sessions, text })
        };
        self.listeners.extend(listener("--reads", FlagSessions::Reads, &given.reads));
        self.listeners.extend(listener("--writes", FlagSessions::Writes, &given.writes));
        self.values.extend(written(&[
            ("admin.socket", "--admin", &given.admin),
            ("auth.mode", "--auth", &given.auth),
            ("log.statements.threshold", "--log-statements", &given.log_statements),
            ("runtime.threads", "--threads", &given.threads),
        ]));
        self
    }
}

type FlagText<'v> = (&'static str, &'static str, &'v Option<String>);

fn written(values: &[FlagText<'_>]) -> Vec<(&'static str, &'static str, String)> {
    values.iter().filter_map(|(key, flag, value)| Some((*key, *flag, (*value).clone()?))).collect()
}

/// Puts what the flags say over `raw`, and adds what is wrong with them to `problems`.
pub fn apply(flags: &Flags, raw: &mut RawConfig, problems: &mut Problems) {
    raw.purpose = flags.purpose;
    for server in &flags.servers {
        put_server(server, raw, problems);
    }
    for listener in &flags.listeners {
        put_listener(listener, raw, problems);
    }
    for (full, flag, value) in &flags.values {
        let (source, value) = (Source::Flag(flag), RawValue::Bare(value.clone()));
        let Some(key) = keys::find(full) else {
            problems.push(Problem::new(&source, *full, "unknown key"));
            continue;
        };
        if *flag == "--monitor" {
            clear_named_parts(&value, &mut raw.monitor);
        }
        if let Err(message) = key.put(raw, &value, &source) {
            problems.push(Problem::new(&source, "", message).hint(key.hint()));
        }
    }
}

/// The parts that a conninfo on the command line names win over the file's and the environment's keys of the
/// same name; a password it leaves out still comes from them.
fn clear_named_parts(conninfo: &RawValue, monitor: &mut super::raw::MonitorSection) {
    let parsed = conninfo.as_text().and_then(|text| text.parse::<tokio_postgres::Config>().ok());
    let Some(parsed) = parsed else { return };
    if parsed.get_user().is_some() {
        monitor.user = None;
    }
    if parsed.get_password().is_some() {
        monitor.password = None;
        monitor.password_command.value = None;
    }
    if parsed.get_dbname().is_some() {
        monitor.dbname = None;
    }
}

fn put_server(given: &ServerFlag, raw: &mut RawConfig, problems: &mut Problems) {
    let source = Source::Flag(given.flag);
    let (name, address) = match given.text.split_once('=') {
        Some((name, address)) => (Some(name), address),
        None => (None, given.text.as_str()),
    };
    let known = name
        .and_then(|name| raw.servers.iter().position(|server| server.name.value.as_deref() == Some(name)));
    let at = known.unwrap_or_else(|| {
        raw.servers.push(keys::new_server(source.clone()));
        raw.servers.len() - 1
    });
    let server = &mut raw.servers[at];
    for (key, value) in [("name", name), ("address", Some(address))] {
        let key = SERVER_KEYS.iter().find(|known| known.name == key).expect("both are keys of a server");
        if let Some(value) = value
            && let Err(message) = key.put(server, &RawValue::Bare(value.to_owned()), &source)
        {
            problems.push(Problem::new(&source, "", message).hint(key.hint()));
        }
    }
    server.spec.expected_role = given.role;
}

fn put_listener(given: &ListenerFlag, raw: &mut RawConfig, problems: &mut Problems) {
    let (source, name) = (Source::Flag(given.flag), given.sessions.name());
    let known = raw.listeners.iter().position(|listener| listener.name.value.as_deref() == Some(name));
    let at = known.unwrap_or_else(|| {
        let mut listener = keys::new_listener(source.clone());
        listener.name.put(Some(name.to_owned()), &source);
        given.sessions.put(&mut listener.options);
        raw.listeners.push(listener);
        raw.listeners.len() - 1
    });
    let key = LISTENER_KEYS.iter().find(|key| key.name == "address").expect("address is a key of a listener");
    let value = RawValue::Bare(given.text.clone());
    if let Err(message) = key.put(&mut raw.listeners[at], &value, &source) {
        problems.push(Problem::new(&source, "", message).hint(key.hint()));
    }
}
