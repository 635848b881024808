//! Real clusters of Patroni, under load: what Patroni does, clients do not notice.
//!
//! The test has a network of its own, and ends at once where none can be had or Patroni is missing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use trunkline_tests::{
    Auth, ClientLoad, Endpoint, EndpointBuilder, LoadKind, LoadShare, PatroniCluster, binary, eventually,
};

const READERS: usize = 16;
const WRITERS: usize = 4;
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Errors that a write may get that was under way when its server was lost, see docs/moving.md.
const LOST: [&str; 4] = ["08006", "57P01", "57P02", "57P03"];

/// A cluster, proxies before it that know of its members each in a way of its own, and clients of each.
struct Scene {
    fronts: Vec<Front>,
    patroni: PatroniCluster,
    began: Instant,
}

struct Front {
    way: Way,
    load: ClientLoad,
    endpoint: Endpoint,
    writers: Range<usize>,
}

/// How a proxy knows of the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By `[[server]]`, and what an operator tells it.
    ByName,
    /// By Patroni's REST API.
    ByDiscovery,
}

impl Way {
    fn tables(self, patroni: &PatroniCluster) -> String {
        let server =
            |name| format!("[[server]]\nname = \"{name}\"\naddress = \"{}\"\n", patroni.server(name));
        match self {
            Self::ByName => patroni.names().map(server).collect(),
            Self::ByDiscovery => {
                format!("[[discovery.source]]\nkind = \"patroni\"\nurls = {:?}\n", patroni.urls())
            }
        }
    }
}

impl Front {
    fn open(way: Way, patroni: &PatroniCluster, writers: Range<usize>) -> Self {
        let builder = Endpoint::over_none().toml(&way.tables(patroni)).auth(Auth::Verify).with_admin();
        let endpoint = patroni.names().fold(builder, EndpointBuilder::awaiting).start();
        let load = ClientLoad::start((endpoint.reads(), READERS), (endpoint.writes(), writers.clone()));
        Self { way, load, endpoint, writers }
    }

    /// Waits until every client has had answers since.
    fn go_on(&self) {
        let wanted = self.load.requests() + 20 * u64::try_from(READERS + WRITERS).unwrap();
        eventually(PATIENCE, "clients go on", || self.load.requests() > wanted);
    }

    fn is_up(&self, name: &str) -> bool {
        self.endpoint.status_of(&format!("/{name}")) == 200
    }

    /// What clients have seen: reads may not have failed, and of each writer at most `lost` inserts that were under way.
    #[track_caller]
    fn check(&self, share: &LoadShare, lost: usize) {
        for kind in [LoadKind::Read, LoadKind::Connect] {
            let errors: Vec<_> = share.errors_of(kind).collect();
            assert!(errors.is_empty(), "{:?}: {errors:?}", self.way);
        }
        for writer in self.writers.clone() {
            let errors: Vec<_> =
                share.errors_of(LoadKind::Write).filter(|error| error.client == writer).collect();
            assert!(errors.len() <= lost, "{:?}: {errors:?}", self.way);
            let are_known = errors.iter().all(|error| LOST.contains(&error.error.code.as_str()));
            assert!(are_known, "{:?}: {errors:?}", self.way);
        }
    }
}

impl Scene {
    fn set(patroni: PatroniCluster, ways: &[Way]) -> Self {
        patroni.psql(&patroni.leader(), "appdb", ClientLoad::TABLES);
        let open = |(index, &way)| Front::open(way, &patroni, index * WRITERS..(index + 1) * WRITERS);
        let fronts: Vec<Front> = ways.iter().enumerate().map(open).collect();
        let scene = Self { fronts, patroni, began: Instant::now() };
        scene.check("nothing happens", 3, 0);
        scene
    }

    /// Waits until Patroni has settled, the proxies have all `count` servers, and clients have gone on. Then what they have
    /// seen since the last time.
    #[track_caller]
    fn check(&self, what: &str, count: usize, lost: usize) {
        self.patroni.await_settled(count);
        for front in &self.fronts {
            let all_up = || self.patroni.names().all(|name| front.is_up(name));
            eventually(PATIENCE, "the proxy has all servers", all_up);
            front.go_on();
        }
        for front in &self.fronts {
            let share = front.load.take();
            eprintln!("{}", described(front.way, what, self.began.elapsed(), &share));
            front.check(&share, lost);
        }
    }

