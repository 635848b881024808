//! A listener believes the proxies it is told to believe, and nobody else.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read as _, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use trunkline_cluster::Server;
use trunkline_tests::{
    Certificates, ClientStream, Endpoint, EndpointBuilder, Login, ServerError, TlsBeginning, Wire,
    eventually, shared_cluster,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads whose clients are named by whoever connects from `networks`; every statement is logged.
fn endpoint(networks: &str) -> EndpointBuilder {
    let listener = format!(
        "[[listener]]\nname = \"reads\"\naddress = \"127.0.0.1:1\"\nproxy_protocol_from = \"{networks}\"\n"
    );
    Endpoint::over(shared_cluster()).toml(&listener).flag("--log-statements", "0")
}

/// Version 2, TCP over IPv4, from `client` and port 40001.
fn header(client: [u8; 4]) -> Vec<u8> {
    let [a, b, c, d] = client;
    [SIGNATURE, &[0x21, 0x11, 0, 12, a, b, c, d, 127, 0, 0, 1, 0x9c, 0x41, 0x15, 0x3a]].concat()
}

/// A proxy in front of `port` for one connection, which sends `pieces` first; the port it listens on.
fn proxy(port: u16, pieces: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        server.set_nodelay(true).unwrap();
        for piece in pieces {
            server.write_all(&piece).unwrap();
        }
        let ways = [
            (client.try_clone().unwrap(), server.try_clone().unwrap()),
            (server.try_clone().unwrap(), client.try_clone().unwrap()),
        ];
        for (mut from, mut to) in ways {
            std::thread::spawn(move || {
                let _ended = std::io::copy(&mut from, &mut to);
                let _gone = to.shutdown(Shutdown::Both);
            });
        }
    });
    own
}

/// A login behind `header`.
fn login(port: u16, header: &[u8]) -> Result<Wire, ServerError> {
    Login::default().try_connect(proxy(port, vec![header.to_vec()]))
}

/// Whether nothing was said before the end.
fn is_closed_silently(wire: &mut Wire) -> bool {
    wire.read_to_end().is_some_and(|bytes| bytes.is_empty())
}

fn await_log(endpoint: &Endpoint, what: &str) {
    trunkline_tests::eventually(Duration::from_secs(30), what, || endpoint.log().contains(what));
}

#[test]
fn both_versions_name_the_client() {
    let endpoint = endpoint("127.0.0.0/8").start();
    let line = b"PROXY TCP4 192.0.2.1 127.0.0.1 40001 5434\r\n";
    assert_eq!(login(endpoint.reads(), line).unwrap().value("SELECT 1"), "1");
    await_log(&endpoint, "192.0.2.1:40001");
    assert_eq!(login(endpoint.reads(), &header([192, 0, 2, 2])).unwrap().value("SELECT 1"), "1");
    await_log(&endpoint, "192.0.2.2:40001");
    let line = b"PROXY TCP6 2001:db8::3 ::1 40001 5434\r\n";
    assert_eq!(login(endpoint.reads(), line).unwrap().value("SELECT 1"), "1");
    await_log(&endpoint, "[2001:db8::3]:40001");
}

#[test]
fn servers_can_be_told_the_named_client() {
    let listener = "[[listener]]\nname = \"reads\"\naddress = \"127.0.0.1:1\"\nproxy_protocol_from = \"127.0.0.1\"\n\
                    application_name_add_host = \"on\"\n";
    let endpoint = Endpoint::over(shared_cluster()).toml(listener).start();
    let mut wire = login(endpoint.reads(), &header([192, 0, 2, 9])).unwrap();
    assert_eq!(wire.value("SHOW application_name"), "192.0.2.9:40001");
}

#[test]
fn limits_are_the_named_clients_own() {
    let endpoint = endpoint("127.0.0.1").key("limits.connections_per_address_max", "2").start();
    let from = |last| login(endpoint.reads(), &header([192, 0, 2, last]));
    let _held = [from(1).unwrap(), from(1).unwrap(), from(2).unwrap()];
    assert_eq!(from(1).unwrap_err().code, "53300");
    assert_eq!(from(3).unwrap().value("SELECT 1"), "1");
}

