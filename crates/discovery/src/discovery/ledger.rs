//! The task that checks answers, keeps them on disk, and publishes them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::Sources;
use crate::check::check;
use crate::found::{AnswerFrom, Found, GoodAnswer, LastError, SourceStatus};
use crate::kept::{self, KeptAnswer};
use crate::limits::{ERROR_TEXT_MAX, KEPT_AGE_MAX, SOURCES_MAX};
use crate::member::{Member, RoleHint};
use crate::news::{Members, News, NewsSender, SourceError};
use crate::presence::SourceMemory;
use crate::source::{SourceSettings, follow};
use crate::surroundings::Surroundings;

/// What was found, and who is asked.
pub(super) struct Ledger {
    entries: Vec<FollowedSource>,
    state_dir: Option<PathBuf>,
    around: Surroundings,
    runtime: Handle,
    /// Counts tasks.
    tasks: u64,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    found: watch::Sender<Arc<Found>>,
}

/// One source.
struct FollowedSource {
    settings: SourceSettings,
    status: SourceStatus,
    /// Of the task that asks.
    number: u64,
    /// When what is on disk was written, by its own words.
    kept_at: Option<SystemTime>,
    /// What is remembered of members that answers leave out.
    memory: SourceMemory,
    _task: AbortOnDropHandle<()>,
}

impl Ledger {
    /// Reads what is kept and starts the tasks.
    pub(super) fn open(
        sources: &Sources,
        around: Surroundings,
        found: watch::Sender<Arc<Found>>,
        runtime: &Handle,
    ) -> Self {
        let (sender, news) = NewsSender::channel();
        let (entries, state_dir) = (Vec::new(), None);
        let runtime = runtime.clone();
        let mut ledger = Self { entries, state_dir, around, runtime, tasks: 0, sender, news, found };
        ledger.set(sources);
        ledger
    }

    /// Until it is dropped, or nobody can want anything else any more.
    pub(super) async fn run(mut self, mut wanted: watch::Receiver<Arc<Sources>>) {
        loop {
            tokio::select! {
                news = self.news.recv() => match news {
                    Some(news) => self.hear(news).await,
                    None => return,
                },
                changed = wanted.changed() => match changed {
                    Ok(()) => {
                        let sources = Arc::clone(&wanted.borrow_and_update());
                        self.set(&sources);
                    }
                    Err(_) => return,
                },
            }
        }
    }

    /// Reads what is kept of sources that are new: small files, and seldom.
    fn set(&mut self, sources: &Sources) {
        let mut before = std::mem::take(&mut self.entries);
        if self.state_dir != sources.state_dir {
            self.state_dir.clone_from(&sources.state_dir);
            // Nothing is there yet: the next answers are written, whatever they say.
            before.iter_mut().for_each(|entry| entry.kept_at = None);
        }
        for settings in sources.sources.iter().take(SOURCES_MAX) {
            let known = before.iter().position(|entry| entry.settings.name == settings.name);
            let entry = match known.map(|at| before.swap_remove(at)) {
                Some(entry) if entry.settings == *settings => entry,
                Some(entry) if entry.status.kind == settings.kind.as_str() => {
                    let status = SourceStatus { weight: settings.weight, ..entry.status };
                    self.entry(settings, status, entry.kept_at, entry.memory)
                }
                _ => {
                    let (status, kept_at) = self.first_status(settings);
                    let memory = SourceMemory::of(status.members(), Instant::now());
                    self.entry(settings, status, kept_at, memory)
                }
            };
            self.entries.push(entry);
        }
        self.publish();
    }

    fn entry(
        &mut self,
        settings: &SourceSettings,
        status: SourceStatus,
        kept_at: Option<SystemTime>,
        memory: SourceMemory,
    ) -> FollowedSource {
        self.tasks += 1;
        let number = self.tasks;
        let news = NewsSender::new(number, self.sender.clone());
        let (settings, around) = (settings.clone(), self.around.clone());
        let following = follow(settings.clone(), around, memory.clone(), news);
        let task = AbortOnDropHandle::new(self.runtime.spawn(async move { match following.await {} }));
        FollowedSource { settings, status, number, kept_at, memory, _task: task }
    }

    /// Of a source that is new: what is kept of it.
    fn first_status(&self, settings: &SourceSettings) -> (SourceStatus, Option<SystemTime>) {
        let SourceSettings { name, kind, weight, .. } = settings;
        let mut status = SourceStatus {
            name: Arc::clone(name),
            kind: kind.as_str(),
            weight: *weight,
            answer: None,
            role_changes: 0,
            last_error: None,
            errors: 0,
            errors_since: 0,
            keep_problem: None,
        };
        let Some(state_dir) = &self.state_dir else { return (status, None) };
        match kept::read(state_dir, name, kind.as_str(), kind.socket_hosts()) {
            Ok(Some(KeptAnswer { members, at })) => {
                tracing::info!(discovery.source = %name, members = members.len(), "source goes on from its last good answer on disk");
                status.answer = Some(GoodAnswer { members: members.into(), at, from: AnswerFrom::Disk });
                (status, Some(at))
            }
            Ok(None) => (status, None),
            Err(error) => {
                tracing::warn!(discovery.source = %name, %error, "last good answer on disk cannot be used");
                status.keep_problem = Some(bounded(&error.to_string()));
                (status, None)
            }
        }
    }

