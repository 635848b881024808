//! Servers that an operator adds, changes or takes out while the proxy runs.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use trunkline_topology::ExpectedRole;

/// A change of the set of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEdit {
    /// The server's name.
    pub name: String,
    /// What becomes of it.
    pub wanted: WantedServer,
}

/// What becomes of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedServer {
    /// It comes.
    Added(NewPlace, ServerKeys),
    /// It is weighed or placed otherwise.
    Changed(ServerKeys),
    /// It leaves.
    Removed,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPlace {
    /// Host name or address, or the directory of its Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The keys of a server that can be set; what is `None` stays, or is at its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKeys {
    /// The role it is expected to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleWord>,
    /// Its share of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Its zone; an empty one is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// [`ExpectedRole`] as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleWord {
    /// Whatever it reports.
    Any,
    /// The primary.
    Primary,
    /// A standby.
    Replica,
}

impl RoleWord {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

impl From<RoleWord> for ExpectedRole {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Any => Self::Any,
            RoleWord::Primary => Self::Primary,
            RoleWord::Replica => Self::Replica,
        }
    }
}

/// An edit, and where its outcome is awaited.
#[derive(Debug)]
pub struct EditRequest {
    /// What is wanted.
    pub edit: ServerEdit,
    /// Takes the outcome.
    pub answer: oneshot::Sender<Result<(), EditRefusal>>,
}

/// Why the set of servers was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditRefusal {
    /// There is no such server.
    #[error("no server is named \"{name}\"; there are {}", names.join(", "))]
    NoSuch {
        /// What was asked for.
        name: String,
        /// Those there are.
        names: Vec<String>,
    },
    /// Another server has the name.
    #[error("there is a server \"{0}\" already; `trunkline server set` changes it")]
    NameTaken(String),
    /// Another server is there.
    #[error("{host}:{port} is server \"{name}\" already", host = place.host, port = place.port)]
    PlaceTaken {
        /// Where.
        place: NewPlace,
        /// The server that is there.
        name: String,
    },
    /// What is wrong with a name or a key.
    #[error("{0}")]
    Invalid(String),
    /// No room for another.
    #[error("{0}")]
    TooMany(String),
    /// The proxy is stopping.
    #[error("the proxy is stopping")]
    Stopping,
}

/// Has the set of servers changed.
///
/// # Errors
/// Why it was not.
pub async fn ask(edits: &mpsc::Sender<EditRequest>, edit: ServerEdit) -> Result<(), EditRefusal> {
    let (answer, answered) = oneshot::channel();
    edits.send(EditRequest { edit, answer }).await.map_err(|_| EditRefusal::Stopping)?;
    answered.await.unwrap_or(Err(EditRefusal::Stopping))
}
