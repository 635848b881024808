//! A primary and its standbys.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;

use crate::reaper::Reaper;
use crate::server::ClusterShared;
use crate::spec::{MONITOR_PASSWORD, MONITOR_ROLE, REPLICATION_PASSWORD, REPLICATION_ROLE, quote};
use crate::{ClusterError, ClusterSpec, PortLease, Progress, Server, ServerAccount, tool};

/// Longest socket directory: with `/.s.PGSQL.65535` behind it the path must fit into `sockaddr_un`, 107 bytes.
/// Source: unix(7).
const SOCKET_DIR_MAX: usize = 107 - "/.s.PGSQL.65535".len();

/// Running servers. Dropping it stops them and removes their directory.
#[derive(Debug)]
pub struct Cluster {
    /// The server that accepts writes.
    pub primary: Server,
    /// Its standbys, in order.
    pub replicas: Vec<Server>,
    spec: ClusterSpec,
    shared: Arc<ClusterShared>,
    // Dropped last: the servers are down by then.
    _home: Home,
}

impl Cluster {
    /// Creates and starts what `spec` asks for, telling `progress` each step. All standbys stream on return.
    ///
    /// # Errors
    /// What failed and what to do about it; nothing is left behind.
    pub fn start(spec: ClusterSpec, progress: &mut dyn FnMut(Progress)) -> Result<Self, ClusterError> {
        let account = ServerAccount::detect()?;
        account.check_can_enter(&spec.install.bin.join("postgres"))?;
        let home = Home::create(&spec.directory, &account)?;
        let shared = Arc::new(ClusterShared {
            install: spec.install.clone(),
            account,
            environment: spec.environment.clone(),
            socket_dir: home.socket_dir.clone(),
            user: spec.user.clone(),
            password: spec.password.clone(),
            database: spec.database.clone(),
        });
        let primary = create_primary(&spec, &shared, progress)?;
        let mut cluster = Self { primary, replicas: Vec::new(), spec, shared, _home: home };
        cluster.create_replicas(progress)?;
        Ok(cluster)
    }