    /// Ends the clients, and looks for every insert that was acknowledged.
    fn end(self) {
        let mut acknowledged = Vec::new();
        for front in self.fronts {
            let (share, more) = front.load.end();
            assert!(share.errors.is_empty(), "{:?}", share.errors);
            assert!(!more.is_empty());
            acknowledged.extend(more);
        }
        let rows = self.patroni.psql(&self.patroni.leader(), "appdb", "SELECT writer, number FROM written");
        let row = |line: &str| {
            let (writer, number) = line.split_once('|').unwrap();
            (writer.parse().unwrap(), number.parse().unwrap())
        };
        let kept: BTreeSet<(usize, u64)> = rows.lines().map(row).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|pair| !kept.contains(pair)).collect();
        assert!(lost.is_empty(), "{} acknowledged inserts are gone: {lost:?}", lost.len());
    }
}

/// One line for a person who looks on; scripts/test_patroni.sh reads it, too.
fn described(way: Way, what: &str, at: Duration, share: &LoadShare) -> String {
    let [reads, writes, connects] =
        [LoadKind::Read, LoadKind::Write, LoadKind::Connect].map(|kind| share.errors_of(kind).count());
    format!(
        "{:5.1} s  {way:?}, {what}: {} reads, {} writes; slowest read {} ms, slowest write {} ms; \
         failed: {reads} reads, {writes} writes under way, {connects} connections",
        at.as_secs_f32(),
        share.reads,
        share.writes,
        share.longest_read.as_millis(),
        share.longest_write.as_millis(),
    )
}

fn everything_that_patroni_does(scene: &mut Scene) {
    let to = scene.patroni.synchronous();
    scene.patroni.switch_over(&to);
    scene.check("switchover", 3, 1);

    let old = scene.patroni.leader();
    scene.patroni.kill(&old);
    let _new = scene.patroni.leader_after(&old);
    scene.patroni.start_member(&old);
    scene.check("failover after SIGKILL", 3, 1);

    let old = scene.patroni.leader();
    scene.patroni.cut(&old);
    let _new = scene.patroni.leader_after(&old);
    scene.patroni.heal(&old);
    scene.check("the leader's network cut", 3, 1);

    let leader = scene.patroni.leader();
    let replica = scene.patroni.names().find(|&name| name != leader).unwrap().to_owned();
    scene.patroni.reinit(&replica);
    scene.check("a replica copied again", 3, 0);
}

/// Whether there is nothing to run on; says so.
fn skips() -> bool {
    let missing = PatroniCluster::missing();
    if let Some(why) = missing {
        eprintln!("patroni: SKIPPED, {why}");
    }
    // Built outside of the network of a test, from where no registry is reached.
    let _built = missing.is_none().then(binary);
    missing.is_some()
}

/// A fourth member, which is gone later. Discovery hears of it from the three whose URLs it has.
fn a_member_comes_and_goes(scene: &mut Scene) {
    let added = scene.patroni.add();
    let address = scene.patroni.server(&added).to_string();
    tell(scene, &["server", "add", &added, &address]);
    scene.check("a member added", 4, 0);
    for front in &scene.fronts {
        eventually(PATIENCE, "sessions reach it", || front.endpoint.sessions_on(&added) > 0);
    }
    tell(scene, &["server", "remove", &added]);
    scene.patroni.remove_last();
    scene.check("a member removed", 3, 0);
    for front in &scene.fronts {
        let path = format!("/{added}");
        eventually(PATIENCE, "the proxy forgets it", || front.endpoint.status_of(&path) == 404);
    }
}

/// What an operator tells the proxies that have no discovery.
fn tell(scene: &Scene, words: &[&str]) {
    for front in scene.fronts.iter().filter(|front| front.way == Way::ByName) {
        let (status, said) = front.endpoint.admin(words);
        assert_eq!(status, Some(0), "{said}");
    }
}

#[test]
fn clients_do_not_notice_what_patroni_does() {
    if skips() {
        return;
    }
    let mut scene = Scene::set(PatroniCluster::start(3), &[Way::ByName, Way::ByDiscovery]);
    everything_that_patroni_does(&mut scene);
    a_member_comes_and_goes(&mut scene);
    scene.end();
}
