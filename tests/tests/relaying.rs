//! What goes through is what would have gone without Trunkline.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::Shutdown;

use bytes::{BufMut, BytesMut};
use trunkline_codec::frontend::Target;
use trunkline_codec::write;
use trunkline_tests::{Auth, Endpoint, Message, Wire, own_cluster, shared_cluster};

/// A conversation: each part is sent at once, then answers are read until `ready` ReadyForQuery have come.
type Script = Vec<(BytesMut, usize)>;

fn encoded(encode: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    encode(&mut out);
    out
}

fn raw(tag: u8, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(tag);
    out.put_u32(u32::try_from(body.len() + 4).unwrap());
    out.put_slice(body);
    out
}

fn simple(sql: &str) -> BytesMut {
    encoded(|out| write::query(out, sql.as_bytes()).unwrap())
}

fn joined(parts: &[BytesMut]) -> BytesMut {
    parts.iter().fold(BytesMut::new(), |mut all, part| {
        all.extend_from_slice(part);
        all
    })
}

fn parse(name: &str, sql: &str) -> BytesMut {
    encoded(|out| write::parse(out, name.as_bytes(), sql.as_bytes(), &[]).unwrap())
}

fn bind(portal: &str, statement: &str, values: &[&str]) -> BytesMut {
    let values = values.iter().map(|value| Some(value.as_bytes()));
    encoded(|out| {
        write::bind(out, portal.as_bytes(), statement.as_bytes(), values.collect::<Vec<_>>()).unwrap()
    })
}

fn execute(portal: &str, rows: i32) -> BytesMut {
    encoded(|out| write::execute(out, portal.as_bytes(), rows).unwrap())
}

fn sync() -> BytesMut {
    encoded(write::sync)
}

fn scripts() -> Vec<(&'static str, Script)> {
    [simple_queries(), extended_queries(), pipelines(), oddities(), copies_and_large_ones()].concat()
}

fn simple_queries() -> Vec<(&'static str, Script)> {
    vec![
        ("simple", vec![(simple("SELECT 1; SELECT 2, NULL, ''"), 1)]),
        ("empty", vec![(simple(""), 1), (simple(";;"), 1), (simple("-- nothing"), 1)]),
        ("error in the middle", vec![(simple("SELECT 1; SELECT 1/0; SELECT 2"), 1)]),
        (
            "transaction that fails",
            vec![(simple("BEGIN"), 1), (simple("oops"), 1), (simple("SELECT 1"), 1), (simple("COMMIT"), 1)],
        ),
        ("notices", vec![(simple("DO $$ BEGIN RAISE NOTICE 'a'; RAISE WARNING 'b'; END $$"), 1)]),
        (
            "reported settings",
            vec![
                (simple("SET application_name = 'x'; SET timezone = 'Asia/Tokyo'"), 1),
                (simple("RESET ALL"), 1),
            ],
        ),
    ]
}

fn extended_queries() -> Vec<(&'static str, Script)> {
    let describe = |kind, name: &str| encoded(|out| write::describe(out, kind, name.as_bytes()).unwrap());
    let close = |kind, name: &str| encoded(|out| write::close(out, kind, name.as_bytes()).unwrap());
    vec![
        (
            "prepared and described",
            vec![
                (
                    joined(&[
                        parse("s", "SELECT $1::int + $2"),
                        describe(Target::Statement, "s"),
                        bind("p", "s", &["1", "2"]),
                        describe(Target::Portal, "p"),
                        execute("p", 0),
                        close(Target::Portal, "p"),
                        sync(),
                    ]),
                    1,
                ),
                (joined(&[bind("", "s", &["3", "4"]), execute("", 0), sync()]), 1),
                (joined(&[close(Target::Statement, "s"), sync()]), 1),
            ],
        ),
        (
            "portal in pieces",
            vec![
                (simple("BEGIN"), 1),
                (
                    joined(&[
                        parse("", "SELECT generate_series(1, 5)"),
                        bind("c", "", &[]),
                        execute("c", 2),
                        sync(),
                    ]),
                    1,
                ),
                (joined(&[execute("c", 2), execute("c", 2), sync()]), 1),
                (simple("COMMIT"), 1),
            ],
        ),
    ]
}

