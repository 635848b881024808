//! Certificates of every kind on every leg, each outcome compared with that of libpq and PostgreSQL, which are over OpenSSL.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::{Command, Stdio};
use std::time::Duration;

use trunkline_cluster::{PgInstall, Server};
use trunkline_tests::{Endpoint, eventually, http_get};

#[path = "tls_certificates/client_leg.rs"]
mod client_leg;
#[path = "tls_certificates/kinds.rs"]
mod kinds;
#[path = "tls_certificates/made.rs"]
mod made;
#[path = "tls_certificates/mutual.rs"]
mod mutual;
#[path = "tls_certificates/server_leg.rs"]
mod server_leg;

use kinds::{Kind, Verdict};
use made::Made;

/// How long a change of state may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// By which `sslmode` a server's certificate is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    /// `require` without a root: whatever it is.
    Require,
    /// `require` with a root.
    RequireWithRoot,
    /// `verify-ca`.
    VerifyCa,
    /// `verify-full`.
    VerifyFull,
}

impl Judged {
    const ALL: [Self; 4] = [Self::Require, Self::RequireWithRoot, Self::VerifyCa, Self::VerifyFull];

    fn name(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::RequireWithRoot => "require-with-root",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Of the newest libpq all are wanted, of older ones the strictest: the others check a part of it.
    fn is_asked_of(self, libpq: &PgInstall) -> bool {
        self == Self::VerifyFull || libpq.major >= 18
    }

    /// The `sslmode`, and whether there is a root.
    fn settings(self) -> (&'static str, bool) {
        match self {
            Self::Require => ("require", false),
            Self::RequireWithRoot => ("require", true),
            Self::VerifyCa => ("verify-ca", true),
            Self::VerifyFull => ("verify-full", true),
        }
    }

    /// Why libpq's rules refuse it, in Trunkline's words.
    fn expected(self, verdict: Verdict) -> Option<&'static str> {
        match verdict {
            Verdict::Taken | Verdict::NotSpoken(_) => None,
            Verdict::ForOtherHost => (self == Self::VerifyFull).then_some("not for this host name"),
            Verdict::Refused(why) | Verdict::KeyTooShort(why) => (self != Self::Require).then_some(why),
        }
    }
}

/// PostgreSQL and its libpq, which say what is right.
struct Judges;

impl Judges {
    /// Settings of a server that presents a certificate.
    fn server_settings(made: &Made, kind: &Kind) -> Vec<(String, String)> {
        let path = |ending: &str| made.path(&format!("{}.{ending}", kind.name));
        [("ssl", "on".to_owned()), ("ssl_cert_file", path("crt")), ("ssl_key_file", path("key"))]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec()
    }

    /// What psql says of the server at a port.
    fn libpq(libpq: &PgInstall, port: u16, made: &Made, kind: &Kind, judged: Judged) -> Result<(), String> {
        let (sslmode, has_root) = judged.settings();
        let root = if has_root { made.path(kind.roots) } else { made.path("nonexistent") };
        let list =
            if kind.list.is_empty() { String::new() } else { format!("sslcrl={}", made.path(kind.list)) };
        // What a login is bound to is another question.
        psql(
            libpq,
            &[],
            port,
            &format!(
                "host={} sslmode={sslmode} sslrootcert={root} {list} channel_binding=disable",
                kind.host
            ),
        )
    }

    /// The same for a login that must be bound to the certificate.
    fn bound(libpq: &PgInstall, port: u16, made: &Made, kind: &Kind) -> Result<(), String> {
        let root = made.path(kind.roots);
        let target =
            format!("host={} sslmode=verify-full sslrootcert={root} channel_binding=require", kind.host);
        psql(libpq, &[], port, &target)
    }
}

/// Whether a psql gets an answer, or what it says.
fn psql(libpq: &PgInstall, environment: &[(&str, String)], port: u16, target: &str) -> Result<(), String> {
    let target = format!(
        "hostaddr=127.0.0.1 port={port} user=postgres password=postgres dbname=appdb gssencmode=disable {target}"
    );
    let mut command = libpq.command("psql");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let output = command.args(["-XAtqc", "SELECT 1", "-d", &target]).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}

/// The machine's own PostgreSQL.
fn machines() -> PgInstall {
    PgInstall::find(None).unwrap()
}

/// Has a server present a certificate from now on.
fn present(server: &Server, made: &Made, kind: &Kind) {
    let settings = Judges::server_settings(made, kind);
    let set: String =
        settings.iter().map(|(name, value)| format!("ALTER SYSTEM SET {name} = '{value}';\n")).collect();
    server.psql(&format!("{set}SELECT pg_reload_conf();")).unwrap();
}

/// Waits until the end at a port presents the certificate of this kind.
fn await_presented(port: u16, made: &Made, kind: &Kind) {
    let wanted = first_certificate(&made.read(&format!("{}.crt", kind.name)));
    eventually(PATIENCE, &format!("{} is presented", kind.name), || {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-starttls", "postgres", "-connect", &format!("127.0.0.1:{port}")]);
        let output = command.args(["-cipher", "DEFAULT@SECLEVEL=0"]).stdin(Stdio::null()).output().unwrap();
        first_certificate(&String::from_utf8_lossy(&output.stdout)) == wanted
    });
}

/// What the probe of a server has come to: `Ok` once it has logged in, or why TLS failed.
fn probed(endpoint: &Endpoint, name: &str) -> Result<(), String> {
    let mut found = None;
    eventually(PATIENCE, &format!("{name} has logged in, or TLS failed"), || {
        let body = http_get(endpoint.http(), "/cluster").unwrap().body;
        let cluster: serde_json::Value = serde_json::from_str(&body).unwrap();
        let members = cluster["members"].as_array().unwrap().clone();
        let member = members.into_iter().find(|member| member["name"] == name).unwrap();
        let reason = member["reason"].as_str().unwrap_or_default().to_owned();
        found = match member["version"].is_null() {
            false => Some(Ok(())),
            true => reason.contains("TLS failed").then_some(Err(reason)),
        };
        found.is_some()
    });
    found.unwrap()
}

/// The letters of the first certificate in a text.
fn first_certificate(text: &str) -> Option<String> {
    let (_, after) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = after.split_once("-----END CERTIFICATE-----")?;
    Some(body.split_whitespace().collect())
}
