//! A password that a client has given is nowhere in the proxy's memory once nobody needs it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::BytesMut;
use trunkline_codec::write;
use trunkline_tests::await_read;

use super::*;

/// Memory is looked through by pages, of which most have never been written to.
const PAGE: usize = 4096;
/// Of each so many bytes of a password that many at the end are looked for: an allocator writes over the beginning of what is
/// free.
const PART: usize = 500;
const TAIL: usize = 20;
/// The lengths of passwords: of most, and of tokens of the clouds, which are more than one read.
const LENGTHS: [usize; 2] = [48, 5000];

/// How a password comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coming {
    /// In one piece.
    Whole,
    /// Its record is cut in two.
    InTwo,
}

/// A cluster where `by_key` and the like log in by SCRAM and `cleartext_user` by the password itself, with TLS for both; and
/// an endpoint that may look at no secrets.
fn prepared(roles: &[(String, String)]) -> (Cluster, Endpoint) {
    let settings = Certificates::shared().server_settings();
    let settings = settings.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
    let cluster = cluster_of(PgInstall::find(None).unwrap(), 1, &settings);
    for (role, password) in roles {
        cluster.primary.psql(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'")).unwrap();
    }
    hide_secrets(&cluster);
    let endpoint = Endpoint::over(&cluster).with_tls().auth(Auth::Login).start();
    (cluster, endpoint)
}

/// A password of so many bytes, no part of which is like another, or in any other.
fn password(mark: &str, length: usize) -> String {
    let words = (0..length).map(|number| format!("{mark}{number:04}-{length}."));
    words.collect::<String>()[..length].to_owned()
}

/// Where any of these are in the memory of a process that can be written to.
/// Source: proc(5), /proc/pid/maps and /proc/pid/mem.
fn places(process: i32, wanted: &[&[u8]]) -> Vec<String> {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut places = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let name = fields.nth(3).unwrap_or("no name");
        let (begin, end) = range.split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - begin).unwrap()];
        // What is gone by now has nothing in it any more.
        if !rights.starts_with("rw") || memory.read_exact_at(&mut bytes, begin).is_err() {
            continue;
        }
        for at in found(&bytes, wanted) {
            let around = String::from_utf8_lossy(&bytes[at.saturating_sub(64)..at + TAIL]);
            places.push(format!("{name} at {at} of {range}: {around:?}"));
        }
    }
    places
}

/// Where in the bytes any of the others are.
fn found(bytes: &[u8], wanted: &[&[u8]]) -> Vec<usize> {
    let mut found = Vec::new();
    for (number, page) in bytes.chunks(PAGE).enumerate() {
        if page == &[0; PAGE][..page.len()] {
            continue;
        }
        // One may have begun on the page before.
        let begin = (number * PAGE).saturating_sub(TAIL - 1);
        let end = number * PAGE + page.len();
        let here = bytes[begin..end].windows(TAIL).enumerate();
        found.extend(here.filter(|(_, some)| wanted.contains(some)).map(|(at, _)| begin + at));
    }
    found
}

/// Where parts of this password are in the endpoint's memory.
fn kept(endpoint: &Endpoint, password: &str) -> Vec<String> {
    let tails = password.as_bytes().chunks(PART).map(|part| &part[part.len().saturating_sub(TAIL)..]);
    places(endpoint.pid(), &tails.collect::<Vec<_>>())
}

/// Logs in over TLS.
fn log_in(endpoint: &Endpoint, user: &str, password: &str, coming: Coming) -> Result<Wire, ServerError> {
    let login = Login::of(user, password);
    let mut wire = Wire::connect_sealed(endpoint.reads());
    wire.send(&login.packet());
    if coming == Coming::InTwo {
        assert_eq!(wire.read_message().unwrap().body, [0, 0, 0, 3], "it asks for the password");
        let mut message = BytesMut::new();
        write::password(&mut message, password.as_bytes()).unwrap();
        let record = wire.stream.records_after(|end| end.writer().write_all(&message).unwrap());
        let mut socket = wire.stream.socket();
        let (begin, rest) = record.split_at(record.len() / 2);
        socket.write_all(begin).unwrap();
        await_read(socket, PATIENCE);
        socket.write_all(rest).unwrap();
    }
    wire.finish_login(&login)?;
    Ok(wire)
}

#[test]
fn a_password_that_a_server_has_proved_to_know_the_verifier_of_is_gone_after_the_login() {
    let roles = LENGTHS.map(|length| (format!("by_key_{length}"), password("keyed", length)));
    let (_cluster, endpoint) = prepared(&roles);
    for (role, password) in &roles {
        for coming in [Coming::Whole, Coming::InTwo] {
            let mut session = log_in(&endpoint, role, password, coming).unwrap();
            assert_eq!(session.value("SELECT current_user"), *role);
            let kept = kept(&endpoint, password);
            assert!(kept.is_empty(), "{role}, {coming:?}: {kept:#?}");
        }
    }
}

#[test]
fn a_password_that_is_wrong_is_gone_after_the_login() {
    let (_cluster, endpoint) = prepared(&[("by_key".to_owned(), "right".to_owned())]);
    for length in LENGTHS {
        let wrong = password("wrong", length);
        for coming in [Coming::Whole, Coming::InTwo] {
            let error = log_in(&endpoint, "by_key", &wrong, coming).unwrap_err();
            assert_eq!(error.code, "28P01", "{error:?}");
            let kept = kept(&endpoint, &wrong);
            assert!(kept.is_empty(), "{length}, {coming:?}: {kept:#?}");
        }
    }
}

#[test]
fn a_password_that_a_server_asks_for_itself_is_gone_after_the_session() {
    let needed = password("clear", LENGTHS[0]);
    let (_cluster, endpoint) = prepared(&[("cleartext_user".to_owned(), needed.clone())]);
    let mut session = log_in(&endpoint, "cleartext_user", &needed, Coming::Whole).unwrap();
    assert_eq!(session.value("SELECT current_user"), "cleartext_user");
    let while_needed = kept(&endpoint, &needed);
    assert_eq!(while_needed.len(), 1, "for a login on another server: {while_needed:#?}");
    drop(session);
    eventually(PATIENCE, "the password is gone", || kept(&endpoint, &needed).is_empty());
}
