//! The handle: last good answers over restarts, and reloads.

use std::path::Path;

use tokio::runtime::Handle;
use trunkline_discovery::found::AnswerFrom;
use trunkline_discovery::{Discovery, SourceStatus, Surroundings};

use crate::fake::{Fake, Reply};
use crate::patroni::{CLUSTER, ok, patroni};
use crate::{error, names, source, until};

fn start(fake: &Fake, state_dir: &Path) -> Discovery {
    let sources = vec![source("main", patroni(&[&fake.url]))];
    Discovery::start(sources, Some(state_dir.to_owned()), Surroundings::default(), &Handle::current())
}

async fn away() -> Fake {
    Fake::start(|_| Reply::Whole("503 Service Unavailable", String::new())).await
}

fn first(discovery: &Discovery) -> SourceStatus {
    discovery.found().borrow().sources[0].clone()
}

#[tokio::test]
async fn a_restart_without_the_source_goes_on_from_its_last_good_answer() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_| ok(CLUSTER)).await;
    let discovery = start(&fake, directory.path());
    let mut found = discovery.found();
    let before = until(&mut found, |source| source.answer.is_some()).await;
    // The second answer is heard when the first is on disk.
    let second = until(&mut found, |source| source.answer != before.answer).await;
    assert_eq!(second.keep_problem, None);
    drop(discovery);
    let away = away().await;
    let discovery = start(&away, directory.path());
    let at_once = first(&discovery);
    assert_eq!(at_once.members(), before.members(), "there before anybody was asked");
    let source = until(&mut discovery.found(), |source| source.is_failing()).await;
    let answer = source.answer.unwrap();
    assert_eq!(answer.from, AnswerFrom::Disk);
    assert!(answer.at <= before.answer.unwrap().at, "its age is that of the answer");
    assert_eq!(answer.members.len(), 4);
}

#[tokio::test]
async fn a_hostile_file_is_not_used_and_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("discovery-main.json");
    std::fs::write(&file, "{").unwrap();
    let discovery = start(&away().await, directory.path());
    let source = first(&discovery);
    assert_eq!(source.answer, None);
    assert!(source.keep_problem.unwrap().contains("is not used"));
    drop(discovery);
    let fake = Fake::start(|_| ok(CLUSTER)).await;
    let discovery = start(&fake, directory.path());
    until(&mut discovery.found(), |source| source.keep_problem.is_none()).await;
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"pg1\""));
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_told_and_the_source_followed_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_| ok(CLUSTER)).await;
    let discovery = start(&fake, &directory.path().join("missing"));
    let source = until(&mut discovery.found(), |source| source.keep_problem.is_some()).await;
    assert!(source.answer.is_some() && source.keep_problem.unwrap().contains("missing"));
}

#[tokio::test]
async fn a_source_with_other_settings_keeps_its_answer_and_asks_anew() {
    let fake = Fake::start(|_| ok(CLUSTER)).await;
    let runtime = Handle::current();
    let settings = source("main", patroni(&[&fake.url]));
    let discovery = Discovery::start(vec![settings], None, Surroundings::default(), &runtime);
    let mut found = discovery.found();
    until(&mut found, |source| source.answer.is_some()).await;
    let away = away().await;
    discovery.set(vec![source("main", patroni(&[&away.url]))], None);
    let now = until(&mut found, |source| source.is_failing()).await;
    assert!(error(&now).contains("503"), "{}", error(&now));
    assert_eq!(names(&now), "pg1 pg2 pg3 pg4");
    discovery.set(Vec::new(), None);
    tokio::time::timeout(crate::PATIENCE, found.wait_for(|found| found.sources.is_empty()))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn another_directory_gets_the_answer_that_is_there() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fake = Fake::start(|_| ok(CLUSTER)).await;
    let discovery = start(&fake, one.path());
    let mut found = discovery.found();
    until(&mut found, |source| source.answer.is_some()).await;
    discovery.set(vec![source("main", patroni(&[&fake.url]))], Some(other.path().to_owned()));
    until(&mut found, |_| other.path().join("discovery-main.json").exists()).await;
}
