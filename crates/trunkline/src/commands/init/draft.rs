//! What the configuration is to say, wherever that was found.

use trunkline_control::contract::is_path;
use trunkline_routing::{Balance, TargetSessionAttrs};

/// Longest name of a server, in bytes; as `config::checked` has it.
const NAME_BYTES_MAX: usize = 63;

/// A configuration in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// What it is made from, for people: without secrets.
    pub(super) source: String,
    /// What was found, in sentences.
    pub(super) found: Vec<String>,
    /// What could not be seen, and what to do about it.
    pub(super) unseen: Vec<String>,
    /// What the source says that has no equal here, and what to do about it.
    pub(super) unequal: Vec<String>,
    /// The servers.
    pub(super) servers: Vec<DraftServer>,
    /// Servers that may be there, written as a comment.
    pub(super) guesses: Vec<DraftServer>,
    /// Who is asked for servers all the time.
    pub(super) discovery: Option<DraftDiscovery>,
    /// The listeners.
    pub(super) listeners: Vec<DraftListener>,
    /// All other keys.
    pub(super) keys: Vec<DraftKey>,
    /// What is to be done before it serves, beside what is always to be done.
    pub(super) to_do: Vec<String>,
    /// A server that is known to be the primary, for the command that makes the monitoring role.
    pub(super) primary: Option<(String, u16)>,
    /// Database of the monitoring role; `None`: the default.
    pub(super) dbname: Option<String>,
    /// What is known of the monitoring role.
    pub(super) role: RoleFound,
}

/// What is known of the monitoring role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum RoleFound {
    /// Nothing: nobody was asked.
    #[default]
    NotAsked,
    /// It is not there.
    Missing,
    /// It is there.
    There {
        /// The role, where it is not the one that was named.
        name: Option<String>,
        /// Whether it sees the servers' statistics.
        monitors: Granted,
        /// Whether it reads stored secrets.
        secrets: Granted,
    },
}

/// Whether a right is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// A `[[server]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DraftServer {
    /// Its name; `None`: its host.
    pub(super) name: Option<String>,
    /// Host, or the directory of its Unix socket.
    pub(super) host: String,
    /// Port; `None`: unknown.
    pub(super) port: Option<u16>,
    /// Weight, where it is not the default.
    pub(super) weight: Option<u16>,
    /// Whether the source has it out of service.
    pub(super) standing: DraftStanding,
    /// What is known of it.
    pub(super) note: String,
}

/// Whether a server serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DraftStanding {
    /// It does.
    #[default]
    InService,
    /// It is out of service.
    Disabled,
}

/// A `[[discovery.source]]`, from which the servers come.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DraftDiscovery {
    /// Its keys, in order.
    pub(super) keys: Vec<(&'static str, toml::Value)>,
    /// What it means.
    pub(super) note: String,
    /// The servers that it names now, written as a comment: what they would be without it.
    pub(super) members: Vec<DraftServer>,
}

/// A `[[listener]]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DraftListener {
    /// Its name.
    pub(super) name: String,
    /// `address:port`, or `/directory:port`.
    pub(super) address: String,
    /// What its sessions may have.
    pub(super) attrs: TargetSessionAttrs,
    /// How a server is chosen.
    pub(super) balance: Balance,
    /// Further keys.
    pub(super) keys: Vec<(&'static str, toml::Value)>,
    /// Where it comes from, and why it is as it is.
    pub(super) note: String,
}

/// A key of a section.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DraftKey {
    /// Its section, such as `client_tls`.
    pub(super) section: &'static str,
    /// Its name in there.
    pub(super) name: &'static str,
    /// Its value.
    pub(super) value: toml::Value,
    /// Where it comes from, and what it means.
    pub(super) note: String,
}

impl Draft {
    pub(super) fn of(source: impl Into<String>) -> Self {
        Draft { source: source.into(), ..Draft::default() }
    }

    /// Adds a key. What was said first stays.
    pub(super) fn key(
        &mut self,
        section: &'static str,
        name: &'static str,
        value: impl Into<toml::Value>,
        note: impl Into<String>,
    ) {
        if !self.keys.iter().any(|key| (key.section, key.name) == (section, name)) {
            self.keys.push(DraftKey { section, name, value: value.into(), note: note.into() });
        }
    }

    /// Adds a server unless one of the same place is there. A name that it cannot have here is left away.
    pub(super) fn server(&mut self, server: DraftServer) {
        put_server(&mut self.servers, server, &mut self.unseen);
    }

    /// The same for one that the source of `discovery` names.
    pub(super) fn member(&mut self, discovery: &mut DraftDiscovery, member: DraftServer) {
        put_server(&mut discovery.members, member, &mut self.unseen);
    }

    /// How many servers were found, for sure.
    pub(super) fn servers_found(&self) -> usize {
        self.servers.len() + self.discovery.as_ref().map_or(0, |discovery| discovery.members.len())
    }

    /// The usual two listeners on this machine, where the source has none.
    pub(super) fn usual_listeners(&mut self) {
        let of = |name: &str, address: &str, attrs, note: &str| DraftListener {
            name: name.to_owned(),
            address: address.to_owned(),
            attrs,
            balance: Balance::default(),
            keys: Vec::new(),
            note: note.to_owned(),
        };
        self.listeners.push(of(
            "reads",
            "127.0.0.1:5434",
            TargetSessionAttrs::PreferStandby,
            "Reads: replicas that are alive and fresh, and the primary when there is none. For clients on other machines \
             write 0.0.0.0:5434.",
        ));
        self.listeners.push(of(
            "writes",
            "127.0.0.1:5431",
            TargetSessionAttrs::ReadWrite,
            "Writes: the primary, wherever it is.",
        ));
    }

    /// Gives a listener a name that no other has.
    pub(super) fn listener(&mut self, mut listener: DraftListener) {
        let base = listener.name.clone();
        let mut number = 1;
        while self.listeners.iter().any(|known| known.name == listener.name) {
            number += 1;
            listener.name = format!("{base}-{number}");
        }
        self.listeners.push(listener);
    }
}

fn put_server(servers: &mut Vec<DraftServer>, mut server: DraftServer, unseen: &mut Vec<String>) {
    if servers.iter().any(|known| (&known.host, known.port) == (&server.host, server.port)) {
        return;
    }
    if servers.len() >= super::SERVERS_MAX {
        let more = format!("more than {} servers: the others are left out", super::SERVERS_MAX);
        if !unseen.contains(&more) {
            unseen.push(more);
        }
        return;
    }
    server.name = server.name.filter(|name| is_name(servers, name));
    servers.push(server);
}

/// Whether a further server may have the name.
fn is_name(servers: &[DraftServer], name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_taken = servers.iter().any(|known| known.name.as_deref() == Some(name));
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_plain) && !is_path(name) && !is_taken
}
