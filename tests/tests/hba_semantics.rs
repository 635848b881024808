//! What regular expressions, includes and maps mean: the proxy's rules against those of a PostgreSQL that has them all.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use trunkline_cluster::Cluster;
use trunkline_hba::{DiskFiles, HbaClient, HbaRules, IdentMaps};
use trunkline_tests::{
    Endpoint, Login, TestNetwork, cluster_of, driver_skipped, eventually, pg18, psql_output,
};

/// A cluster whose rules and maps are those of this file: one database, which need not exist, for each of them.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = cluster_of(pg18(), 0, &[]);
        let write = |file: &str, text: String| {
            fs::write(cluster.primary.data_dir().join(file), text).unwrap();
        };
        write("pg_ident.conf", MAPS.to_owned());
        write("pg_hba.conf", format!("local all postgres trust\n{}{}", peers(), expressions()));
        cluster.primary.psql("SELECT pg_reload_conf()").unwrap();
        eventually(Duration::from_secs(10), "the server has read the rules", || {
            refused(cluster.primary.port(), "anybody", "x0").contains("rejects")
        });
        cluster
    })
}

/// What a server says to a user of a database that it does not let in.
fn refused(port: u16, user: &str, database: &str) -> String {
    match Login::of(user, "x").with("database", database).try_connect(port) {
        Ok(_) => panic!("{user} got in"),
        Err(error) => error.text,
    }
}

/// Of the database `x` and their number; the first matches everybody.
const EXPRESSIONS: &[&str] = &[
    "",
    "^app",
    "app$",
    "^a.p$",
    "^[[:alpha:]]+$",
    "^[]x]$",
    "^[^]x]$",
    "^(?:a|b)$",
    "(?i)^ADM",
    "^\\w+$",
    "^\\W+$",
    "^\\d{2,4}$",
    "a|b",
    "^\u{e9}$",
    "^.{2}$",
    "^[^a]$",
    "^\\.$",
    "^a\\-b$",
    "x*",
    "^(ab)+$",
    "^\\s$",
    "^[a-c]+$",
    "^[\\d-]+$",
    "^a.b$",
    "^a,b$",
    "^[\\w.]+$",
    "^.$",
    "^(a|ab)(c|bcd)?$",
    "^a+?b*?$",
    "\"",
    "^[[:space:][:digit:]]$",
    "^$",
];

const USERS: &[&str] = &[
    "app", "App", "apple", "a p", "ap", "ADMIN", "admin", "12", "12345", "\u{e9}", "]", "x", "a", "b", "c",
    "-", "a-b", ".", "abab", "ab", "a\nb", " ", "a,b", "a_1", "abcd", "\"", "\\", "\n",
];

fn expressions() -> String {
    let rule = |(index, expression): (usize, &&str)| {
        format!("host x{index} \"/{}\" all reject\n", expression.replace('"', "\"\""))
    };
    EXPRESSIONS.iter().enumerate().map(rule).collect()
}

fn load(rules: &str, maps: &str) -> (HbaRules, IdentMaps) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("hba"), rules).unwrap();
    fs::write(path("ident"), maps).unwrap();
    let maps = IdentMaps::load(&DiskFiles, &path("ident")).unwrap();
    (HbaRules::load(&DiskFiles, &path("hba"), &maps).unwrap(), maps)
}

#[test]
fn expressions_match_the_same_names() {
    let port = cluster().primary.port();
    let (rules, _) = load(&expressions(), "");
    for (index, expression) in EXPRESSIONS.iter().enumerate() {
        for user in USERS {
            let database = format!("x{index}");
            let client = HbaClient {
                address: "127.0.0.1".parse().ok(),
                is_encrypted: false,
                user: user.as_bytes(),
                database: Some(database.as_bytes()),
            };
            let ours = rules.find(&client, Vec::new).is_some();
            let theirs = refused(port, user, &database).contains("rejects");
            assert_eq!(ours, theirs, "{expression:?} {user:?}");
        }
    }
}

