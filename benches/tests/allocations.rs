//! A query through the whole proxy costs no allocation, once its session has seen one like it.
//!
//! The proxy runs in this process, its server beside it, and the client works in memory of its own. What health
//! and metrics allocate meanwhile is counted, too, and about as much again without queries is taken off. What is left of it
//! bounds how fine the test can be: one allocation in ten queries, where a single one on the way of each would be ten.

use std::alloc::System;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use trunkline::config::flags::Flags;
use trunkline::config::{ConfigSources, checked, load};
use trunkline_bench::load::{Mode, request};
use trunkline_cluster::PortLease;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Queries that are counted.
const QUERIES: usize = 10_000;
/// Queries before, in which buffers find their size.
const WARM_UP: usize = 200;
/// Allocations of everything in the process meanwhile.
const BUDGET: usize = QUERIES / 10;

fn main() {
    let (mut server, port) = server();
    let address = proxy_before(port);
    for mode in [Mode::Simple, Mode::Extended] {
        let counted = allocations(address, mode);
        assert!(counted <= BUDGET, "{counted} allocations in {QUERIES} {mode:?} queries");
        println!("{counted} allocations in {QUERIES} {mode:?} queries: ok");
    }
    let _gone = server.kill();
    let _reaped = server.wait();
}

fn server() -> (Child, u16) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_fakepg"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("fakepg runs");
    let mut port = String::new();
    let said = server.stdout.take().expect("it is piped");
    BufReader::new(said).read_line(&mut port).expect("it says its port");
    (server, port.trim().parse().expect("a port"))
}

/// Where the proxy listens; it runs as long as the process.
fn proxy_before(port: u16) -> SocketAddr {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("trunkline.toml");
    let own = PortLease::take().expect("a free port").port();
    let text = format!(
        "[[server]]\naddress = \"127.0.0.1:{port}\"\nrole = \"primary\"\n\
         [[listener]]\naddress = \"127.0.0.1:{own}\"\n\
         [monitor]\nuser = \"bench\"\ndbname = \"bench\"\n\
         [auth]\nmode = \"relay\"\n[http]\nlisten = \"off\"\n[runtime]\nthreads = 1\n"
    );
    std::fs::write(&file, text).expect("the directory takes a file");
    let request =
        ConfigSources { flags: Flags { file: Some(file), ..Flags::default() }, environment: HashMap::new() };
    let checked = checked::settings(load(&request)).unwrap_or_else(|problems| panic!("{problems}"));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let running = trunkline_proxy::serve(checked.proxy, None).await.expect("it starts");
            let address = running.bound().listeners[0].to_string();
            tell.send(address.parse().expect("it listens over TCP")).expect("somebody waits");
            std::future::pending::<()>().await;
        });
    });
    told.recv().expect("it listens")
}

fn allocations(address: SocketAddr, mode: Mode) -> usize {
    let (mut stream, mut space) = (TcpStream::connect(address).expect("it listens"), [0; 64 * 1024]);
    stream.set_nodelay(true).expect("a socket");
    let body = b"\0\x03\0\0user\0bench\0database\0bench\0\0";
    let length = u32::try_from(body.len() + 4).expect("short");
    stream.write_all(&[&length.to_be_bytes()[..], body].concat()).expect("a login");
    read_answer(&mut stream, &mut space);
    let request =
        request(mode, "SELECT abalance FROM pgbench_accounts WHERE aid = 4711").expect("a short statement");
    let mut ask = |times: usize| {
        for _ in 0..times {
            stream.write_all(&request).expect("the proxy takes it");
            read_answer(&mut stream, &mut space);
        }
    };
    ask(WARM_UP);
    let region = Region::new(ALLOCATOR);
    let begun = Instant::now();
    ask(QUERIES);
    let (took, with_queries) = (begun.elapsed(), counted(&region));
    // A busy machine takes longer, in which health and metrics allocate more.
    let region = Region::new(ALLOCATOR);
    std::thread::sleep(took);
    with_queries.saturating_sub(counted(&region))
}

fn counted(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.allocations + change.reallocations
}

fn read_answer(stream: &mut TcpStream, space: &mut [u8]) {
    let mut filled = 0;
    while !space[..filled].ends_with(b"Z\0\0\0\x05I") {
        let read = stream.read(&mut space[filled..]).expect("an answer");
        assert_ne!(read, 0, "the session ended: {}", String::from_utf8_lossy(&space[..filled]));
        filled += read;
    }
}
