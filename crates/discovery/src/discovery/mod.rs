//! The handle, and the task that owns what was found.
//!
//! Each source has a task that asks and sends; one task, the ledger's, checks what they send, keeps it on disk and publishes
//! it. Nothing is shared: what was found leaves by a channel of which only the newest value counts.

mod ledger;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use self::ledger::Ledger;
use crate::found::Found;
use crate::source::SourceSettings;
use crate::surroundings::Surroundings;

/// What is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sources {
    /// In configuration order.
    sources: Vec<SourceSettings>,
    /// Where last good answers are kept. `None`: nowhere.
    state_dir: Option<PathBuf>,
}

/// Sources that are followed until this is dropped.
#[derive(Debug)]
pub struct Discovery {
    wanted: watch::Sender<Arc<Sources>>,
    found: watch::Receiver<Arc<Found>>,
    _task: AbortOnDropHandle<()>,
}

impl Discovery {
    /// Follows `sources`, at most [`SOURCES_MAX`](crate::limits::SOURCES_MAX), whose names are unique, by tasks of
    /// `runtime`. What is kept in `state_dir` is read before this returns, which may block for as long as a disk does: it
    /// is in [`found`](Self::found) at once.
    #[must_use]
    pub fn start(
        sources: Vec<SourceSettings>,
        state_dir: Option<PathBuf>,
        around: Surroundings,
        runtime: &Handle,
    ) -> Self {
        let (found_sender, found) = watch::channel(Arc::default());
        let sources = Arc::new(Sources { sources, state_dir });
        let (wanted, wanted_receiver) = watch::channel(Arc::clone(&sources));
        let ledger = Ledger::open(&sources, around, found_sender, runtime);
        let task = AbortOnDropHandle::new(runtime.spawn(ledger.run(wanted_receiver)));
        Self { wanted, found, _task: task }
    }

    /// What was found up to now; changes with each answer and each error.
    #[must_use]
    pub fn found(&self) -> watch::Receiver<Arc<Found>> {
        self.found.clone()
    }

    /// Follows these sources from now on. One of which nothing has changed goes on undisturbed; one whose settings have
    /// changed keeps its last good answer and asks anew; what one has said that is gone is forgotten.
    pub fn set(&self, sources: Vec<SourceSettings>, state_dir: Option<PathBuf>) {
        self.wanted.send_replace(Arc::new(Sources { sources, state_dir }));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::dns::{DnsFamily, DnsName, DnsSettings};
    use crate::source::SourceKind;
    use crate::testing::FakeDns;

    const LONG: Duration = Duration::from_secs(3600);

    fn named(dns: &FakeDns, weight: u16) -> Vec<SourceSettings> {
        let kind = SourceKind::Dns(DnsSettings {
            names: vec![DnsName::parse("db.test").unwrap()],
            resolver: Some(dns.address()),
            family: DnsFamily::Auto,
            ttl_min: LONG,
            ttl_max: LONG,
        });
        vec![SourceSettings { name: "dns".into(), kind, weight, interval: LONG }]
    }

    fn members(found: &Found) -> Vec<String> {
        found.sources[0].members().iter().map(|member| member.host.clone()).collect()
    }

    #[tokio::test]
    async fn a_source_whose_keys_change_gives_nobody_up_sooner() {
        let dns = FakeDns::start().unwrap();
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        dns.addresses("db.test", 1, &[ip("10.0.0.1"), ip("10.0.0.2")]);
        let discovery = Discovery::start(named(&dns, 100), None, Surroundings::default(), &Handle::current());
        let mut found = discovery.found();
        let first = found.wait_for(|found| found.sources[0].answer.is_some()).await.unwrap().clone();
        assert_eq!(members(&first), ["10.0.0.1", "10.0.0.2"]);
        dns.addresses("db.test", 1, &[ip("10.0.0.1")]);
        // Asked once anew by other keys, and then not for an hour.
        discovery.set(named(&dns, 50), None);
        let before = first.sources[0].answer.as_ref().unwrap().at;
        let is_new =
            |found: &Arc<Found>| found.sources[0].answer.as_ref().is_some_and(|answer| answer.at > before);
        let second = found.wait_for(is_new).await.unwrap().clone();
        assert_eq!(members(&second), ["10.0.0.1", "10.0.0.2"], "one answer without it is not enough");
        discovery.set(named(&dns, 60), None);
        found.wait_for(|found| members(found) == ["10.0.0.1"]).await.unwrap();
    }
}
