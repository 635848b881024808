//! Real clusters of Patroni, under load: what Patroni does, clients do not notice.
//!
//! Each test has a network of its own, and ends at once where none can be had or Patroni is missing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use trunkline_tests::{Auth, ClientLoad, Endpoint, LoadKind, LoadShare, PatroniCluster, binary, eventually};

const READERS: usize = 16;
const WRITERS: usize = 4;
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Errors that a write may get that was under way when its server was lost, see docs/moving.md.
const LOST: [&str; 4] = ["08006", "57P01", "57P02", "57P03"];

/// A cluster, the proxy before it, and clients.
struct Scene {
    load: ClientLoad,
    endpoint: Endpoint,
    patroni: PatroniCluster,
    began: Instant,
}

impl Scene {
    /// Sets it up, with the servers that `servers` has in the configuration file.
    fn set(patroni: PatroniCluster, servers: &str) -> Self {
        let leader = patroni.leader();
        patroni.psql(&leader, "appdb", ClientLoad::TABLES);
        let mut builder = Endpoint::over_none().toml(servers).auth(Auth::Verify).with_admin();
        for name in patroni.names() {
            builder = builder.awaiting(name);
        }
        let endpoint = builder.start();
        let load = ClientLoad::start((endpoint.reads(), READERS), (endpoint.writes(), WRITERS));
        let scene = Self { load, endpoint, patroni, began: Instant::now() };
        scene.go_on();
        let share = scene.load.take();
        assert!(share.errors.is_empty(), "{:?}", share.errors);
        scene
    }

    /// Waits until every client has had answers since.
    fn go_on(&self) {
        let since = self.load.requests();
        let wanted = since + 20 * u64::try_from(READERS + WRITERS).unwrap();
        eventually(PATIENCE, "clients go on", || self.load.requests() > wanted);
    }

    /// Waits until Patroni has settled, the proxy has all `count` servers, and clients have gone on. Reads may not have
    /// noticed what was done meanwhile, and of each writer at most the insert that was under way.
    #[track_caller]
    fn check(&self, what: &str, count: usize, lost: usize) -> LoadShare {
        self.patroni.await_settled(count);
        let names: Vec<&str> = self.patroni.names().collect();
        let is_up = |name: &&str| self.endpoint.status_of(&format!("/{name}")) == 200;
        eventually(PATIENCE, "the proxy has all servers", || names.iter().all(is_up));
        self.go_on();
        let share = self.load.take();
        eprintln!("{}", described(what, self.began.elapsed(), &share));
        let of = |kind| share.errors_of(kind).collect::<Vec<_>>();
        assert!(of(LoadKind::Read).is_empty(), "{what}: {:?}", of(LoadKind::Read));
        assert!(of(LoadKind::Connect).is_empty(), "{what}: {:?}", of(LoadKind::Connect));
        for writer in 0..WRITERS {
            let errors: Vec<_> =
                share.errors_of(LoadKind::Write).filter(|error| error.client == writer).collect();
            assert!(errors.len() <= lost, "{what}: writer {writer}: {errors:?}");
            assert!(
                errors.iter().all(|error| LOST.contains(&error.error.code.as_str())),
                "{what}: {errors:?}"
            );
        }
        share
    }

    /// Ends the clients, and looks for every insert that was acknowledged.
    fn end(self) {
        let (share, acknowledged) = self.load.end();
        assert!(share.errors.is_empty(), "{:?}", share.errors);
        assert!(!acknowledged.is_empty());
        let sql = "SELECT writer, number FROM written ORDER BY 1, 2";
        let rows = self.patroni.psql(&self.patroni.leader(), "appdb", sql);
        let row = |line: &str| {
            let (writer, number) = line.split_once('|').unwrap();
            (writer.parse().unwrap(), number.parse().unwrap())
        };
        let kept: std::collections::BTreeSet<(usize, u64)> = rows.lines().map(row).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|pair| !kept.contains(pair)).collect();
        assert!(lost.is_empty(), "{} acknowledged inserts are gone: {lost:?}", lost.len());
    }
}

/// One line for a person who looks on; scripts/test_patroni.sh reads it, too.
fn described(what: &str, at: Duration, share: &LoadShare) -> String {
    let [reads, writes, connects] =
        [LoadKind::Read, LoadKind::Write, LoadKind::Connect].map(|kind| share.errors_of(kind).count());
    format!(
        "{:5.1} s  {what}: {} reads, {} writes; slowest read {} ms, slowest write {} ms; \
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

/// A fourth member, which `tell` makes known to the proxy, and which is gone later.
fn a_member_comes_and_goes(scene: &mut Scene, tell: impl Fn(&Scene, MemberChange, &str)) {
    let added = scene.patroni.add();
    tell(scene, MemberChange::Came, &added);
    scene.check("a member added", 4, 0);
    eventually(PATIENCE, "sessions reach it", || scene.endpoint.sessions_on(&added) > 0);
    tell(scene, MemberChange::Goes, &added);
    scene.patroni.remove_last();
    scene.check("a member removed", 3, 0);
    let path = format!("/{added}");
    eventually(PATIENCE, "the proxy forgets it", || scene.endpoint.status_of(&path) == 404);
}

/// What an operator without discovery tells the proxy of.
#[derive(Clone, Copy)]
enum MemberChange {
    Came,
    Goes,
}

#[test]
fn servers_by_name_survive_all_that_patroni_does() {
    if skips() {
        return;
    }
    let patroni = PatroniCluster::start(3);
    let mut tables = String::new();
    for name in patroni.names() {
        write!(tables, "[[server]]\nname = \"{name}\"\naddress = \"{}\"\n", patroni.server(name)).unwrap();
    }
    let mut scene = Scene::set(patroni, &tables);
    everything_that_patroni_does(&mut scene);
    a_member_comes_and_goes(&mut scene, |scene, change, name| {
        let address = scene.patroni.server(name).to_string();
        let (status, said) = match change {
            MemberChange::Came => scene.endpoint.admin(&["server", "add", name, &address]),
            MemberChange::Goes => scene.endpoint.admin(&["server", "remove", name]),
        };
        assert_eq!(status, Some(0), "{said}");
    });
    scene.end();
}
