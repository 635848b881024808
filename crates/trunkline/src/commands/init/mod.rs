//! `trunkline init`: a configuration made of what is there already.
//!
//! A source ([`source`]) is read by the module of its kind into a [`draft`], which [`render`] writes as a commented file.
//! Nothing is changed anywhere.

mod draft;
mod haproxy;
mod live;
mod patroni;
mod pgbouncer;
mod render;
mod source;
#[cfg(test)]
mod testing;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use self::draft::Draft;
pub(super) use self::patroni::{api_url, http_settings};
use self::source::InitSource;
use super::init_sql::{self, DEFAULT_ROLE};
use crate::{Exit, Failure, terminal};

const AFTER: &str = "\
Examples:
  trunkline init --from \"host=db1 user=postgres dbname=app\"
      from a live cluster: any of its servers
  trunkline init --from \"host=db1,db2 port=5432,5433\" --out trunkline.toml
      several servers, where the standbys' ports differ from the primary's
  trunkline init --from patroni:http://10.0.0.11:8008
  trunkline init --from patroni:https://pg1:8008 --ca-file /etc/patroni/ca.crt
  trunkline init --from /etc/pgbouncer/pgbouncer.ini --out trunkline.toml
  trunkline init --from haproxy:/etc/haproxy/haproxy.cfg --out t.toml --force

Nothing is changed anywhere, and nothing but the source is asked. The file says what was found, what could not be seen, and
what has no equal here. It has no password in it: PGPASSWORD is read, as by psql, and never written.
SOURCE is recognised by itself; conninfo:, patroni:, pgbouncer: or haproxy: in front of it says what it is.

Exit status: 0 written, 1 the source could not be read or the file not written, 2 wrong command line.";

/// Longest file of another program that is read, in bytes.
pub(super) const SOURCE_BYTES_MAX: u64 = 4 << 20;

/// Most servers that are taken from a source.
pub(super) const SERVERS_MAX: usize = trunkline_health::SERVERS_MAX;

/// Whoever may read the configuration may read the places of files with secrets: its owner and group.
const FILE_MODE: u32 = 0o640;

/// Flags of `trunkline init`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub(crate) struct Init {
    /// What to make it from: a libpq connection string or URI, patroni:URL, a PgBouncer ini, or an HAProxy configuration
    #[arg(long, value_name = "SOURCE")]
    from: String,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite the file if it is there
    #[arg(long, requires = "out")]
    force: bool,
    /// The monitoring role that the configuration names; it need not be there yet
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ROLE, value_parser = init_sql::role_name)]
    monitor_user: String,
    /// PEM: who vouches for a Patroni of https [default: those that this machine trusts]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Init {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        if let Some(out) = self.out.as_deref().filter(|out| !self.force && out.exists()) {
            return Err(is_there(out));
        }
        let source = InitSource::recognise(&self.from)?;
        if self.ca_file.is_some() && !matches!(source, InitSource::Patroni(_)) {
            return Err(Failure::usage("--ca-file is for a Patroni of https")
                .hint("Of a cluster, write sslrootcert=FILE in the connection string."));
        }
        let draft = match &source {
            InitSource::Conninfo(conninfo) => live::draft(conninfo, &self.monitor_user)?,
            InitSource::Patroni(url) => patroni::draft(url, self.ca_file.as_deref())?,
            InitSource::PgBouncer(path) => pgbouncer::draft(path)?,
            InitSource::HaProxy(path) => haproxy::draft(path)?,
        };
        if draft.servers_found() == 0 {
            return Err(Failure::new(format!("no server was found in {}", draft.source))
                .hint("Is it the right one? A connection string of any server of the cluster will do."));
        }
        let text = render::render(&draft, &self.monitor_user);
        match &self.out {
            None => terminal::print(&text),
            Some(out) => {
                let existing = if self.force { Existing::Replaced } else { Existing::Kept };
                write(out, &text, existing)?;
                terminal::print(&summary(&draft, out));
            }
        }
        Ok(Exit::Success)
    }
}

fn is_there(out: &Path) -> Failure {
    Failure::new(format!("{} is there already", out.display()))
        .hint("Name another file with --out, or overwrite it with --force.")
}

/// What becomes of a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Kept,
    Replaced,
}

fn write(out: &Path, text: &str, existing: Existing) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).mode(FILE_MODE);
    match existing {
        Existing::Replaced => options.create(true).truncate(true),
        Existing::Kept => options.create_new(true),
    };
    let written = options.open(out).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => is_there(out),
        _ => Failure::new(format!("could not write {}: {error}", out.display()))
            .hint("Check that its directory is there and may be written to, or leave --out away."),
    })
}

/// What is said where the configuration itself went to a file.
fn summary(draft: &Draft, out: &Path) -> String {
    let file = out.display();
    let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut said = format!(
        "{file}: {} and {}, from {}\n",
        many(draft.servers_found(), "server"),
        many(draft.listeners.len(), "listener"),
        draft.source
    );
    for (title, lines) in
        [("could not be seen", &draft.unseen), ("has no equal, see the file", &draft.unequal)]
    {
        if !lines.is_empty() {
            said.push_str(&format!("{title}:\n"));
            lines.iter().for_each(|line| said.push_str(&format!("  - {}\n", render::on_one_line(line))));
        }
    }
    said + &format!("next: trunkline check --connect --config {file}\n")
}

/// A file of another program, as text.
fn read_source(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(SOURCE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        Failure::new(format!("could not read {}: {error}", path.display()))
            .hint("Check the path, and that this user may read it.")
    })?;
    if bytes.len() as u64 > SOURCE_BYTES_MAX {
        return Err(Failure::new(format!("{} is longer than {SOURCE_BYTES_MAX} bytes", path.display()))
            .hint("Is it the right file?"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
