//! Certificates that are renewed while the proxy runs: whoever renews them replaces their files, and tells nobody.

#![expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Weak;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use trunkline_health::Health;
use trunkline_telemetry::metrics::{CertificateRow, Label as _, TlsLeg};
use trunkline_tls::accept::{AcceptError, AcceptSettings, Acceptor};
use trunkline_tls::connect::ServerTls;
use trunkline_tls::{Certificate, Rotation};

use crate::context::Shared;
use crate::limits::{CERTIFICATE_EXPIRES_SOON, CERTIFICATE_WARNING_INTERVAL, TLS_FILES_INTERVAL};

/// The TLS of clients by these settings: one of `known`, whose files are read again, or a new one.
pub(crate) fn acceptor(
    settings: &AcceptSettings,
    known: &mut Vec<Acceptor>,
) -> Result<Option<Acceptor>, AcceptError> {
    // The files may have changed while their names have not.
    let Some(new) = Acceptor::load(settings)? else { return Ok(None) };
    if let Some(known) = known.iter().find(|known| known.settings() == settings) {
        Files::Clients(known.clone()).look();
        return Ok(Some(known.clone()));
    }
    known.push(new.clone());
    Ok(Some(new))
}

/// Whether TLS may be spoken at all.
pub(crate) fn are_there_any(shared: &Shared) -> bool {
    !all(shared).is_empty()
}

/// Looks at the files now and then, for as long as the proxy runs.
pub(crate) async fn watch(shared: Weak<Shared>) {
    let mut warned = HashMap::new();
    if let Some(shared) = shared.upgrade() {
        all(&shared).iter().for_each(Files::advise);
    }
    loop {
        let Some(shared) = shared.upgrade() else { return };
        // Files may be on a disk that is slow to answer.
        let looked = tokio::task::spawn_blocking(move || {
            look(&shared);
            shared.metrics.certificates().rows()
        });
        if let Ok(rows) = looked.await {
            warn(&rows, &mut warned, Instant::now());
        }
        tokio::time::sleep(TLS_FILES_INTERVAL).await;
    }
}

/// Looks at the files by which probes verify servers, now and then: for who has only these.
pub async fn watch_probes(health: Health) -> Infallible {
    loop {
        let login = health.login();
        let look = move || login.tls.each().for_each(|tls| Files::Servers(tls.clone()).look());
        if let Err(error) = tokio::task::spawn_blocking(look).await {
            tracing::error!(%error, "could not look at the files of TLS");
        }
        tokio::time::sleep(TLS_FILES_INTERVAL).await;
    }
}

/// Puts files in force that have been replaced, and shows what is in force.
pub(crate) fn look(shared: &Shared) {
    let rows = all(shared).into_iter().filter_map(|files| {
        files.look();
        files.row()
    });
    let mut rows: Vec<CertificateRow> = rows.collect();
    // Of several listeners with one file, the one that has a problem with it is shown.
    rows.sort_by_key(|row| (row.leg.index(), row.file.clone(), row.problem.is_none()));
    rows.dedup_by(|later, earlier| later.leg == earlier.leg && later.file == earlier.file);
    shared.metrics.certificates().publish(rows);
}

/// What TLS of one kind is made of.
enum Files {
    Clients(Acceptor),
    Servers(ServerTls),
}

/// All that are in force.
fn all(shared: &Shared) -> Vec<Files> {
    let listeners = shared.listeners.load();
    let clients = listeners.iter().filter_map(|listener| listener.tls.clone());
    let mut all: Vec<Files> = clients.map(Files::Clients).collect();
    all.extend(shared.live().stores.server_tls.each().cloned().map(Files::Servers));
    all
}

impl Files {
    /// Reads them if they have been replaced.
    fn look(&self) {
        let rotation = match self {
            Files::Clients(tls) => tls.look(),
            Files::Servers(tls) => tls.look(),
        };
        let leg = self.leg().word();
        match rotation {
            Rotation::Unchanged => {}
            Rotation::Renewed => {
                self.advise();
                let certificate = self.certificate();
                let days = certificate.as_ref().map(|certificate| days_left(certificate.expires_at));
                tracing::info!(
                    leg,
                    file = certificate.map(|certificate| certificate.file),
                    expires.days = days,
                    "files of TLS were replaced: new connections use them"
                );
            }
            Rotation::Broken => tracing::error!(
                leg,
                problem = self.problem(),
                "files of TLS were replaced and cannot be used: what was before stays in force"
            ),
        }
    }

    /// Logs what costs more than it has to.
    fn advise(&self) {
        if let Some(certificate) = self.certificate().filter(|certificate| certificate.is_rsa) {
            tracing::warn!(
                leg = self.leg().word(),
                file = certificate.file,
                hint = "let its next key be ECDSA (P-256), which every driver of the last ten years knows",
                "the key of a certificate is RSA: a login costs twice as much as with ECDSA"
            );
        }
    }

    fn leg(&self) -> TlsLeg {
        match self {
            Files::Clients(_) => TlsLeg::Client,
            Files::Servers(_) => TlsLeg::Server,
        }
    }

    fn problem(&self) -> Option<String> {
        match self {
            Files::Clients(tls) => tls.problem(),
            Files::Servers(tls) => tls.problem(),
        }
    }

    fn certificate(&self) -> Option<Certificate> {
        match self {
            Files::Clients(tls) => Some(tls.certificate()),
            Files::Servers(tls) => tls.certificate(),
        }
    }

    /// The file that the other end's certificate is checked by.
    fn roots(&self) -> Option<String> {
        match self {
            Files::Clients(tls) => tls.settings().ca_file.clone(),
            Files::Servers(tls) => tls.settings().sslrootcert.clone(),
        }
    }

    /// `None` where there is nothing to show: no certificate of the proxy's, and no problem with those of others.
    fn row(&self) -> Option<CertificateRow> {
        let (certificate, problem) = (self.certificate(), self.problem());
        let expires_at = certificate.as_ref().map(|certificate| certificate.expires_at);
        let file = match certificate {
            Some(certificate) => certificate.file,
            None if problem.is_some() => self.roots()?,
            None => return None,
        };
        Some(CertificateRow { leg: self.leg(), file, expires_at, problem })
    }
}

/// Logs what expires soon: each certificate once in a while.
fn warn(rows: &[CertificateRow], warned: &mut HashMap<String, Instant>, now: Instant) {
    warned.retain(|_, at| now.saturating_duration_since(*at) < CERTIFICATE_WARNING_INTERVAL);
    for row in rows {
        let Some(expires_at) = row.expires_at else { continue };
        let left = expires_at.saturating_sub(unix_now());
        let is_soon = left < i64::try_from(CERTIFICATE_EXPIRES_SOON.as_secs()).unwrap_or(i64::MAX);
        if !is_soon || warned.contains_key(&row.file) {
            continue;
        }
        warned.insert(row.file.clone(), now);
        if left < 0 {
            tracing::warn!(
                leg = row.leg.word(),
                file = row.file,
                "a certificate has expired: peers that verify it refuse"
            );
        } else {
            let days = days_left(expires_at);
            tracing::warn!(
                leg = row.leg.word(),
                file = row.file,
                expires.days = days,
                "a certificate expires soon"
            );
        }
    }
}

/// Whole days until then; below zero afterwards.
fn days_left(at: i64) -> i64 {
    at.saturating_sub(unix_now()).div_euclid(24 * 60 * 60)
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