/// Of the database `m` and its number, which is the map's.
const MAPS: &str = r#"
m0 root all
m1 root "all"
m2 /^(.*)t$ \1
m3 /^r(o+)t$ x\1y
m4 /^(x)?root$ \1
m4 root guest
m5 root /^gu
m6 "root" "/^gu"
m7 /^ROOT$ guest
m8 root \1
m9 /nobody guest
m9 /oo guest
m10 /^(r)(o) \2
m11 /^(.)oot$ \1\1
m12 /^(r[a-z]*)(?:t|ot)$ \1
m13 /^.?(o?)(ot)*$ r\1o
"#;

const MAP_COUNT: usize = 14;

fn peers() -> String {
    (0..MAP_COUNT).map(|map| format!("local m{map} all peer map=m{map}\n")).collect()
}

#[test]
fn maps_allow_the_same_users() {
    if !nix::unistd::getuid().is_root() {
        println!("the maps of this test are for root");
        return;
    }
    let cluster = cluster();
    let (_, maps) = load("local all all reject\n", MAPS);
    let host = cluster.socket_dir().display().to_string();
    for map in (0..MAP_COUNT).map(|map| format!("m{map}")) {
        for user in ["guest", "all", "root", "roo", "xooy", "app", "\\1", "\\2", "r\\1", "rr", "gu"] {
            let who = [("PGHOST", host.as_str()), ("PGUSER", user), ("PGDATABASE", &map)];
            let output = psql_output(cluster.primary.port(), &who, "SELECT 1");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let theirs = !said.contains("Peer authentication failed");
            assert_eq!(maps.allows(Some(&map), b"root", user.as_bytes()), theirs, "{map} {user}: {said}");
        }
    }
}

/// Lines that PostgreSQL 16 knows and 15 does not, whether it takes them, and whether the proxy does.
const LINES: &[(&str, bool, bool)] = &[
    ("host all /^app_\\d+$ all md5", true, true),
    // A comma ends a word, unless there are quotes around it.
    ("host /^db\\d{2,4}$ all all md5", false, false),
    ("host \"/^db\\d{2,4}$\" \"/^(a|b),c$\" all md5", true, true),
    ("host all / all md5", true, true),
    ("host all /( all md5", false, false),
    ("host all /a{2,1} all md5", false, false),
    ("host all /* all md5", false, false),
    ("host all @nowhere all md5", false, false),
    ("include nowhere", false, false),
    ("include_if_exists nowhere", true, true),
    ("include_dir nowhere", false, false),
    ("include", false, false),
    ("include a b", false, false),
    ("\"include_if_exists\" nowhere", true, true),
    // What only PostgreSQL's engine can do, or means otherwise.
    ("host all /(a)\\1 all md5", true, false),
    ("host all /(?=a) all md5", true, false),
    ("host all /\\ma all md5", true, false),
    ("host all /a\\b all md5", true, false),
    ("host all /app\\Z all md5", true, false),
];

#[test]
fn the_same_lines_are_taken() {
    let cluster = cluster_of(pg18(), 0, &[]);
    let own = cluster.primary.data_dir().join("pg_hba.conf");
    for (line, by_postgresql, by_proxy) in LINES {
        fs::write(&own, format!("{line}\n")).unwrap();
        // Only this view reads the file: nobody reloads the server.
        let sql = "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL";
        assert_eq!(cluster.primary.psql(sql).unwrap() == "0", *by_postgresql, "PostgreSQL: {line}");
        let folder = tempfile::tempdir().unwrap();
        let path: &Path = &folder.path().join("hba");
        // With a rule: a file without any is refused as a whole.
        fs::write(path, format!("{line}\nlocal all all reject\n")).unwrap();
        let taken = HbaRules::load(&DiskFiles, path.to_str().unwrap(), &IdentMaps::default()).is_ok();
        assert_eq!(taken, *by_proxy, "the proxy: {line}");
    }
}