    async fn hear(&mut self, News { task, members }: News) {
        // Of a task that has been ended since: its source is gone, or has other settings.
        let Some(at) = self.entries.iter().position(|entry| entry.number == task) else { return };
        let now = SystemTime::now();
        let keep = self.entries.get_mut(at).and_then(|entry| entry.hear(members, now));
        self.publish();
        // Who reads what was found does not wait for the disk.
        if let (Some(keep), Some(state_dir), Some(entry)) = (keep, &self.state_dir, self.entries.get_mut(at))
        {
            entry.keep(keep, state_dir.clone(), now).await;
            self.publish();
        }
    }

    fn publish(&self) {
        let sources = self.entries.iter().map(|entry| entry.status.clone()).collect();
        self.found.send_replace(Arc::new(Found { sources }));
    }
}

impl FollowedSource {
    /// What is to be kept on disk now, if anything is.
    fn hear(&mut self, members: Members, now: SystemTime) -> Option<Arc<[Member]>> {
        let checked = members.and_then(|members| {
            check(members, self.settings.kind.socket_hosts()).map_err(SourceError::Faulty)
        });
        match checked {
            Ok(members) => self.believe(members, now),
            Err(error) => {
                self.regret(&error, now);
                None
            }
        }
    }

    fn believe(&mut self, members: Vec<Member>, now: SystemTime) -> Option<Arc<[Member]>> {
        let status = &mut self.status;
        let is_same = status.members() == members;
        if status.is_failing() {
            tracing::info!(discovery.source = %status.name, errors = status.errors_since, "source answers again");
        }
        if !is_same {
            tracing::info!(discovery.source = %status.name, members = members.len(), "source names other members, or other roles");
            status.role_changes += u64::from(has_role_changed(status.members(), &members));
        }
        status.errors_since = 0;
        let members: Arc<[Member]> = match &status.answer {
            Some(answer) if is_same => Arc::clone(&answer.members),
            _ => members.into(),
        };
        status.answer = Some(GoodAnswer { members: Arc::clone(&members), at: now, from: AnswerFrom::Source });
        let is_old =
            self.kept_at.is_none_or(|at| now.duration_since(at).map_or(true, |age| age >= KEPT_AGE_MAX));
        (!is_same || is_old).then_some(members)
    }

    async fn keep(&mut self, members: Arc<[Member]>, state_dir: PathBuf, now: SystemTime) {
        let status = &mut self.status;
        let (name, kind) = (Arc::clone(&status.name), status.kind);
        let writing =
            tokio::task::spawn_blocking(move || kept::write(&state_dir, &name, kind, &members, now));
        let written = match writing.await {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let before = status.keep_problem.take();
        match written {
            Ok(()) => self.kept_at = Some(now),
            Err(error) => {
                let text = bounded(&error);
                if before.as_ref() != Some(&text) {
                    tracing::warn!(discovery.source = %status.name, %error, "last good answer cannot be kept on disk");
                }
                status.keep_problem = Some(text);
            }
        }
    }

    fn regret(&mut self, error: &SourceError, now: SystemTime) {
        let status = &mut self.status;
        let text = bounded(&error.to_string());
        let is_known =
            status.is_failing() && status.last_error.as_ref().is_some_and(|last| last.text == text);
        if !is_known {
            tracing::warn!(discovery.source = %status.name, error = %text, "source gives no answer that can be used: its last good one stays");
        }
        status.errors += 1;
        status.errors_since += 1;
        status.last_error = Some(LastError { text, at: now });
    }
}

/// Whether a member that was there has another role, as far as both answers say.
fn has_role_changed(before: &[Member], now: &[Member]) -> bool {
    now.iter().any(|member| {
        let place = |other: &&Member| other.host == member.host && other.port == member.port;
        before.iter().find(place).map_or(member.role == RoleHint::Primary, |other| other.role != member.role)
    })
}

/// At most [`ERROR_TEXT_MAX`] bytes, without control characters: a source has a say in it.
fn bounded(text: &str) -> Arc<str> {
    let mut bounded = String::new();
    for c in text.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if bounded.len() + c.len_utf8() > ERROR_TEXT_MAX {
            break;
        }
        bounded.push(c);
    }
    bounded.into()
}