#[test]
fn a_proxy_that_speaks_for_itself_has_its_own_address() {
    let endpoint = endpoint("127.0.0.1").start();
    let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    for header in [&local[..], b"PROXY UNKNOWN\r\n"] {
        assert_eq!(login(endpoint.reads(), header).unwrap().value("SELECT 1"), "1");
    }
    await_log(&endpoint, "client.addr=127.0.0.1:");
}

#[test]
fn a_header_in_single_bytes_is_read_like_any() {
    let endpoint = endpoint("127.0.0.1").start();
    let bytes = header([192, 0, 2, 4]).into_iter().map(|byte| vec![byte]).collect();
    let mut wire = Wire::login(proxy(endpoint.reads(), bytes));
    assert_eq!(wire.value("SELECT 1"), "1");
    await_log(&endpoint, "192.0.2.4:40001");
}

#[test]
fn without_a_header_a_trusted_proxy_is_not_served() {
    let endpoint = endpoint("127.0.0.1").start();
    let mut wire = Wire::connect_plain(endpoint.reads());
    wire.send(&Login::default().packet());
    assert!(is_closed_silently(&mut wire));
    await_log(&endpoint, "no PROXY protocol header");
    // The other listener believes nobody, and asks nobody for a header.
    assert_eq!(Wire::login(endpoint.writes()).value("SELECT 1"), "1");
}

#[test]
fn headers_of_strangers_are_not_believed() {
    let endpoint = endpoint("10.0.0.0/8, 192.168.7.1").start();
    assert_eq!(Wire::login(endpoint.reads()).value("SELECT 1"), "1");
    // To PostgreSQL's protocol the header is a packet of absurd length.
    let mut wire = Wire::connect_plain(endpoint.reads());
    wire.send(&header([192, 0, 2, 5]));
    assert!(wire.read_to_end().is_some());
    assert!(!endpoint.log().contains("192.0.2.5"), "{}", endpoint.log());
}

#[test]
fn broken_headers_end_the_connection_and_nothing_else() {
    let endpoint = endpoint("127.0.0.1").start();
    let broken: [&[u8]; 5] = [
        b"PROXY TCP4 192.0.2.1 127.0.0.1 99999 1\r\n",
        b"PROXY TCP4 \xff\r\n",
        &[b'\r'; 12],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x02ab",
    ];
    for bytes in broken {
        let mut wire = Wire::connect_plain(endpoint.reads());
        wire.send(bytes);
        assert!(is_closed_silently(&mut wire), "{bytes:?}");
    }
    assert_eq!(login(endpoint.reads(), &header([192, 0, 2, 6])).unwrap().value("SELECT 1"), "1");
}