fn pipelines() -> Vec<(&'static str, Script)> {
    vec![
        (
            "pipeline with an error is skipped to Sync",
            vec![(
                joined(&[
                    parse("", "SELECT 1"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                    parse("", "SELECT 1/0"),
                    bind("", "", &[]),
                    execute("", 0),
                    simple("SELECT 'skipped'"),
                    parse("", "SELECT 3"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                    parse("", "SELECT 4"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                ]),
                3,
            )],
        ),
        (
            "Query without Sync before it",
            vec![(
                joined(&[
                    parse("", "SELECT 1"),
                    bind("", "", &[]),
                    execute("", 0),
                    simple("SELECT 2"),
                    sync(),
                ]),
                2,
            )],
        ),
        (
            "Flush",
            vec![(
                joined(&[
                    parse("", "SELECT 1"),
                    encoded(write::flush),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                ]),
                1,
            )],
        ),
    ]
}

fn oddities() -> Vec<(&'static str, Script)> {
    vec![
        (
            "malformed bodies are answered, not punished",
            vec![
                (raw(b'Q', b"SELECT 1"), 1),
                (raw(b'Q', b"SELECT 1\0more"), 1),
                (joined(&[raw(b'P', b"\0\0"), sync()]), 1),
                (joined(&[raw(b'B', b"\0\0\0\x09"), sync()]), 1),
                (joined(&[raw(b'D', b"X\0"), sync()]), 1),
                (joined(&[raw(b'E', b"\0"), sync()]), 1),
                (raw(b'S', b"body"), 1),
            ],
        ),
        (
            "copy messages outside COPY are ignored",
            vec![(joined(&[raw(b'd', b"data"), raw(b'c', b""), raw(b'f', b"why\0"), simple("SELECT 1")]), 1)],
        ),
        (
            "function call",
            vec![
                // int4pl is function 177.
                (raw(b'F', b"\0\0\0\xb1\0\0\0\x02\0\0\0\x011\0\0\0\x012\0\0"), 1),
                (raw(b'F', b"\0\0\0\0\0\0\0\0\0\0"), 1),
            ],
        ),
    ]
}

fn copies_and_large_ones() -> Vec<(&'static str, Script)> {
    vec![
        ("COPY OUT", vec![(simple("COPY (SELECT generate_series(1, 1000), repeat('x', 100)) TO STDOUT"), 1)]),
        (
            "COPY OUT, extended",
            vec![(
                joined(&[
                    parse("", "COPY (SELECT generate_series(1, 10)) TO STDOUT"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                ]),
                1,
            )],
        ),
        ("large rows", vec![(simple("SELECT repeat('x', 3000000), i FROM generate_series(1, 5) i"), 1)]),
        ("large statement", vec![(simple(&format!("SELECT length('{}')", "y".repeat(5_000_000))), 1)]),
        (
            "large parameter",
            vec![(
                joined(&[
                    parse("", "SELECT length($1)"),
                    bind("", "", &[&"z".repeat(3_000_000)]),
                    execute("", 0),
                    sync(),
                ]),
                1,
            )],
        ),
    ]
}

/// Process ids differ between two sessions, and nothing else may.
fn run(wire: &mut Wire, script: &Script) -> Vec<Message> {
    let mut all = Vec::new();
    for (bytes, ready) in script {
        wire.send(bytes);
        for _ in 0..*ready {
            all.extend(wire.read_answer().messages);
        }
    }
    all
}

fn same_through(direct: u16, through: u16) {
    for (name, script) in scripts() {
        let wanted = run(&mut Wire::login(direct), &script);
        let got = run(&mut Wire::login(through), &script);
        let short = |messages: &[Message]| {
            let tags: String = messages.iter().map(|message| char::from(message.tag)).collect();
            tags.chars().take(200).collect::<String>()
        };
        assert_eq!(short(&got), short(&wanted), "{name}");
        assert!(got == wanted, "{name}: the tags are equal and the bytes are not");
        assert_eq!(wanted.last().map(|message| message.tag), Some(b'Z'), "{name}: the script ends properly");
    }
}

#[test]
fn answers_are_the_servers_own_byte_for_byte() {
    let cluster = shared_cluster();
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(cluster).auth(auth).without("replica2").start();
        same_through(cluster.replicas[0].port(), endpoint.reads());
        same_through(cluster.primary.port(), endpoint.writes());
    }
}

#[test]
fn the_scripts_get_the_same_answers_twice_without_any_proxy() {
    let direct = shared_cluster().replicas[0].port();
    let way = trunkline_tests::Forwarder::to(direct);
    same_through(direct, way.port());
}

#[test]
fn a_client_that_writes_byte_by_byte_is_served() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let mut wire = Wire::login(endpoint.reads());
    for byte in
        joined(&[simple("SELECT 42"), parse("", "SELECT 43"), bind("", "", &[]), execute("", 0), sync()])
    {
        wire.send(&[byte]);
    }
    assert_eq!(wire.read_answer().value(), "42");
    assert_eq!(wire.read_answer().value(), "43");
}

#[test]
fn ten_thousand_pipelined_queries_are_answered_in_order() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let mut wire = Wire::login(endpoint.reads());
    let mut sender = wire.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let mut out = BytesMut::new();
        for index in 0..10_000 {
            write::query(&mut out, format!("SELECT {index}").as_bytes()).unwrap();
        }
        std::io::Write::write_all(&mut sender, &out).unwrap();
    });
    for index in 0..10_000 {
        assert_eq!(wire.read_answer().value(), index.to_string());
    }
    writer.join().unwrap();
}

