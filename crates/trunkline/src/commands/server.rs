//! `trunkline server add`, `set` and `remove`: change which servers there are.

mod save;

use std::fmt::Write as _;
use std::path::PathBuf;

use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::save::SavedEdit;
use super::admin_socket::{AdminAnswer, AdminFlag};
use crate::config::units;
use crate::{Exit, Failure, terminal};

const AFTER: &str = "\
Examples:
  trunkline server add replica3 10.0.0.13:5432 --weight 50
  trunkline server set replica3 --weight 100 --zone eu-west-1a
  trunkline server remove replica3
  trunkline server add replica3 10.0.0.13 --save
      the same, and in the proxy's configuration file

A server that comes is watched at once, and serves when it has passed its checks. One that is removed takes no new sessions; those that it has move at their idle points, and then it is forgotten.
Without --save it holds until the proxy ends; `set` until the configuration is read again.

Exit status: 0 done, 1 not done, 2 wrong command line.";

/// Flags of the command.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct ServerCommand {
    #[command(subcommand)]
    verb: ServerVerb,
}

#[derive(Debug, clap::Subcommand)]
enum ServerVerb {
    /// Add a server
    Add {
        /// Its name, such as replica3
        #[arg(value_name = "SERVER")]
        name: String,
        /// Its host and port [default port: 5432], or /directory:port of its Unix socket
        #[arg(value_name = "HOST:PORT")]
        address: String,
        #[command(flatten)]
        keys: KeyFlags,
        #[command(flatten)]
        how: EditFlags,
    },
    /// Set keys of a server
    Set {
        /// Its name
        #[arg(value_name = "SERVER")]
        name: String,
        #[command(flatten)]
        keys: KeyFlags,
        #[command(flatten)]
        how: EditFlags,
    },
    /// Remove a server
    Remove {
        /// Its name
        #[arg(value_name = "SERVER")]
        name: String,
        #[command(flatten)]
        how: EditFlags,
    },
}

/// Keys of a server.
#[derive(Debug, clap::Args)]
pub(super) struct KeyFlags {
    /// The role it is expected to have: any, primary or replica
    #[arg(long, value_parser = ["any", "primary", "replica"])]
    pub(super) role: Option<String>,
    /// Its share of sessions, compared with the other servers'; 0: none
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(super) weight: Option<u16>,
    /// Its zone; an empty one is none
    #[arg(long)]
    pub(super) zone: Option<String>,
}

/// How it is done.
#[derive(Debug, clap::Args)]
struct EditFlags {
    /// Write it to the configuration file, too: the one that the proxy was started with, or --save=FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    save: Option<Option<PathBuf>>,
    #[command(flatten)]
    socket: AdminFlag,
}

impl KeyFlags {
    fn query(&self) -> String {
        let weight = self.weight.map(|weight| weight.to_string());
        let pairs = [("role", &self.role), ("weight", &weight), ("zone", &self.zone)];
        pairs.into_iter().fold(String::new(), |mut query, (key, value)| {
            if let Some(value) = value {
                let _infallible = write!(query, "&{key}={}", encoded(value));
            }
            query
        })
    }

    fn is_empty(&self) -> bool {
        self.role.is_none() && self.weight.is_none() && self.zone.is_none()
    }
}

impl ServerCommand {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        match self.verb {
            ServerVerb::Add { name, address, keys, how } => {
                let place = units::server(&address).map_err(|why| {
                    Failure::usage(why).hint("Write a host and a port, such as 10.0.0.13:5432.")
                })?;
                let query = format!("add?host={}&port={}{}", encoded(&place.host), place.port, keys.query());
                let config = ask(&how.socket, &name, &query)?;
                terminal::print(&format!("{name}: added, it serves when it has passed its checks\n"));
                save(how.save, config, &SavedEdit::Add { name: &name, address: &address, keys: &keys })
            }
            ServerVerb::Set { keys, .. } if keys.is_empty() => {
                Err(Failure::usage("nothing to set").hint("Name a key: --weight, --role or --zone."))
            }
            ServerVerb::Set { name, keys, how } => {
                let config = ask(&how.socket, &name, &format!("set?{}", keys.query()))?;
                terminal::print(&format!("{name}: set\n"));
                save(how.save, config, &SavedEdit::Set { name: &name, keys: &keys })
            }
            ServerVerb::Remove { name, how } => {
                let config = ask(&how.socket, &name, "remove")?;
                terminal::print(&format!("{name}: leaves, and is forgotten when its sessions have gone\n"));
                save(how.save, config, &SavedEdit::Remove { name: &name })
            }
        }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Asks the proxy; the configuration file that it was started with, if there is one.
fn ask(socket: &AdminFlag, name: &str, wanted: &str) -> Result<Option<PathBuf>, Failure> {
    let path = format!("/servers/{}/{wanted}", encoded(name));
    let AdminAnswer { status, body, .. } = socket.ask(Method::POST, &path)?;
    let said: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    if status == 200 {
        return Ok(said["config"].as_str().map(PathBuf::from));
    }
    let why = said["error"].as_str().map_or_else(|| format!("it said {body:?}"), str::to_owned);
    Err(Failure::new(format!("nothing was changed: {why}")))
}

/// Writes it to the file, if that is wanted.
fn save(
    wanted: Option<Option<PathBuf>>,
    config: Option<PathBuf>,
    edit: &SavedEdit<'_>,
) -> Result<Exit, Failure> {
    let Some(named) = wanted else { return Ok(Exit::Success) };
    let file = named.or(config).ok_or_else(|| {
        Failure::new("it is in force, but not saved: the proxy was started without a configuration file")
            .hint("Name the file: --save=FILE.")
    })?;
    save::save(&file, edit)?;
    terminal::print(&format!("saved in {}\n", file.display()));
    Ok(Exit::Success)
}