#[test]
fn a_header_that_never_ends_is_waited_for_no_longer_than_a_login() {
    let endpoint = endpoint("127.0.0.1").key("timeouts.login", "\"500ms\"").start();
    let mut wire = Wire::connect_plain(endpoint.reads());
    wire.send(b"PROXY TCP4 192.0.2.7");
    let begun = std::time::Instant::now();
    assert!(wire.read_to_end().is_some());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_cancel_request_may_come_behind_a_header() {
    let endpoint = endpoint("127.0.0.1").start();
    let mut wire = login(endpoint.reads(), &header([192, 0, 2, 8])).unwrap();
    let port = endpoint.reads();
    let packet = wire.cancel_packet();
    wire.send_query("SELECT pg_sleep(30) -- behind a header");
    let canceller = std::thread::spawn(move || {
        let running =
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%behind a header'";
        let is_running = |server: &Server| server.psql(running).is_ok_and(|count| count == "1");
        eventually(Duration::from_secs(10), "the query runs", || {
            shared_cluster().replicas.iter().any(is_running)
        });
        let mut other = Wire::connect_plain(port);
        other.send(&[&header([192, 0, 2, 8])[..], &packet].concat());
        other.read_to_end()
    });
    let answer = wire.read_answer();
    canceller.join().unwrap();
    assert_eq!(answer.error.unwrap().code, "57014");
}

/// Far beyond what a healthy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection behind `header` that has TLS.
fn sealed(port: u16, header: &[u8], begun: TlsBeginning) -> Wire {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut config = Arc::unwrap_or_clone(Certificates::shared().client());
    match begun {
        TlsBeginning::Asked => {
            // In one segment, as HAProxy sends them.
            socket.write_all(&[header, &[0, 0, 0, 8, 4, 210, 22, 47]].concat()).unwrap();
            let mut answer = [0];
            socket.read_exact(&mut answer).unwrap();
            assert_eq!(answer, *b"S");
        }
        TlsBeginning::AtOnce => {
            socket.write_all(header).unwrap();
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
    }
    Wire::over(ClientStream::seal(socket, Arc::new(config)).unwrap())
}

/// What comes of a login over TLS behind `header`.
fn sealed_login(
    endpoint: &Endpoint,
    header: &[u8],
    begun: TlsBeginning,
    password: &str,
) -> Result<Wire, String> {
    let login = Login::of("app", password);
    let mut wire = sealed(endpoint.reads(), header, begun);
    wire.send(&login.packet());
    wire.finish_login(&login).map(|()| wire).map_err(|error| error.text)
}

#[test]
fn the_named_client_is_who_counts_inside_tls_too() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    let lines = "hostnossl all all all reject\n\
                 hostssl all app 192.0.2.1/32 scram-sha-256\n\
                 hostssl all app 2001:db8::/32 scram-sha-256\n\
                 hostssl all app 192.0.2.2/32 reject\n";
    std::fs::write(rules.path(), lines).unwrap();
    let [certificate, key] = Certificates::shared().endpoint();
    let endpoint = endpoint("127.0.0.1")
        .key("client_tls.cert_file", &format!("{certificate:?}"))
        .key("client_tls.key_file", &format!("{key:?}"))
        .key("auth.hba_file", &format!("{:?}", rules.path()))
        .key("auth.failures_max", "3")
        .key("auth.failures_pause", "\"1h\"")
        .with_admin()
        .start();
    let line = |client: &str| format!("PROXY {client} 40001 5434\r\n").into_bytes();
    let [sixth, own] = ["TCP6 2001:db8::3 ::1", "TCP4 127.0.0.1 127.0.0.1"].map(line);
    for begun in [TlsBeginning::Asked, TlsBeginning::AtOnce] {
        let login = |header: &[u8], password| sealed_login(&endpoint, header, begun, password);
        for (header, client) in
            [(&header([192, 0, 2, 1]), "192.0.2.1:40001"), (&sixth, "[2001:db8::3]:40001")]
        {
            let mut wire = login(header, "app secret").unwrap();
            assert_eq!(wire.value("SELECT 1"), "1");
            let (_, json) = endpoint.admin(&["sessions", "--json"]);
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            let sessions = json["sessions"].as_array().unwrap();
            let own = sessions.iter().find(|session| session["client"] == client);
            let own = own.unwrap_or_else(|| panic!("{client} is not in {json}"));
            assert!(own["tls"]["client"].as_str().unwrap().starts_with("TLSv1.3 "), "{json}");
        }
        // Each is told of itself; the address of the proxy has no rule.
        for (header, told) in [
            (&header([192, 0, 2, 2]), "pg_hba.conf rejects connection for host \"192.0.2.2\""),
            (&header([192, 0, 2, 3]), "no pg_hba.conf entry for host \"192.0.2.3\""),
            (&own, "no pg_hba.conf entry for host \"127.0.0.1\""),
        ] {
            let refused = login(header, "app secret").unwrap_err();
            assert!(refused.starts_with(told) && refused.contains("SSL encryption"), "{refused}");
        }
    }
    let guesser = header([192, 0, 2, 1]);
    let guess = |password| sealed_login(&endpoint, &guesser, TlsBeginning::AtOnce, password).unwrap_err();
    for password in ["a", "b", "c"] {
        assert!(guess(password).starts_with("password authentication failed"), "{password}");
    }
    assert!(guess("app secret").starts_with("too many authentication failures"));
    let other = sealed_login(&endpoint, &sixth, TlsBeginning::Asked, "app secret");
    assert_eq!(other.unwrap().value("SELECT 1"), "1", "behind the same proxy");
}
