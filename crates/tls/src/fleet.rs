//! The TLS of all servers: what is written for all of them, and for one alone.

use std::collections::HashMap;
use std::sync::Arc;

use crate::connect::{ConnectSettings, ServerTls, ServerTlsError};

/// What is written about the TLS of the servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetSettings {
    /// For those that nothing is written for alone.
    pub all: ConnectSettings,
    /// For the server of this host and port.
    pub alone: HashMap<(String, u16), ConnectSettings>,
}

/// The TLS of the servers. Clones share; without any, none is spoken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FleetTls {
    shared: Arc<FleetShared>,
}

#[derive(Debug, Default, PartialEq)]
struct FleetShared {
    settings: FleetSettings,
    all: Option<ServerTls>,
    alone: HashMap<(String, u16), Option<ServerTls>>,
}

/// Why the TLS of a server cannot be had as it is written.
#[derive(Debug, thiserror::Error)]
#[error("{}{error}", server.as_ref().map(|(host, port)| format!("server {host}:{port}: ")).unwrap_or_default())]
pub struct FleetError {
    /// The server, if it is written for one alone.
    pub server: Option<(String, u16)>,
    /// What is wrong.
    pub error: ServerTlsError,
}

impl FleetTls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with the files, or with what is written.
    pub fn load(settings: &FleetSettings) -> Result<Self, FleetError> {
        let all = ServerTls::load(&settings.all).map_err(|error| FleetError { server: None, error })?;
        let mut alone = HashMap::new();
        for (server, written) in &settings.alone {
            let tls = ServerTls::load(written)
                .map_err(|error| FleetError { server: Some(server.clone()), error })?;
            alone.insert(server.clone(), tls);
        }
        Ok(Self { shared: Arc::new(FleetShared { settings: settings.clone(), all, alone }) })
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &FleetSettings {
        &self.shared.settings
    }

    /// The same, with what `known` has by the same settings: files that are replaced are then in force for whoever has that,
    /// too, such as a session that may cancel its query.
    #[must_use]
    pub fn keeping(&self, known: &Self) -> Self {
        let kept = |new: &ServerTls| {
            let known = known.each().find(|known| known.settings() == new.settings());
            known.unwrap_or(new).clone()
        };
        let FleetShared { settings, all, alone } = &*self.shared;
        let alone = alone.iter().map(|(server, tls)| (server.clone(), tls.as_ref().map(kept)));
        Self {
            shared: Arc::new(FleetShared {
                settings: settings.clone(),
                all: all.as_ref().map(kept),
                alone: alone.collect(),
            }),
        }
    }

    /// Whether the TLS of one server is to be another by what is written. Files that are replaced make no difference.
    #[must_use]
    pub fn differs(&self, other: &Self, host: &str, port: u16) -> bool {
        let written = |fleet: &Self| fleet.of(host, port).map(|tls| tls.settings().clone());
        written(self) != written(other)
    }

    /// All that is spoken to any of them.
    pub fn each(&self) -> impl Iterator<Item = &ServerTls> {
        self.shared.all.iter().chain(self.shared.alone.values().flatten())
    }

    /// The TLS of one server; `None` where none is spoken. Unix sockets, which are directories, have none.
    #[must_use]
    pub fn of(&self, host: &str, port: u16) -> Option<&ServerTls> {
        if host.starts_with('/') {
            return None;
        }
        let FleetShared { all, alone, .. } = &*self.shared;
        if alone.is_empty() {
            return all.as_ref();
        }
        alone.get(&(host.to_owned(), port)).unwrap_or(all).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rotation;
    use crate::connect::ServerSslMode;

    /// The TLS of servers by this file of roots, of which one has it by another mode.
    fn by_roots(file: &str, alone: ServerSslMode) -> FleetTls {
        let sslrootcert = Some(file.to_owned());
        let all =
            ConnectSettings { sslmode: ServerSslMode::VerifyCa, sslrootcert, ..ConnectSettings::default() };
        let own = ConnectSettings { sslmode: alone, ..all.clone() };
        let alone = HashMap::from([(("db2".to_owned(), 5432), own)]);
        FleetTls::load(&FleetSettings { all, alone }).unwrap()
    }

    fn write_root(file: &str, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(file, made.cert.pem()).unwrap();
    }

    #[test]
    fn what_is_loaded_again_is_what_it_was_with_the_files_of_now() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("root.crt").to_str().unwrap().to_owned();
        write_root(&file, "before");
        let before = by_roots(&file, ServerSslMode::VerifyFull);
        // Of a session that lives.
        let [held, held_alone] = ["db1", "db2"].map(|host| before.of(host, 5432).unwrap().clone());
        write_root(&file, "by now");
        let new = by_roots(&file, ServerSslMode::Require);
        assert_ne!(new.of("db1", 5432), Some(&held));
        let kept = new.keeping(&before);
        assert_eq!(kept.each().map(ServerTls::look).filter(|look| *look == Rotation::Renewed).count(), 1);
        assert_eq!(new.of("db1", 5432), Some(&held), "it has the files of now");
        assert_eq!(kept.of("db2", 5432), new.of("db2", 5432));
        assert_ne!(kept.of("db2", 5432), Some(&held_alone), "it has another mode");
        assert_eq!(["db1", "db2"].map(|host| kept.differs(&before, host, 5432)), [false, true]);
        let none = FleetTls::default();
        assert!(kept.differs(&none, "db1", 5432) && !kept.differs(&none, "/run", 5432));
    }

    #[test]
    fn a_server_has_its_own_tls_before_that_of_all() {
        let require = ConnectSettings { sslmode: ServerSslMode::Require, ..ConnectSettings::default() };
        let never = ConnectSettings { sslmode: ServerSslMode::Disable, ..ConnectSettings::default() };
        let alone = HashMap::from([(("db1".to_owned(), 5432), never)]);
        let fleet = FleetTls::load(&FleetSettings { all: require, alone }).unwrap();
        assert!(fleet.of("db1", 5432).is_none());
        assert_eq!(fleet.of("db1", 5433).map(ServerTls::mode), Some(ServerSslMode::Require));
        assert!(fleet.of("/run/postgresql", 5432).is_none(), "a directory");
        assert!(FleetTls::default().of("db1", 5433).is_none());
    }

    #[test]
    fn what_is_wrong_names_the_server() {
        let wrong = ConnectSettings { sslmode: ServerSslMode::VerifyFull, ..ConnectSettings::default() };
        let alone = HashMap::from([(("db1".to_owned(), 5432), wrong)]);
        let error = FleetTls::load(&FleetSettings { alone, ..FleetSettings::default() }).unwrap_err();
        assert!(error.to_string().starts_with("server db1:5432: sslmode"), "{error}");
    }
}