/// Addresses of the machine, and routes by which clients on it have more that are not its own.
const INTERFACES: &str = "
    address add 192.168.5.1/28 dev bridge
    address add 10.5.5.1 peer 10.5.5.2/32 dev bridge
    address add 172.16.9.9/0 dev bridge
    address add 2001:db8::1/64 dev bridge nodad
    route add local 10.77.0.128/25 dev lo
    route add local 192.168.5.8/29 dev lo
    route add local 192.168.5.16/28 dev lo
    route add local 10.5.5.2/32 dev lo
    route add local 198.51.100.0/24 dev lo
    -6 route add local 2001:db8::7/128 dev lo
    -6 route add local 2001:db8:1::7/128 dev lo
";

/// Those that clients come from.
const CLIENTS: &[&str] = &[
    "127.0.0.1",
    "127.9.9.9",
    "10.77.0.1",
    "10.77.0.200",
    "192.168.5.1",
    "192.168.5.14",
    "192.168.5.9",
    "192.168.5.16",
    "10.5.5.1",
    "10.5.5.2",
    "172.16.9.9",
    "198.51.100.7",
    "::1",
    "2001:db8::1",
    "2001:db8::7",
    "2001:db8:1::7",
];

/// Where the proxy listens for clients of IPv6. Nobody else is in its network.
const PORT_OF_IPV6: u16 = 7434;

/// Whether a rule rejects a client that comes from this address; no rule lets it in.
fn is_rejected(from: IpAddr, [port, port_of_ipv6]: [u16; 2], database: &str) -> bool {
    let to: SocketAddr = match from {
        IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, port).into(),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, port_of_ipv6).into(),
    };
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(&Login::of("anybody", "").with("database", database).packet()).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said);
    let host = format!("host \"{from}\"");
    assert!(said.contains(&host), "{said}");
    let is_rejected = said.contains("pg_hba.conf rejects connection");
    assert!(is_rejected || said.contains("no pg_hba.conf entry"), "{said}");
    is_rejected
}

#[test]
fn samehost_and_samenet_mean_the_same_addresses() {
    if let Some(why) = TestNetwork::missing() {
        return driver_skipped("samehost and samenet", why);
    }
    let _network = TestNetwork::enter();
    for line in INTERFACES.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let output = Command::new("ip").args(line.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Of IPv6, a route alone gives nobody an address.
    fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").unwrap();
    let cluster = cluster_of(pg18(), 0, &[("listen_addresses", "127.0.0.1,::1")]);
    let rules = "host dbhost all samehost reject\nhost dbnet all samenet reject\n";
    let own = cluster.primary.data_dir().join("pg_hba.conf");
    let others = fs::read_to_string(&own).unwrap();
    fs::write(&own, format!("{rules}{others}")).unwrap();
    cluster.primary.psql("SELECT pg_reload_conf()").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules).unwrap();
    let ipv6 = format!("[[listener]]\nname = \"ipv6\"\naddress = \"[::1]:{PORT_OF_IPV6}\"\n");
    let endpoint =
        Endpoint::over(&cluster).key("auth.hba_file", &format!("{:?}", file.path())).toml(&ipv6).start();
    let (server, proxy) = ([cluster.primary.port(); 2], [endpoint.reads(), PORT_OF_IPV6]);
    eventually(Duration::from_secs(30), "the server has read the rules", || {
        is_rejected(Ipv4Addr::LOCALHOST.into(), server, "dbhost")
    });
    let mut rejected = [0, 0];
    for client in CLIENTS {
        let from: IpAddr = client.parse().unwrap();
        for (database, count) in ["dbhost", "dbnet"].into_iter().zip(&mut rejected) {
            let theirs = is_rejected(from, server, database);
            assert_eq!(is_rejected(from, proxy, database), theirs, "{database} from {client}");
            *count += usize::from(theirs);
        }
    }
    // Of 16, so that both words are seen to match and not to.
    assert_eq!(rejected, [7, 12]);
}