    /// The directory of the servers' Unix sockets.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.shared.socket_dir
    }

    /// A further standby called `name` that streams from `upstream`, which may be a standby itself.
    /// The caller owns it; it must be dropped before the cluster.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn add_standby(&self, name: &str, upstream: &Server) -> Result<Server, ClusterError> {
        let lease = Arc::new(PortLease::take()?);
        let server = Server::new(name, &self.spec.directory, lease, Arc::clone(&self.shared));
        self.create_standby(&server, upstream)?;
        server.start()?;
        wait_streaming(upstream, name)?;
        Ok(server)
    }

    /// All servers, the primary first.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }

    /// The directory of the data directories.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.spec.directory
    }

    /// Waits until every replica has replayed all that the primary has written so far.
    ///
    /// # Errors
    /// [`ClusterError::TimedOut`] when one does not.
    pub fn wait_caught_up(&self) -> Result<(), ClusterError> {
        let written = self.primary.psql("SELECT pg_current_wal_lsn()")?;
        for replica in &self.replicas {
            let condition = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
            replica.wait_until(&format!("{written} is replayed"), &condition)?;
        }
        Ok(())
    }

    /// Copies the primary for all replicas at once, and starts them.
    fn create_replicas(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), ClusterError> {
        if self.spec.replicas == 0 {
            return Ok(());
        }
        progress(Progress::Copying { replicas: self.spec.replicas });
        let names: Vec<String> = (1..=self.spec.replicas).map(|number| format!("replica{number}")).collect();
        let (tell, told) = mpsc::channel();
        let this = &*self;
        let created: Vec<Result<Server, ClusterError>> = std::thread::scope(|scope| {
            let workers: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(index, name)| {
                    let tell = tell.clone();
                    scope.spawn(move || this.create_replica(index, name, &tell))
                })
                .collect();
            drop(tell);
            told.iter().for_each(progress);
            workers.into_iter().map(|worker| worker.join().expect("the worker returns its errors")).collect()
        });
        self.replicas = created.into_iter().collect::<Result<_, _>>()?;
        Ok(())
    }

    fn create_replica(
        &self,
        index: usize,
        name: &str,
        tell: &mpsc::Sender<Progress>,
    ) -> Result<Server, ClusterError> {
        let lease = take_port(&self.spec, index + 1)?;
        let server = Server::new(name, &self.spec.directory, lease, Arc::clone(&self.shared));
        self.create_standby(&server, &self.primary)?;
        server.start()?;
        // The receiver lives as long as this thread: a send cannot fail.
        let _sent = tell.send(Progress::Started { server: name.to_owned(), port: server.port() });
        wait_streaming(&self.primary, name)?;
        let _sent = tell.send(Progress::Streaming { server: name.to_owned() });
        Ok(server)
    }

    /// The data directory of a standby of `upstream`. The copy itself always comes from the primary, because
    /// a standby cannot be copied while full_page_writes is off.
    fn create_standby(&self, server: &Server, upstream: &Server) -> Result<(), ClusterError> {
        let name = server.name();
        // Reserved at once: the WAL that the standby needs stays, also while it is down.
        upstream.psql(&format!("SELECT pg_create_physical_replication_slot({}, true)", quote(name)))?;
        let mut command = self.tool("pg_basebackup");
        command.args(["--checkpoint=fast", "--no-sync", "--no-manifest", "--wal-method=stream"]);
        command.arg("-h").arg(&self.shared.socket_dir).args(["-p", &self.primary.port().to_string()]);
        command.args(["-U", &self.shared.user, "-D"]).arg(server.data_dir());
        tool::run(&mut command, "pg_basebackup")?;
        let conninfo = format!(
            "host=127.0.0.1 port={} user={REPLICATION_ROLE} password={REPLICATION_PASSWORD} application_name={name}",
            upstream.port()
        );
        let own =
            [("primary_conninfo".to_owned(), conninfo), ("primary_slot_name".to_owned(), name.to_owned())];
        write_settings(&self.spec, &self.shared, server, &own)?;
        self.write(server, "standby.signal", "")
    }

    fn tool(&self, name: &str) -> Command {
        shared_tool(&self.shared, &self.spec.directory, name)
    }

    fn write(&self, server: &Server, file: &str, text: &str) -> Result<(), ClusterError> {
        write_owned(&self.shared, &server.data_dir().join(file), text)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All at once: a primary that shuts down waits for its standbys, and the reverse costs nothing.
        std::thread::scope(|scope| {
            for server in std::iter::once(&self.primary).chain(&self.replicas) {
                scope.spawn(|| server.end());
            }
        });
    }
}

/// The directories of a cluster, and the watcher that removes them should we die.
#[derive(Debug)]
struct Home {
    directory: PathBuf,
    socket_dir: PathBuf,
    reaper: Option<Reaper>,
}

impl Home {
    fn create(directory: &Path, account: &ServerAccount) -> Result<Self, ClusterError> {
        let is_taken = std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some());
        if is_taken {
            return Err(ClusterError::NotEmpty { directory: directory.to_path_buf() });
        }
        account.create_directory(directory)?;
        let inside = directory.join("sockets");
        let socket_dir =
            if inside.as_os_str().len() <= SOCKET_DIR_MAX { inside } else { short_socket_dir(directory)? };
        let mut home = Self { directory: directory.to_path_buf(), socket_dir, reaper: None };
        account.check_can_enter(&home.directory.join("primary"))?;
        account.create_directory(&home.socket_dir)?;
        let reaper = Reaper::watch(directory).map_err(ClusterError::io("start the clean-up watcher"))?;
        home.reaper = Some(reaper);
        Ok(home)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for directory in [&self.directory, &self.socket_dir] {
            // Inside the other, it is gone already.
            let _absent = std::fs::remove_dir_all(directory);
        }
    }
}

/// A socket directory for a cluster whose own path is too long for one.
fn short_socket_dir(directory: &Path) -> Result<PathBuf, ClusterError> {
    let failed = ClusterError::io(format!("create a socket directory for {}", directory.display()));
    tempfile::Builder::new()
        .prefix("trunkline-")
        .tempdir_in("/tmp")
        .map(tempfile::TempDir::keep)
        .map_err(failed)
}

