//! What the service manager is told, if there is one: that the process is ready, how it goes, and that it works.
//!
//! Source: sd_notify(3). Its watchdog is fed only while every worker thread answers a question about its sessions.

use std::time::Duration;

use sd_notify::NotifyState;
use trunkline_health::Health;
use trunkline_proxy::Pulse;

/// Longest time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Reports within the time after which the watchdog ends the process: one that is late is made up for by the next.
const REPORTS_PER_WATCHDOG: u32 = 3;

/// Notifies the manager if NOTIFY_SOCKET is set, as by systemd.
pub(super) fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "could not notify the service manager");
    }
}

/// Reports now and then, in a task of its own, until the process ends. `pulse` is the proxy's, where there is one.
pub(super) fn report(health: Health, pulse: Option<Pulse>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let pause = watchdog.map_or(REPORT_INTERVAL, |limit| (limit / REPORTS_PER_WATCHDOG).min(REPORT_INTERVAL));
    tokio::spawn(async move {
        loop {
            let seen = Seen::look(&health, pulse.as_ref(), watchdog.is_some()).await;
            // A manager that does not read would block the thread, which probes the servers.
            let told =
                tokio::task::spawn_blocking(move || sd_notify::notify(&seen.states(&seen.status()))).await;
            if !matches!(told, Ok(Ok(()))) {
                tracing::debug!(?told, "could not report to the service manager");
            }
            if seen.workers_silent > 0 {
                tracing::warn!(
                    workers = seen.workers_silent,
                    "worker threads do not answer, the watchdog is not fed"
                );
            }
            tokio::time::sleep(pause).await;
        }
    });
}

/// How it goes.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    servers: usize,
    servers_up: usize,
    /// `None` where nothing is proxied.
    sessions: Option<usize>,
    is_draining: bool,
    /// Worker threads that did not answer; none if nobody asked.
    workers_silent: usize,
    has_watchdog: bool,
}

impl Seen {
    async fn look(health: &Health, pulse: Option<&Pulse>, has_watchdog: bool) -> Self {
        let snapshot = health.load_full();
        let is_draining = pulse.is_some_and(Pulse::is_draining);
        let workers_silent = match pulse {
            // Workers end one by one then; the manager has a time limit for that.
            Some(pulse) if has_watchdog && !is_draining => pulse.workers_silent().await,
            Some(_) | None => 0,
        };
        Seen {
            servers: snapshot.servers.len(),
            servers_up: snapshot.servers.iter().filter(|server| server.state.is_fit()).count(),
            sessions: pulse.map(Pulse::sessions),
            is_draining,
            workers_silent,
            has_watchdog,
        }
    }

    /// The line that `systemctl status` shows.
    fn status(&self) -> String {
        let Seen { servers, servers_up, sessions, is_draining, workers_silent, .. } = self;
        let mut text = if *is_draining { "Draining: ".to_owned() } else { String::new() };
        text.push_str(&format!("{servers_up} of {servers} servers up"));
        if let Some(sessions) = sessions {
            text.push_str(&format!(", {sessions} sessions"));
        }
        if *workers_silent > 0 {
            text.push_str(&format!(", {workers_silent} worker threads do not answer"));
        }
        text
    }

    fn states<'s>(&self, status: &'s str) -> Vec<NotifyState<'s>> {
        let is_fed = self.has_watchdog && self.workers_silent == 0;
        let watchdog = is_fed.then_some(NotifyState::Watchdog);
        std::iter::once(NotifyState::Status(status)).chain(watchdog).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seen: Seen) -> Vec<String> {
        let status = seen.status();
        seen.states(&status).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_watchdog_is_fed_only_while_every_worker_answers() {
        let seen =
            Seen { servers: 3, servers_up: 2, sessions: Some(7), has_watchdog: true, ..Seen::default() };
        assert_eq!(told(seen), ["STATUS=2 of 3 servers up, 7 sessions", "WATCHDOG=1"]);
        let silent = told(Seen { workers_silent: 1, ..seen });
        assert_eq!(silent, ["STATUS=2 of 3 servers up, 7 sessions, 1 worker threads do not answer"]);
        let draining = told(Seen { is_draining: true, ..seen });
        assert_eq!(draining, ["STATUS=Draining: 2 of 3 servers up, 7 sessions", "WATCHDOG=1"]);
        assert_eq!(told(Seen { has_watchdog: false, sessions: None, ..seen }), ["STATUS=2 of 3 servers up"]);
    }
}
