//! What an answer must be before anybody believes it.
//!
//! An answer counts as a whole or not at all: a list of which a part is nonsense was not made by a cluster in order, and
//! what served before goes on. Words are the exception. A name that cannot be a server's name here is made one, because a
//! cluster may call its members as it likes.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::limits::{HOST_MAX, MEMBERS_MAX, NAME_MAX, TAGS_MAX, WEIGHT_MAX, WORD_MAX};
use crate::member::{Member, RoleHint};

/// Longest path of a directory of sockets, in bytes. Source: unix(7), `sun_path`, without `/.s.PGSQL.65535` and a NUL.
const DIRECTORY_MAX: usize = 92;

/// Bytes of a name that is too long which remain before the hash of all of it.
const NAME_KEPT: usize = NAME_MAX - 9;

/// Why an answer cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// There is no member. A cluster that has none left has nothing to serve with, and a source that lost its data says
    /// the same.
    #[error("it names no member")]
    Empty,
    /// More than [`MEMBERS_MAX`].
    #[error("it names {0} members; at most {MEMBERS_MAX} are believed")]
    TooMany(usize),
    /// One of them is wrong, or the source is.
    #[error("it names two leaders, {first:?} and {second:?}")]
    TwoLeaders {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// Two members have one name.
    #[error("it names {0:?} twice")]
    NameTwice(String),
    /// Two members are at one place.
    #[error("it names {first:?} and {second:?} at one place, {place}")]
    PlaceTwice {
        /// One of them.
        first: String,
        /// The other.
        second: String,
        /// Host and port.
        place: String,
    },
    /// A host that nobody can connect to, or that nobody should.
    #[error("the host of {name:?} is {host:?}, which is no host of a server")]
    Host {
        /// Whose.
        name: String,
        /// Its beginning.
        host: String,
    },
    /// Port 0.
    #[error("the port of {0:?} is 0")]
    Port(String),
}

/// Whether a host may be the directory of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketHosts {
    /// It may.
    Allowed,
    /// It may not: who says it means another machine.
    Refused,
}

/// The members, in order of their names, with words as they may be used here: names, hosts, zones and tags.
///
/// # Errors
/// What cannot be right.
pub fn check(members: Vec<Member>, sockets: SocketHosts) -> Result<Vec<Member>, AnswerFault> {
    match members.len() {
        0 => return Err(AnswerFault::Empty),
        count if count > MEMBERS_MAX => return Err(AnswerFault::TooMany(count)),
        _ => {}
    }
    let mut members =
        members.into_iter().map(|member| clean(member, sockets)).collect::<Result<Vec<_>, _>>()?;
    members.sort_by(|left, right| {
        (&left.name, &left.host, left.port).cmp(&(&right.name, &right.host, right.port))
    });
    let mut leaders = members.iter().filter(|member| member.role == RoleHint::Primary);
    if let (Some(first), Some(second)) = (leaders.next(), leaders.next()) {
        return Err(AnswerFault::TwoLeaders { first: first.name.clone(), second: second.name.clone() });
    }
    let mut names = HashSet::new();
    let mut places: std::collections::HashMap<(&str, u16), &str> = std::collections::HashMap::new();
    for Member { name, host, port, .. } in &members {
        if !names.insert(name) {
            return Err(AnswerFault::NameTwice(name.clone()));
        }
        if let Some(first) = places.insert((host, *port), name) {
            let (first, second) = (first.to_owned(), name.clone());
            return Err(AnswerFault::PlaceTwice { first, second, place: format!("{host}:{port}") });
        }
    }
    Ok(members)
}

/// Whether it can be a server's name, which is part of paths, of metrics and of files' names.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.chars().all(is_plain)
}