fn create_primary(
    spec: &ClusterSpec,
    shared: &Arc<ClusterShared>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Server, ClusterError> {
    progress(Progress::Initializing { major: spec.install.major });
    let lease = take_port(spec, 0)?;
    let server = Server::new("primary", &spec.directory, lease, Arc::clone(shared));
    let mut initdb = shared_tool(shared, &spec.directory, "initdb");
    initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust", "-U", &spec.user, "-D"]);
    initdb.arg(server.data_dir());
    tool::run(&mut initdb, "initdb")?;
    write_settings(spec, shared, &server, &[])?;
    write_owned(shared, &server.data_dir().join("pg_hba.conf"), &spec.hba_text())?;
    if let Some(made) = &spec.certificate {
        // Copied to the standbys with all the rest.
        write_owned(shared, &server.data_dir().join("server.crt"), &made.certificate)?;
        write_private(shared, &server.data_dir().join("server.key"), &made.key)?;
    }
    server.start()?;
    create_roles(spec, &server)?;
    progress(Progress::Started { server: "primary".into(), port: server.port() });
    Ok(server)
}

/// The superuser's password, the roles of standbys and probes, and the database.
fn create_roles(spec: &ClusterSpec, primary: &Server) -> Result<(), ClusterError> {
    let monitor = [
        format!("CREATE ROLE {MONITOR_ROLE} LOGIN PASSWORD {}", quote(MONITOR_PASSWORD)),
        format!("GRANT pg_monitor TO {MONITOR_ROLE}"),
        format!("ALTER ROLE {MONITOR_ROLE} SET statement_timeout = '1s'"),
        format!("ALTER ROLE {MONITOR_ROLE} SET lock_timeout = '500ms'"),
        format!("ALTER ROLE {MONITOR_ROLE} SET idle_in_transaction_session_timeout = '5s'"),
        format!("ALTER ROLE {MONITOR_ROLE} SET default_transaction_read_only = on"),
    ];
    let others = [
        format!("ALTER ROLE {} PASSWORD {}", identifier(&spec.user), quote(&spec.password)),
        format!("CREATE ROLE {REPLICATION_ROLE} LOGIN REPLICATION PASSWORD {}", quote(REPLICATION_PASSWORD)),
        format!("CREATE DATABASE {}", identifier(&spec.database)),
    ];
    let statements: String = monitor.iter().chain(&others).map(|sql| format!("{sql};\n")).collect();
    primary.psql_in("postgres", &statements)?;
    // The monitoring role reads pg_authid for `verify`; privileges on a shared catalogue are kept per database.
    primary.psql(&format!("GRANT SELECT ON pg_authid TO {MONITOR_ROLE}")).map(drop)
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn take_port(spec: &ClusterSpec, index: usize) -> Result<Arc<PortLease>, ClusterError> {
    spec.ports.get(index).map_or_else(|| PortLease::take().map(Arc::new), |lease| Ok(Arc::clone(lease)))
}

fn shared_tool(shared: &ClusterShared, directory: &Path, name: &str) -> Command {
    let mut command = shared.install.command(name);
    // The caller's working directory may be closed to the servers' user.
    command.current_dir(directory);
    shared.account.apply(&mut command);
    command
}

fn write_settings(
    spec: &ClusterSpec,
    shared: &ClusterShared,
    server: &Server,
    own: &[(String, String)],
) -> Result<(), ClusterError> {
    let mut all = vec![
        ("port".to_owned(), server.port().to_string()),
        ("unix_socket_directories".to_owned(), shared.socket_dir.display().to_string()),
        ("cluster_name".to_owned(), server.name().to_owned()),
    ];
    all.extend_from_slice(own);
    write_owned(shared, &server.data_dir().join("postgresql.conf"), &spec.settings_text(&all))
}

fn write_owned(shared: &ClusterShared, path: &Path, text: &str) -> Result<(), ClusterError> {
    std::fs::write(path, text).map_err(ClusterError::io(format!("write {}", path.display())))?;
    shared.account.own(path)
}

/// As [`write_owned`], for the owner's eyes alone.
fn write_private(shared: &ClusterShared, path: &Path, text: &str) -> Result<(), ClusterError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(ClusterError::io(format!("write {}", path.display())))?;
    shared.account.own(path)
}

fn wait_streaming(upstream: &Server, name: &str) -> Result<(), ClusterError> {
    let name_literal = quote(name);
    let condition = format!(
        "SELECT EXISTS (SELECT 1 FROM pg_stat_replication
         WHERE state = 'streaming' AND application_name = {name_literal})"
    );
    upstream.wait_until(&format!("{name} streams"), &condition)
}
