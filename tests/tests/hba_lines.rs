//! Lines of pg_hba.conf: what PostgreSQL says of them, and what the proxy says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::path::Path;

use trunkline_hba::{DiskFiles, HbaRules, IdentMaps};
use trunkline_tests::own_cluster;

/// Lines, and whether PostgreSQL takes them, and whether the proxy does. The server is of version 15, which knows neither
/// `include` nor regular expressions.
const LINES: &[(&str, bool, bool)] = &[
    ("local all all trust", true, true),
    ("local all all peer", true, true),
    ("local all all ident", true, true),
    ("local all,\"all\" a,b,\"+c\" md5", true, true),
    ("local all all 127.0.0.1/32 trust", false, false),
    ("host all all 127.0.0.1/32 trust # comment", true, true),
    ("host all all 127.0.0.1 255.255.255.255 reject", true, true),
    ("host all all 10.1.2.3/8 scram-sha-256", true, true),
    ("host all all ::1/128 password", true, true),
    ("host all all ::1 ffff:ffff:: password", true, true),
    ("host replication,sameuser all samenet md5", true, true),
    ("hostnossl all all samehost md5", true, true),
    ("hostnogssenc all all all md5", true, true),
    ("host all all 127.0.0.1/33 trust", false, false),
    ("host all all 127.0.0.1/x trust", false, false),
    ("host all all 127.0.0.1 trust", false, false),
    ("host all all 127.0.0.1 ffff:: trust", false, false),
    ("host all all db.example/8 trust", false, false),
    ("host all all 10.0.0.0/8,11.0.0.0/8 trust", false, false),
    ("host all", false, false),
    ("host all all", false, false),
    ("host all all all", false, false),
    ("host all all all trust,md5", false, false),
    ("host,hostssl all all all trust", false, false),
    ("hosts all all all trust", false, false),
    ("host all all all Trust", false, false),
    ("host all all all peer", false, false),
    ("host all all all cert", false, false),
    ("host all all all md5 map=x", false, false),
    ("host all all all md5 clientcert=verify-ca", false, false),
    ("host all all all md5 nonsense", false, false),
    ("host all all all md5 nonsense=1", false, false),
    ("hostssl all all all cert", true, true),
    ("hostssl all all all cert clientname=DN", true, true),
    ("hostssl all all all cert clientname=XN", false, false),
    ("hostssl all all all cert clientcert=verify-full", true, true),
    ("hostssl all all all cert clientcert=verify-ca", false, false),
    ("hostssl all all all scram-sha-256 clientcert=verify-full clientname=CN", true, true),
    ("hostssl all all all scram-sha-256 clientcert=no", false, false),
    ("  \"host\"\tall  all all \"trust\"", true, true),
    // What only one of the two can do.
    ("host all all db.example trust", true, false),
    ("host all +admins all trust", true, false),
    ("host samerole all all trust", true, false),
    ("host samegroup all all trust", true, false),
    ("host all all all ident", true, false),
    ("host all all all ldap ldapserver=x ldapprefix=y", true, false),
    ("host all all all pam", true, false),
    ("hostssl all all all cert map=missing", true, false),
    ("hostnossl all all all password", true, false),
    ("host all \"open all md5", false, false),
    ("host all all all \"trust", true, false),
    ("host all all 127.1/32 trust", true, false),
    ("host all all all relay", false, true),
    ("host all all all login", false, true),
];

#[test]
fn postgresql_takes_the_same_lines() {
    let cluster = own_cluster(0);
    let own = cluster.primary.data_dir().join("pg_hba.conf");
    // Only this view reads the file: nobody reloads the server.
    let text: String = LINES.iter().map(|(line, ..)| format!("{line}\n")).collect();
    fs::write(&own, &text).unwrap();
    // A rule that is wrong has no type; an error alone may be a warning, such as that the server is without TLS.
    let sql = "SELECT string_agg(line_number::text, ' ' ORDER BY line_number) FROM pg_hba_file_rules WHERE type IS NULL";
    let answer = cluster.primary.psql(sql).unwrap();
    let refused: Vec<usize> = answer.split_whitespace().map(|line| line.parse().unwrap()).collect();
    for (index, (line, by_postgresql, by_proxy)) in LINES.iter().enumerate() {
        assert_eq!(!refused.contains(&(index + 1)), *by_postgresql, "PostgreSQL: {line}");
        assert_eq!(takes(line), *by_proxy, "the proxy: {line}");
    }
}

/// Whether a line is a rule of the proxy.
fn takes(line: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path: &Path = &folder.path().join("hba");
    fs::write(path, format!("{line}\n")).unwrap();
    HbaRules::load(&DiskFiles, path.to_str().unwrap(), &IdentMaps::default()).is_ok()
}
