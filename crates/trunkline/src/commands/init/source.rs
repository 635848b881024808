//! What a SOURCE is.

use std::path::{Path, PathBuf};

use super::read_source;
use crate::Failure;

/// What to make the configuration from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InitSource {
    /// A live cluster, by a libpq connection string or URI.
    Conninfo(String),
    /// Patroni's REST API, by its URL.
    Patroni(String),
    /// PgBouncer's ini file.
    PgBouncer(PathBuf),
    /// HAProxy's configuration file.
    HaProxy(PathBuf),
}

impl InitSource {
    /// By its prefix, its form, or what is in the file.
    pub(super) fn recognise(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        if let Some((prefix, rest)) = text.split_once(':') {
            let path = || PathBuf::from(rest);
            match prefix {
                "conninfo" => return Ok(InitSource::Conninfo(rest.to_owned())),
                "patroni" => return Ok(InitSource::Patroni(rest.to_owned())),
                "pgbouncer" => return Ok(InitSource::PgBouncer(path())),
                "haproxy" => return Ok(InitSource::HaProxy(path())),
                "postgres" | "postgresql" => return Ok(InitSource::Conninfo(text.to_owned())),
                "http" | "https" => return Ok(InitSource::Patroni(text.to_owned())),
                _ => {}
            }
        }
        let path = Path::new(text);
        if path.is_file() {
            let content = read_source(path)?;
            return of_file(path, &content);
        }
        if text.contains('=') {
            return Ok(InitSource::Conninfo(text.to_owned()));
        }
        let what = if text.is_empty() {
            "is empty".to_owned()
        } else {
            format!("{text:?} is no file, and no connection string")
        };
        Err(Failure::usage(format!("--from {what}")).hint(
            "Write \"host=db1 user=postgres\", postgresql://..., patroni:http://host:8008, or the path of a PgBouncer ini or an \
             HAProxy configuration.",
        ))
    }
}

/// Which program's file it is.
fn of_file(path: &Path, content: &str) -> Result<InitSource, Failure> {
    for line in content.lines().map(str::trim) {
        match line.split_whitespace().next() {
            Some("[databases]" | "[pgbouncer]") => return Ok(InitSource::PgBouncer(path.to_owned())),
            Some("global" | "defaults" | "frontend" | "backend" | "listen") => {
                return Ok(InitSource::HaProxy(path.to_owned()));
            }
            _ => {}
        }
    }
    Err(Failure::usage(format!(
        "{}: neither a PgBouncer ini ([databases], [pgbouncer]) nor an HAProxy configuration (frontend, backend, listen)",
        path.display()
    ))
    .hint("Say what it is with pgbouncer:FILE or haproxy:FILE."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_by_its_form() {
        let of = |text: &str| InitSource::recognise(text).expect("it is known");
        assert_eq!(of("host=db1 user=a"), InitSource::Conninfo("host=db1 user=a".to_owned()));
        assert_eq!(of("postgresql://a@db1/x"), InitSource::Conninfo("postgresql://a@db1/x".to_owned()));
        assert_eq!(of("conninfo:service=x"), InitSource::Conninfo("service=x".to_owned()));
        assert_eq!(of("patroni:http://h:8008"), InitSource::Patroni("http://h:8008".to_owned()));
        assert_eq!(of("http://h:8008"), InitSource::Patroni("http://h:8008".to_owned()));
        assert_eq!(of("haproxy:/nowhere"), InitSource::HaProxy("/nowhere".into()));
        for wrong in ["", "db1", "/nowhere/at.all"] {
            let error = InitSource::recognise(wrong).expect_err("it is nothing").to_string();
            assert!(error.contains("HINT: Write \"host=db1"), "{error}");
        }
    }

    #[test]
    fn a_file_is_known_by_its_sections() {
        let of = |content: &str| of_file(Path::new("f"), content);
        let ini = of("; comment\n[databases]\nx = host=a\n").expect("it is an ini");
        assert_eq!(ini, InitSource::PgBouncer("f".into()));
        assert_eq!(of("# x\nglobal\n  maxconn 5\n").expect("it is"), InitSource::HaProxy("f".into()));
        assert!(of("hello\n").is_err());
    }
}