#[test]
fn copy_in_reaches_the_primary_whole_and_a_failed_one_leaves_nothing() {
    let cluster = own_cluster(1);
    cluster.primary.psql("CREATE TABLE t (i int, filler text)").unwrap();
    let endpoint = Endpoint::over(&cluster).start();
    let mut wire = Wire::login(endpoint.writes());
    wire.send_query("COPY t FROM STDIN");
    assert_eq!(wire.read_message().unwrap().tag, b'G');
    let row = "x".repeat(1000);
    for chunk in 0..100 {
        let mut out = BytesMut::new();
        for index in 0..100 {
            write::copy_data(&mut out, format!("{}\t{row}\n", chunk * 100 + index).as_bytes()).unwrap();
        }
        wire.send(&out);
    }
    wire.send_with(write::copy_done);
    assert_eq!(wire.read_answer().tags(), "CZ");
    assert_eq!(wire.value("SELECT count(*) || ' ' || sum(i) FROM t"), "10000 49995000");

    wire.send_query("COPY t FROM STDIN");
    assert_eq!(wire.read_message().unwrap().tag, b'G');
    wire.send_with(|out| write::copy_fail(out, b"changed my mind").unwrap());
    let failed = wire.read_answer();
    assert_eq!((failed.tags().as_str(), failed.error.unwrap().code.as_str()), ("EZ", "57014"));

    // One message of 40 MB: longer than any buffer.
    wire.send_query("COPY t FROM STDIN");
    assert_eq!(wire.read_message().unwrap().tag, b'G');
    wire.send_with(|out| {
        write::copy_data(out, format!("-1\t{}\n", "y".repeat(40_000_000)).as_bytes()).unwrap()
    });
    wire.send_with(write::copy_done);
    assert_eq!(wire.read_answer().tags(), "CZ");
    assert_eq!(wire.value("SELECT length(filler) FROM t WHERE i = -1"), "40000000");
}

