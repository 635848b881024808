//! Whole files: what is read of them, which rule decides, and what is said of what is wrong.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;

use trunkline_hba::limits::{DEPTH_MAX, FILE_BYTES_MAX, FILES_MAX, LINES_MAX, PROBLEMS_MAX, WORDS_MAX};
use trunkline_hba::{
    AccessFiles, CertificateDemand, CertificateName, DiskFiles, FileProblems, HbaClient, HbaMethod, HbaRules,
    IdentMaps,
};

/// Files in memory.
#[derive(Debug, Default)]
struct InMemory(BTreeMap<String, Vec<u8>>);

impl AccessFiles for InMemory {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let within = format!("{directory}/");
        Ok(self.0.keys().filter_map(|path| path.strip_prefix(&within).map(str::to_owned)).collect())
    }
}

fn files(texts: &[(&str, &str)]) -> InMemory {
    InMemory(texts.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
}

fn maps(text: &str) -> Result<IdentMaps, FileProblems> {
    IdentMaps::load(&files(&[("/etc/ident", text)]), "/etc/ident")
}

fn rules(texts: &[(&str, &str)]) -> Result<HbaRules, FileProblems> {
    HbaRules::load(&files(texts), "/etc/hba", &maps("m a b\n").unwrap())
}

fn told(problems: Result<HbaRules, FileProblems>) -> Vec<String> {
    problems.unwrap_err().problems.iter().map(ToString::to_string).collect()
}

/// `local`, or an address, with `+tls` behind it.
fn client<'c>(from: &str, user: &'c str, database: &'c str) -> HbaClient<'c> {
    let (address, is_encrypted) = match from.strip_suffix("+tls") {
        Some(address) => (address, true),
        None => (from, false),
    };
    let address: Option<IpAddr> = (address != "local").then(|| address.parse().unwrap());
    let database = (database != "(replication)").then_some(database.as_bytes());
    HbaClient { address, is_encrypted, user: user.as_bytes(), database }
}

/// The line of the rule that decides; 0 if none does.
fn line(rules: &HbaRules, client: &HbaClient<'_>) -> usize {
    rules.find(client, Vec::new).map_or(0, |rule| rule.place().line)
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = rules(&[(
        "/etc/hba",
        r#"# comment
local   all             root                            peer
local   all             all                             reject
host    replication     standby         10.0.0.0/8      scram-sha-256
hostssl sameuser        all             all             cert
host    appdb,"all"     app, \
        other           192.0.2.0 255.255.255.0         md5
hostnossl /^test\d+$    /^dev_          ::1/128         trust
hostgssenc all          all             all             trust
hostnogssenc all        "all"           all             relay
host    all             all             ::ffff:203.0.113.0/120 login
"#,
    )])
    .unwrap();
    for (from, user, database, expected) in [
        ("local", "root", "x", 2),
        ("local", "app", "x", 3),
        ("local", "root", "(replication)", 0),
        ("10.1.2.3", "standby", "(replication)", 4),
        ("10.1.2.3", "standby", "replication", 0),
        ("10.1.2.3+tls", "u", "u", 5),
        ("10.1.2.3", "u", "u", 0),
        ("192.0.2.9", "app", "appdb", 6),
        ("192.0.2.9", "other", "all", 6),
        ("192.0.2.9", "app", "else", 0),
        ("192.0.3.9", "app", "appdb", 0),
        ("::1", "dev_1", "test12", 8),
        ("::1+tls", "dev_1", "test12", 0),
        ("::1", "dev", "test12", 0),
        ("::1", "all", "x", 10),
        ("203.0.113.7", "u", "x", 11),
        ("::ffff:203.0.113.7", "u", "x", 11),
        ("local", "app", "(replication)", 0),
    ] {
        assert_eq!(line(&rules, &client(from, user, database)), expected, "{from} {user} {database}");
    }
}

#[test]
fn a_rule_says_what_it_demands() {
    let rules = rules(&[(
        "/etc/hba",
        "hostssl all all all cert clientname=DN map=m\n\
         hostssl all all all scram-sha-256 clientcert=verify-full\n\
         hostssl all all all relay clientcert=verify-ca\n\
         local all all ident map=m\nhost all all all \"trust\"\n",
    )])
    .unwrap();
    let demands: Vec<_> = rules
        .iter()
        .map(|rule| (rule.method(), rule.certificate_demand(), rule.certificate_name(), rule.map()))
        .collect();
    let (none, cn) = (CertificateDemand::None, CertificateName::CommonName);
    assert_eq!(
        demands,
        [
            (HbaMethod::Cert, CertificateDemand::Named, CertificateName::DistinguishedName, Some("m")),
            (HbaMethod::ScramSha256, CertificateDemand::Named, cn, None),
            (HbaMethod::Relay, CertificateDemand::Valid, cn, None),
            (HbaMethod::Peer, none, cn, Some("m")),
            (HbaMethod::Trust, none, cn, None),
        ]
    );
    assert_eq!(rules.iter().next().unwrap().method().word(), "cert");
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_to_do() {
    let text = "hosts all all all trust\nhost all +admins all md5\nhost samerole all all md5\n\
                host all all db.example md5\nhost all all all ldap ldapserver=x\nhost all all all gues\n\
                local all all cert\nhost all all all peer\nhost all all all cert\nhost all all all\n\
                host all \"a all md5\nhost all all all md5 map=m\nhost all all all md5 clientcert=verify-ca\n\
                hostssl all all all cert clientcert=verify-ca\nhostssl all all all cert map=missing\n\
                host all /(?=a) all md5\nhost a,b all 10.0.0.1 md5\nhostssl all all all md5 x\n\
                hostnossl all all all password\nhostssl all all all md5 krb_realm=x\n";
    let problems = rules(&[("/etc/hba", text)]).unwrap_err();
    let lines: Vec<usize> = problems.problems.iter().map(|p| p.place.as_ref().unwrap().line).collect();
    assert_eq!(lines, (1..=20).collect::<Vec<_>>(), "{problems}");
    assert_eq!(problems.problems[0].to_string(), "/etc/hba:1: invalid connection type \"hosts\"");
    let hinted = [0, 1, 2, 3, 4, 5, 10, 14, 15].iter().all(|n| problems.problems[*n].hint.is_some());
    assert!(hinted, "{problems:?}");
}

#[test]
fn a_file_without_rules_is_refused() {
    for text in ["", "# all are\n# gone\n", "include_if_exists nowhere\n"] {
        let refused = rules(&[("/etc/hba", text)]);
        assert_eq!(told(refused), ["/etc/hba contains no entries"], "{text}");
    }
    assert_eq!(told(rules(&[("/etc/hba", "x\n")])).len(), 1, "what is wrong with a line is said alone");
    assert!(maps("# none yet\n").is_ok());
}

#[test]
fn included_files_are_read_where_they_are_named() {
    let texts = [
        (
            "/etc/hba",
            "include sub/one\ninclude_if_exists nowhere\nlocal @names @sub/users trust\ninclude_dir rules.d\n",
        ),
        ("/etc/sub/one", "local one one trust\ninclude two\n"),
        ("/etc/sub/two", "local two two trust\n"),
        ("/etc/names", "three # a comment\n\n\"all\"\n"),
        ("/etc/sub/users", "u1, u2\nu3\n@more\n"),
        ("/etc/sub/more", "u4"),
        ("/etc/rules.d/b.conf", "local b b reject\n"),
        ("/etc/rules.d/a.conf", "local a a trust\nlocal b b trust\n"),
        ("/etc/rules.d/.c.conf", "broken"),
        ("/etc/rules.d/c.conf~", "broken"),
    ];
    let rules = rules(&texts).unwrap();
    for (user, database, expected) in [
        ("one", "one", "/etc/sub/one:1"),
        ("two", "two", "/etc/sub/two:1"),
        ("u1", "three", "/etc/hba:3"),
        ("u4", "all", "/etc/hba:3"),
        ("u4", "other", "none"),
        ("b", "b", "/etc/rules.d/a.conf:2"),
    ] {
        let found = rules.find(&client("local", user, database), Vec::new);
        let place = found.map_or_else(|| "none".to_owned(), |rule| rule.place().to_string());
        assert_eq!(place, expected, "{user} {database}");
    }
}

#[test]
fn a_file_that_is_missing_or_broken_names_the_line_that_includes_it() {
    let missing = told(rules(&[("/etc/hba", "\ninclude nowhere\nlocal @nobody all trust\n")]));
    assert!(missing[0].starts_with("/etc/hba:2: could not read /etc/nowhere: "), "{missing:?}");
    assert!(missing[1].starts_with("/etc/hba:3: could not read /etc/nobody: "), "{missing:?}");
    let within = told(rules(&[("/etc/hba", "include a"), ("/etc/a", "\nlocal")]));
    assert_eq!(within, ["/etc/a:2: end-of-line before database specification"]);
    let none = told(rules(&[]));
    assert!(none[0].starts_with("could not read /etc/hba: "), "{none:?}");
    let latin = InMemory([("/etc/hba".to_owned(), b"local all all trust\n# f\xfcr\n".to_vec())].into());
    assert_eq!(
        told(HbaRules::load(&latin, "/etc/hba", &IdentMaps::default())),
        ["/etc/hba:2: the line is not UTF-8"]
    );
    let nul = told(rules(&[("/etc/hba", "local all a\0b trust\n")]));
    assert_eq!(nul, ["/etc/hba:1: the line has a NUL in it"]);
}

#[test]
fn files_that_include_each_other_end() {
    let endless = told(rules(&[("/etc/hba", "include hba\n")]));
    assert_eq!(endless, ["/etc/hba:1: could not open /etc/hba: maximum nesting depth exceeded"]);
    // Each file twice: the number of files is bounded, too.
    let twice = rules(&[("/etc/hba", "include hba\ninclude hba\n")]).unwrap_err();
    assert!(twice.problems.len() + twice.more <= FILES_MAX * 2, "{}", twice.more);
    let words = rules(&[("/etc/hba", "local @hba x trust\nlocal @hba y trust\n")]).unwrap_err();
    assert!(!words.problems.is_empty());
    // As deep as may be.
    let mut texts: Vec<(String, String)> =
        (0..DEPTH_MAX).map(|n| (format!("/etc/f{n}"), format!("include f{}\n", n + 1))).collect();
    texts.push((format!("/etc/f{DEPTH_MAX}"), "local all all trust\n".to_owned()));
    let texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (&**path, &**text)).collect();
    assert!(HbaRules::load(&files(&texts), "/etc/f0", &IdentMaps::default()).is_ok());
}

#[test]
fn what_is_read_is_bounded() {
    let rule = "local all all trust\n";
    assert!(rules(&[("/etc/hba", &rule.repeat(LINES_MAX))]).is_ok());
    let more = told(rules(&[("/etc/hba", &rule.repeat(LINES_MAX + 2))]));
    assert_eq!(more, [format!("/etc/hba:{}: there are more than {LINES_MAX} lines", LINES_MAX + 1)]);
    // The first file is one of them.
    for (files, is_read) in [(FILES_MAX - 1, true), (FILES_MAX, false)] {
        let text = rule.to_owned() + &"include more\n".repeat(files);
        assert_eq!(rules(&[("/etc/hba", &text), ("/etc/more", "# none\n")]).is_ok(), is_read, "{files}");
    }
    // Beside its type, database and method.
    for (users, is_read) in [(WORDS_MAX - 3, true), (WORDS_MAX - 2, false)] {
        let text = format!("local all {} trust\n", vec!["u"; users].join(","));
        assert_eq!(rules(&[("/etc/hba", &text)]).is_ok(), is_read, "{users}");
    }
    let wrong = rules(&[("/etc/hba", &"x\n".repeat(PROBLEMS_MAX + 3))]).unwrap_err();
    assert_eq!((wrong.problems.len(), wrong.more), (PROBLEMS_MAX, 3));
    assert!(wrong.to_string().ends_with("; and 3 more"), "{wrong}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hba");
    for (bytes, is_read) in [(FILE_BYTES_MAX, true), (FILE_BYTES_MAX + 1, false)] {
        std::fs::write(&path, vec![b'#'; usize::try_from(bytes).unwrap()]).unwrap();
        assert_eq!(DiskFiles.read(path.to_str().unwrap()).is_ok(), is_read);
    }
    assert!(DiskFiles.read(folder.path().to_str().unwrap()).is_err(), "a folder is no file");
    assert_eq!(DiskFiles.list(folder.path().to_str().unwrap()).unwrap(), ["hba"]);
}

#[test]
fn maps_say_who_may_be_whom() {
    let maps = maps(
        r#"
m   alice           app
m   "bob smith"     "all"
m   carol           all
m   /^(.*)@db\.example$  \1
m   "/^CN=([a-z]+),"  svc_\1_x
m   dave            /^d
n   /^(x)?y$        \1
n   y               guest
o   literal         \1
"#,
    )
    .unwrap();
    for (map, system_user, user, expected) in [
        ("m", "alice", "app", true),
        ("m", "alice", "alice", false),
        ("m", "bob smith", "all", true),
        ("m", "bob smith", "app", false),
        ("m", "carol", "anybody", true),
        ("m", "erin@db.example", "erin", true),
        ("m", "erin@db.example", "app", false),
        ("m", "all@db.example", "app", false),
        ("m", "all@db.example", "all", true),
        ("m", "/^@db.example", "app", false),
        ("m", "CN=web,O=x", "svc_web_x", true),
        ("m", "CN=web,O=x", "svc_web", false),
        ("m", "dave", "dan", true),
        ("m", "dave", "app", false),
        ("n", "xy", "x", true),
        ("n", "y", "guest", false),
        ("o", "literal", "\\1", true),
        ("none", "alice", "app", false),
    ] {
        assert_eq!(
            maps.allows(Some(map), system_user.as_bytes(), user.as_bytes()),
            expected,
            "{map} {system_user} {user}"
        );
    }
    assert!(maps.allows(None, b"app", b"app") && !maps.allows(None, b"app", b"App"));
}

#[test]
fn a_map_that_cannot_be_read_is_refused() {
    for text in ["m a", "m a b c", "m a,b c", "m /( c", "m /a x\\1", "m a +group", "m \"a b"] {
        let problems = maps(text).unwrap_err();
        assert!(problems.to_string().starts_with("/etc/ident:1: "), "{text}: {problems}");
    }
    assert!(maps("m a \"+group\"\n# only\n").is_ok());
}

#[test]
fn a_map_whose_group_postgresql_would_take_for_another_is_refused_with_its_line() {
    let problems = maps("m alice app\nm /^(adm|admin)(.*)$ \\1\n").unwrap_err().to_string();
    assert!(
        problems.starts_with("/etc/ident:2: \\1 may stand for something else in PostgreSQL"),
        "{problems}"
    );
    let same = maps("m /^(adm|admin)(.*)$ all\nm /^(.*)@(a|ab)$ \\1\n").unwrap();
    assert!(same.allows(Some("m"), b"admin", b"anybody") && same.allows(Some("m"), b"app@ab", b"app"));
}

#[test]
fn no_truncation_panics() {
    let text = "include_dir x\nhost \"a\"\"b\u{e9}\",/^x$ all 10.0.0.0/8 md5 clientcert=verify-full \\\n# c\n\
                hostssl all @x ::1 ffff:: cert map=m\n";
    for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
        let _ = rules(&[("/etc/hba", &text[..end])]);
        let _ = rules(&[("/etc/hba", &text[end..])]);
        let _ = maps(&text[..end]);
    }
}
