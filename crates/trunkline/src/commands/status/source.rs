//! Which running Trunkline is asked: over HTTP, or over its admin socket.

use std::path::PathBuf;

use hyper::Method;

use crate::Failure;
use crate::commands::admin_socket::{self, AdminAnswer, AdminError};
use crate::commands::fetch::{TIMEOUT, get};

/// The default address of Trunkline's HTTP server.
const DEFAULT_HTTP: &str = "127.0.0.1:8008";

/// Flags that say where the state is read from.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct StatusSource {
    /// Trunkline's HTTP address [env: TRUNKLINE_HTTP]
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "admin")]
    http: Option<String>,
    /// Path of the proxy's admin socket [env: TRUNKLINE_ADMIN]
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
}

/// Where to ask.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Http(String),
    /// This socket alone.
    Socket(PathBuf),
    /// The first of the usual sockets that answers; the default HTTP address if none does.
    First,
}

impl StatusSource {
    /// Who answered for `path`, and the body.
    pub(super) fn get(&self, path: &str) -> Result<(String, String), Failure> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match self.asked(variable("TRUNKLINE_HTTP"), variable("TRUNKLINE_ADMIN").map(PathBuf::from)) {
            Asked::Http(address) => over_http(address, path),
            Asked::Socket(socket) => {
                over_socket(&[socket], &[], path).map_err(|error| error.into_failure(true))
            }
            Asked::First => {
                match over_socket(&admin_socket::usual(), &admin_socket::demos(&std::env::temp_dir()), path) {
                    Err(AdminError::NoneAnswers(_)) => over_http(DEFAULT_HTTP.to_owned(), path),
                    answered => answered.map_err(|error| error.into_failure(false)),
                }
            }
        }
    }

    /// A flag wins over a variable.
    fn asked(&self, http: Option<String>, admin: Option<PathBuf>) -> Asked {
        match (self.http.clone(), self.admin.clone()) {
            (Some(address), _) => Asked::Http(address),
            (None, Some(socket)) => Asked::Socket(socket),
            (None, None) => match (http, admin) {
                (Some(address), _) => Asked::Http(address),
                (None, Some(socket)) => Asked::Socket(socket),
                (None, None) => Asked::First,
            },
        }
    }
}

fn over_http(address: String, path: &str) -> Result<(String, String), Failure> {
    let (_, body) = get(&address, path)?;
    Ok((address, body))
}

fn over_socket(places: &[PathBuf], demos: &[PathBuf], path: &str) -> Result<(String, String), AdminError> {
    let AdminAnswer { socket, body, .. } =
        admin_socket::ask_first(TIMEOUT, places, demos, Method::GET, path)?;
    Ok((socket.display().to_string(), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_a_variable_and_http_over_a_socket_that_a_variable_names() {
        let (http, admin) = (|| Some("db:8008".to_owned()), || Some(PathBuf::from("/a.sock")));
        let none = StatusSource::default();
        assert_eq!(none.asked(None, None), Asked::First);
        assert_eq!(
            none.asked(None, admin()),
            Asked::Socket("/a.sock".into()),
            "another socket is another proxy's"
        );
        assert_eq!(none.asked(http(), admin()), Asked::Http("db:8008".to_owned()));
        let socket = StatusSource { admin: admin(), http: None };
        assert_eq!(socket.asked(http(), None), Asked::Socket("/a.sock".into()));
        let address = StatusSource { http: http(), admin: None };
        assert_eq!(address.asked(Some("other:1".to_owned()), admin()), Asked::Http("db:8008".to_owned()));
    }
}