#[test]
fn copy_in_with_bad_data_is_answered_while_the_client_still_writes() {
    let cluster = own_cluster(0);
    cluster.primary.psql("CREATE TABLE t (i int)").unwrap();
    let endpoint = Endpoint::over(&cluster).start();
    let mut wire = Wire::login(endpoint.writes());
    wire.send_query("COPY t FROM STDIN");
    assert_eq!(wire.read_message().unwrap().tag, b'G');
    wire.send_with(|out| write::copy_data(out, b"not a number\n").unwrap());
    let answer = wire.read_answer();
    assert_eq!((answer.tags().as_str(), answer.error.unwrap().code.as_str()), ("EZ", "22P02"));
    // What was on its way is ignored, as the server does.
    wire.send_with(|out| {
        write::copy_data(out, b"1\n").unwrap();
        write::copy_done(out);
        write::query(out, b"SELECT 7").unwrap();
    });
    assert_eq!(wire.read_answer().value(), "7");
}

#[test]
fn notifications_arrive_while_the_session_is_idle() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let mut listener = Wire::login(endpoint.writes());
    assert!(listener.query("LISTEN news").error.is_none());
    let mut sender = Wire::login(endpoint.writes());
    for index in 0..3 {
        assert!(sender.query(&format!("NOTIFY news, 'item {index}'")).error.is_none());
        let message = listener.read_message().unwrap();
        assert_eq!(message.tag, b'A');
        assert!(
            String::from_utf8_lossy(&message.body).contains(&format!("news\0item {index}\0")),
            "{message:?}"
        );
    }
}

#[test]
fn a_client_that_closes_its_half_gets_all_its_answers() {
    let cluster = shared_cluster();
    let endpoint = Endpoint::over(cluster).start();
    let ask = |port| {
        let mut wire = Wire::login(port);
        wire.send(&joined(&[
            simple("SELECT pg_sleep(0.2)"),
            simple("SELECT repeat('x', 1000000)"),
            simple("SELECT 'last'"),
        ]));
        wire.stream.shutdown(Shutdown::Write).unwrap();
        wire.read_to_end().expect("the connection ends")
    };
    let direct = ask(cluster.replicas[0].port());
    assert!(direct.ends_with(b"Z\0\0\0\x05I") && direct.len() > 1_000_000);
    assert!(ask(endpoint.reads()) == direct, "some answers are missing");
}

#[test]
fn broken_framing_ends_the_session_with_a_protocol_violation() {
    let cluster = shared_cluster();
    let endpoint = Endpoint::over(cluster).start();
    let ends: [(&str, &[u8]); 6] = [
        ("length 0", b"Q\0\0\0\0"),
        ("length 3", b"Q\0\0\0\x03"),
        ("length -1", b"Q\xff\xff\xff\xff"),
        ("long Describe", b"D\0\0\x27\x11"),
        ("unknown type", b"!\0\0\0\x04"),
        ("password after login", b"p\0\0\0\x05\0"),
    ];
    for (name, bytes) in ends {
        let end = |port| {
            let mut wire = Wire::login(port);
            wire.send(bytes);
            wire.read_answer().error.map(|error| (error.severity, error.code))
        };
        let violation = Some(("FATAL".to_owned(), "08P01".to_owned()));
        assert_eq!(end(endpoint.reads()), violation, "{name}");
        // PostgreSQL says the same, or closes without a word where it cannot trust the length.
        let servers = end(cluster.replicas[0].port());
        assert!(
            servers == violation || servers == Some(("EOF".to_owned(), String::new())),
            "{name}: {servers:?}"
        );
    }
}

#[test]
fn other_messages_during_copy_in_end_the_session_as_the_server_ends_it() {
    let cluster = own_cluster(0);
    cluster.primary.psql("CREATE TABLE t (i int)").unwrap();
    let endpoint = Endpoint::over(&cluster).start();
    let end = |port| {
        let mut wire = Wire::login(port);
        wire.send_query("COPY t FROM STDIN");
        assert_eq!(wire.read_message().unwrap().tag, b'G');
        wire.send_query("SELECT 1");
        wire.read_to_end().expect("the connection ends")
    };
    assert!(end(endpoint.writes()) == end(cluster.primary.port()), "two errors, then the end");
}
