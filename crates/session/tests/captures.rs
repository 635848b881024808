//! Replays what psql and pgbench really exchanged with PostgreSQL 15, from the first
//! ReadyForQuery on, in the chunks it came in and in others.
//!
//! A capture is a list of chunks: who sent it (0 client, 1 server), its length in four bytes, and
//! its bytes. `TRUNKLINE_CAPTURES=<directory>` replays the captures found there too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use trunkline_session::{
    ClientThen, LossPlan, Mobility, PinReason, RecoveryOptions, ReportTiming, ServerLoss, ServerRole,
    ServerThen, Session, SessionSettings, Sink, StatementRecord, Tracking,
};

struct Chunk {
    is_of_server: bool,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Count(u64);

impl Sink for Count {
    fn statement(&mut self, record: &StatementRecord<'_>) {
        assert!(record.sql.is_some(), "{record:?}");
        self.0 += 1;
    }
}

fn read(path: &Path) -> Vec<Chunk> {
    let bytes = std::fs::read(path).expect("a capture");
    let mut rest = bytes.as_slice();
    let mut chunks = Vec::new();
    while let Some((&[from, a, b, c, d], after)) = rest.split_first_chunk() {
        let (bytes, next) = after.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        chunks.push(Chunk { is_of_server: from == 1, bytes: bytes.to_vec() });
        rest = next;
    }
    chunks
}

fn captures() -> Vec<PathBuf> {
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures").to_owned();
    let directories = [Some(ours), std::env::var("TRUNKLINE_CAPTURES").ok()];
    let entries = directories.into_iter().flatten().flat_map(|d| std::fs::read_dir(d).expect("a directory"));
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

struct Replay {
    session: Session,
    count: Count,
    tails: [Vec<u8>; 2],
    forwarded: [usize; 2],
}

impl Replay {
    fn new() -> Self {
        let settings = SessionSettings {
            sql_bytes_max: 1000,
            report_timing: ReportTiming::Off,
            server: Arc::from("replica1"),
            tracking: Tracking::Full,
            mobility: Mobility::Movable,
            statement_names: trunkline_session::StatementNames::OfClient,
            role: ServerRole::Standby,
            parameters: Arc::default(),
        };
        let session = Session::new(settings, Instant::now());
        Self { session, count: Count::default(), tails: Default::default(), forwarded: [0, 0] }
    }

    fn present(&mut self, is_of_server: bool, bytes: &[u8]) {
        let tail = &mut self.tails[usize::from(is_of_server)];
        tail.extend(bytes);
        let now = Instant::now();
        let forward = if is_of_server {
            let step = self.session.handle_server(tail, now, &mut self.count);
            if matches!(step.then, ServerThen::Farewell | ServerThen::Terminated) {
                return self.end(step.forward);
            }
            assert!(matches!(step.then, ServerThen::ReadOn), "{step:?}");
            step.forward
        } else {
            let step = self.session.handle_client(tail, now, &mut self.count);
            assert!(matches!(step.then, ClientThen::ReadOn | ClientThen::Terminate), "{step:?}");
            step.forward
        };
        tail.drain(..forward);
        self.forwarded[usize::from(is_of_server)] += forward;
    }

    /// The server has ended the connection, and there is no other.
    fn end(&mut self, forward: usize) {
        let options = RecoveryOptions { can_move: false, can_repeat: false };
        let farewell = &self.tails[1][forward..];
        let plan = self.session.handle_server_lost(
            ServerLoss::Eof,
            farewell,
            options,
            Instant::now(),
            &mut self.count,
        );
        assert_eq!(plan, LossPlan::Report(farewell.to_vec().into()));
        self.forwarded[1] += self.tails[1].len();
        self.tails[1].clear();
    }
}

#[test]
fn real_conversations_are_followed_to_their_end() {
    let mut count = 0;
    for path in captures() {
        let chunks = read(&path);
        let sent = |from| chunks.iter().filter(|c| c.is_of_server == from).map(|c| c.bytes.len()).sum();
        for most in [usize::MAX, 1000, 7, 1] {
            let mut replay = Replay::new();
            for chunk in &chunks {
                for part in chunk.bytes.chunks(most) {
                    replay.present(chunk.is_of_server, part);
                }
            }
            let name = path.display();
            // pg_dump leaves its transaction open.
            let pinned = replay.session.pinned();
            assert!(matches!(pinned, None | Some(PinReason::Transaction)), "{name}: {pinned:?}");
            assert_eq!(replay.session.outstanding(), 0, "{name}");
            assert_eq!(replay.forwarded, [sent(false), sent(true)], "{name}");
            assert!(replay.count.0 > 0, "{name}");
            count += replay.count.0;
        }
    }
    println!("{count} statements");
}