/// A host as all of its spellings are compared: without case, without the dot at the end, an address as it is written
/// shortest. `None`: it is no host.
#[must_use]
pub fn host_of(text: &str, sockets: SocketHosts) -> Option<String> {
    if text.starts_with('/') {
        let is_fit = sockets == SocketHosts::Allowed && text.len() <= DIRECTORY_MAX;
        return (is_fit && !text.chars().any(char::is_control)).then(|| text.to_owned());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if let Ok(ip) = name.parse::<IpAddr>() {
        // Nobody is there; to Linux 0.0.0.0 is this machine.
        return (!ip.is_unspecified() && !ip.is_multicast()).then(|| ip.to_string());
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let is_label = |label: &str| !label.is_empty() && !label.starts_with('-') && label.chars().all(is_plain);
    // 127.1, 0x7f000001 and the like are addresses to inet_aton(3), which name resolution tries first.
    let is_number = |label: &str| {
        let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
        hex.map_or(label.chars().all(|c| c.is_ascii_digit()), |hex| {
            hex.chars().all(|c| c.is_ascii_hexdigit())
        })
    };
    let is_fit = name.len() <= HOST_MAX && name.split('.').all(is_label) && !name.split('.').all(is_number);
    is_fit.then(|| name.to_ascii_lowercase())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._:-".contains(c)
}

fn clean(member: Member, sockets: SocketHosts) -> Result<Member, AnswerFault> {
    let Member { name, host, port, role, weight, zone, tags } = member;
    let Some(host) = host_of(&host, sockets) else {
        let host = host.chars().take(WORD_MAX).collect();
        return Err(AnswerFault::Host { name: name_of(&name), host });
    };
    if port == 0 {
        return Err(AnswerFault::Port(name_of(&name)));
    }
    let name = if name.is_empty() { name_of(&format!("{host}:{port}")) } else { name_of(&name) };
    let weight = weight.map(|weight| weight.min(WEIGHT_MAX));
    let zone = zone.as_deref().and_then(zone_of);
    let tags = tags.iter().take(TAGS_MAX).map(|tag| printable(tag)).collect();
    Ok(Member { name, host, port, role, weight, zone, tags })
}

/// The name made fit: `_` for what may not be in one; of one that is too long the beginning, and a hash that keeps apart
/// those that differ at the end, as pods do.
fn name_of(text: &str) -> String {
    let plain: String = text.chars().map(|c| if is_plain(c) { c } else { '_' }).take(4 * NAME_MAX).collect();
    if plain.len() <= NAME_MAX && text.chars().nth(4 * NAME_MAX).is_none() {
        return plain;
    }
    let kept: String = plain.chars().take(NAME_KEPT).collect();
    format!("{kept}-{:08x}", fnv_1a(text.as_bytes()))
}

/// A hash that stays what it is, as names do that are made of it. Source: RFC 9923, FNV-1a, 32 bits.
fn fnv_1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn zone_of(text: &str) -> Option<Arc<str>> {
    let plain: String =
        text.chars().take(WORD_MAX).map(|c| if is_plain(c) || c == '/' { c } else { '_' }).collect();
    (!plain.is_empty()).then(|| plain.into())
}

fn printable(text: &str) -> Arc<str> {
    text.chars().take(WORD_MAX).map(|c| if c.is_control() { '?' } else { c }).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(name: &str, host: &str, port: u16) -> Member {
        Member { name: name.to_owned(), host: host.to_owned(), port, ..Member::default() }
    }

    fn checked(members: Vec<Member>) -> Result<Vec<Member>, AnswerFault> {
        check(members, SocketHosts::Refused)
    }

    fn many(count: usize) -> Vec<Member> {
        (0..count).map(|n| member(&format!("m{n}"), &format!("h{n}"), 5432)).collect()
    }

    #[test]
    fn an_answer_has_one_member_at_least_and_only_so_many() {
        assert_eq!(checked(Vec::new()), Err(AnswerFault::Empty));
        assert_eq!(checked(many(MEMBERS_MAX)).unwrap().len(), MEMBERS_MAX);
        assert_eq!(checked(many(MEMBERS_MAX + 1)), Err(AnswerFault::TooMany(MEMBERS_MAX + 1)));
    }

    #[test]
    fn a_cluster_has_one_leader_at_most() {
        let mut members = many(3);
        members[0].role = RoleHint::Primary;
        assert!(checked(members.clone()).is_ok());
        members[2].role = RoleHint::Primary;
        let (first, second) = ("m0".to_owned(), "m2".to_owned());
        assert_eq!(checked(members), Err(AnswerFault::TwoLeaders { first, second }));
    }

    #[test]
    fn a_place_is_one_however_it_is_written() {
        for (left, right) in [("DB1.example.", "db1.example"), ("::1", "0:0:0:0:0:0:0:1")] {
            let fault = checked(vec![member("a", left, 1), member("b", right, 1)]).unwrap_err();
            assert!(matches!(fault, AnswerFault::PlaceTwice { .. }), "{fault}");
            assert!(checked(vec![member("a", left, 1), member("b", right, 2)]).is_ok());
        }
    }

    #[test]
    fn hosts_are_those_that_can_be_connected_to() {
        let longest = format!("{}.example", "a".repeat(HOST_MAX - 8));
        for host in [
            "db1",
            "10.0.0.1",
            "1.db1",
            "3f2a9c1b7d10",
            "1.2.3.x",
            "fd00::1",
            "a_b.c-d",
            "127.0.0.1",
            longest.as_str(),
        ] {
            assert!(host_of(host, SocketHosts::Refused).is_some(), "{host}");
        }
        let too_long = format!("a{longest}");
        for host in [
            "",
            ".",
            "-x",
            "a b",
            "a\nb",
            "a/b",
            "0.0.0.0",
            "0.0.0.0.",
            "0",
            "127.1",
            "0x7f.1",
            "a..b",
            "a.-b",
            "::",
            "224.0.0.1",
            "db1:5432",
            "fe80::1%eth0",
            "bücher",
            "a,b",
            &too_long,
        ] {
            assert_eq!(host_of(host, SocketHosts::Refused), None, "{host}");
        }
    }

    #[test]
    fn a_directory_of_sockets_is_for_sources_on_this_machine() {
        let directory = format!("/{}", "d".repeat(DIRECTORY_MAX - 1));
        assert_eq!(host_of(&directory, SocketHosts::Refused), None);
        assert_eq!(host_of(&directory, SocketHosts::Allowed).as_deref(), Some(directory.as_str()));
        assert_eq!(host_of(&format!("{directory}d"), SocketHosts::Allowed), None);
        assert_eq!(host_of("/run/\n", SocketHosts::Allowed), None);
    }

    #[test]
    fn long_names_that_differ_at_their_end_stay_apart_and_stay_what_they_are() {
        let pod = "a-very-long-name-of-a-stateful-set-that-somebody-chose-on-a-bad-day";
        let members = vec![member(&format!("{pod}-0"), "a", 1), member(&format!("{pod}-1"), "b", 1)];
        let names: Vec<_> = checked(members).unwrap().into_iter().map(|member| member.name).collect();
        assert_eq!(
            names,
            [
                "a-very-long-name-of-a-stateful-set-that-somebody-chose-6b433a12",
                "a-very-long-name-of-a-stateful-set-that-somebody-chose-6c433ba5",
            ]
        );
    }

    #[test]
    fn words_are_made_fit() {
        let named = Member {
            weight: Some(u16::MAX),
            zone: Some("eu west\u{1b}".into()),
            tags: vec!["a\nb".into(); TAGS_MAX + 1],
            ..member("", "db1", 5432)
        };
        let members = checked(vec![named]).unwrap();
        let member = &members[0];
        assert_eq!((member.name.as_str(), member.weight), ("db1:5432", Some(WEIGHT_MAX)));
        assert_eq!((member.zone.as_deref(), member.tags.len()), (Some("eu_west_"), TAGS_MAX));
        assert_eq!(&*member.tags[0], "a?b");
    }

    proptest! {
        #[test]
        fn whatever_passes_can_be_used(
            members in prop::collection::vec(("\\PC{0,80}|[a-z]{1,3}", "\\PC{0,20}|[a-z.]{1,4}|[0-9a-f:.]{2,9}", 0_u16..3, "\\PC{0,80}"), 0..6),
        ) {
            let members: Vec<_> = members
                .into_iter()
                .map(|(name, host, port, zone)| Member { zone: Some(zone.into()), ..member(&name, &host, port) })
                .collect();
            if let Ok(good) = checked(members.clone()) {
                prop_assert_eq!(good.len(), members.len());
                let names: HashSet<_> = good.iter().map(|member| &member.name).collect();
                prop_assert_eq!(names.len(), good.len());
                for member in &good {
                    prop_assert!(is_name(&member.name), "{}", member.name);
                    prop_assert!(member.port > 0 && !member.host.starts_with('/'));
                    prop_assert_eq!(host_of(&member.host, SocketHosts::Refused), Some(member.host.clone()));
                    prop_assert!(member.zone.as_ref().is_none_or(|zone| zone.chars().count() <= WORD_MAX));
                }
                let again = checked(good.clone());
                prop_assert_eq!(again, Ok(good), "what is good stays as it is");
            }
        }
    }
}
