//! How long a member that an answer does not name any more is kept. Pure: answers and the time go in, members come out.
//!
//! A source that names a part of its members at a time, as a reader endpoint does, or that loses sight of one that
//! restarts, must not take servers from the sessions: health alone judges those that are kept.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::check::{SocketHosts, host_of};
use crate::member::Member;

/// Least number of successive answers that do not name a member before it is gone.
const ABSENT_ANSWERS_MIN: u32 = 2;

/// Most of them, for a name that gives its addresses in turn.
const ABSENT_ANSWERS_MAX: u32 = 64;

/// How many times longer than its last absence a member that came back may be absent.
const PATIENCE_FACTOR: u32 = 4;

/// Members remembered, those that are gone included.
const REMEMBERED_MAX: usize = 4096;

/// When an absent member is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forget {
    /// After some successive answers without it: at first two, and more once one has come back.
    AfterAnswers,
    /// After this time.
    After(Duration),
}

/// The members of the answers so far, which outlive the task that asks: when the settings of a source change, who is absent
/// just then is given up no sooner.
#[derive(Clone, Debug)]
pub(crate) struct SourceMemory(Arc<Mutex<MemberPresence>>);

impl SourceMemory {
    /// Of the members of the last good answer, however long ago that was.
    pub(crate) fn of(members: &[Member], now: Instant) -> Self {
        let mut presence = MemberPresence::new(Forget::AfterAnswers);
        presence.answered(members.to_vec(), now);
        Self(Arc::new(Mutex::new(presence)))
    }

    /// Goes on by these settings, without the members that cannot be there by them.
    pub(crate) fn resume(&self, forget: Forget, may_be_there: impl Fn(&Member) -> bool) {
        let mut presence = self.lock();
        presence.forget = forget;
        presence.known.retain(|known| may_be_there(&known.member));
    }

    /// See [`MemberPresence::answered`].
    pub(crate) fn answered(&self, members: Vec<Member>, now: Instant) -> Vec<Member> {
        self.lock().answered(members, now)
    }

    fn lock(&self) -> MutexGuard<'_, MemberPresence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The members of the answers so far.
#[derive(Debug)]
struct MemberPresence {
    forget: Forget,
    /// Answers that a member may be absent from, for [`Forget::AfterAnswers`].
    patience: u32,
    known: Vec<KnownMember>,
}

#[derive(Debug)]
struct KnownMember {
    member: Member,
    /// Answers in a row that did not name it.
    absent: u32,
    /// When an answer named it last.
    seen_at: Instant,
}

impl MemberPresence {
    /// Nobody yet.
    fn new(forget: Forget) -> Self {
        Self { forget, patience: ABSENT_ANSWERS_MIN, known: Vec::new() }
    }

    /// Takes an answer, and gives those that are there after it: in the order in which they came first.
    fn answered(&mut self, members: Vec<Member>, now: Instant) -> Vec<Member> {
        for known in &mut self.known {
            known.absent = known.absent.saturating_add(1);
        }
        let places = self.known.iter().enumerate().map(|(at, known)| (place(&known.member), at));
        let mut places: HashMap<_, usize> = places.collect();
        for member in members {
            let at = *places.entry(place(&member)).or_insert(self.known.len());
            match self.known.get_mut(at) {
                Some(known) => {
                    // Absent once is present in this answer.
                    let missed = known.absent.saturating_sub(1);
                    if missed > 0 {
                        let patience = missed.saturating_mul(PATIENCE_FACTOR);
                        self.patience = self.patience.max(patience).min(ABSENT_ANSWERS_MAX);
                    }
                    *known = KnownMember { member, absent: 0, seen_at: now };
                }
                None => self.known.push(KnownMember { member, absent: 0, seen_at: now }),
            }
        }
        let (forget, patience) = (self.forget, self.patience);
        let is_there = |known: &KnownMember| match forget {
            Forget::AfterAnswers => known.absent < patience,
            Forget::After(time) => known.absent == 0 || now.saturating_duration_since(known.seen_at) < time,
        };
        let is_full = self.known.len() > REMEMBERED_MAX;
        // One that is gone is remembered for a while: if it comes back, the name gives its addresses in turn.
        self.known.retain(|known| is_there(known) || (known.absent <= ABSENT_ANSWERS_MAX && !is_full));
        with_own_names(self.known.iter().filter(|known| is_there(known)))
    }
}

/// A place as all of its spellings are compared.
fn place(member: &Member) -> (String, u16) {
    (host_of(&member.host, SocketHosts::Allowed).unwrap_or_else(|| member.host.clone()), member.port)
}

/// The members, of which none that is absent has the name of another: one that was built anew elsewhere has its name
/// there, and an answer in which a name is twice would not count at all. The absent one is called by its address.
fn with_own_names<'a>(known: impl Iterator<Item = &'a KnownMember> + Clone) -> Vec<Member> {
    let named = known.clone().filter(|known| known.absent == 0);
    let mut names: HashSet<String> = named.map(|known| known.member.name.clone()).collect();
    let mut members = Vec::new();
    for known in known {
        let mut member = known.member.clone();
        if known.absent > 0 && !names.insert(member.name.clone()) {
            member.name = member.host.clone();
            if !names.insert(member.name.clone()) {
                member.name = format!("{}:{}", member.host, member.port);
                names.insert(member.name.clone());
            }
        }
        members.push(member);
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(hosts: &[&str]) -> Vec<Member> {
        let member = |host: &&str| Member {
            name: (*host).to_owned(),
            host: (*host).to_owned(),
            port: 5432,
            ..Member::default()
        };
        hosts.iter().map(member).collect()
    }

    #[test]
    fn what_is_remembered_outlives_new_settings() {
        let now = Instant::now();
        let memory = SourceMemory::of(&members(&["a", "b"]), now);
        // As a reader endpoint answers: "a" comes back after five answers without it.
        (0..5).for_each(|_| drop(memory.answered(members(&["b"]), now)));
        memory.answered(members(&["a"]), now);
        memory.resume(Forget::AfterAnswers, |_| true);
        for _ in 0..10 {
            assert_eq!(hosts(&memory.answered(members(&["b"]), now)), ["a", "b"], "its patience stays");
        }
        let hour = Duration::from_secs(3600);
        memory.resume(Forget::After(hour), |member| member.host != "a");
        assert_eq!(
            hosts(&memory.answered(members(&["c"]), now)),
            ["b", "c"],
            "\"a\" cannot be there any more"
        );
        assert_eq!(hosts(&memory.answered(members(&["c"]), now + 2 * hour)), ["c"]);
    }

    fn hosts(members: &[Member]) -> Vec<&str> {
        members.iter().map(|member| member.host.as_str()).collect()
    }

    #[test]
    fn one_that_comes_is_there_at_once_and_one_that_goes_after_two_answers() {
        let now = Instant::now();
        let mut presence = MemberPresence::new(Forget::AfterAnswers);
        assert_eq!(hosts(&presence.answered(members(&["a", "b"]), now)), ["a", "b"]);
        assert_eq!(hosts(&presence.answered(members(&["a", "c"]), now)), ["a", "b", "c"]);
        assert_eq!(hosts(&presence.answered(members(&["a", "c"]), now)), ["a", "c"]);
    }

    #[test]
    fn a_name_that_gives_one_address_in_turn_soon_keeps_them_all() {
        let now = Instant::now();
        let mut presence = MemberPresence::new(Forget::AfterAnswers);
        let readers = ["a", "b", "c", "d", "e"];
        for turn in 0..10 {
            presence.answered(members(&[readers[turn % 5]]), now);
        }
        for turn in 10..200 {
            let there = presence.answered(members(&[readers[turn % 5]]), now);
            assert_eq!(there.len(), 5, "turn {turn}");
        }
        let gone = (0..ABSENT_ANSWERS_MAX)
            .map(|turn| presence.answered(members(&[readers[turn as usize % 4]]), now).len())
            .position(|there| there == 4);
        assert!(gone.is_some(), "one that never comes back is gone at last");
    }

    #[test]
    fn one_that_was_built_anew_elsewhere_has_its_name_there_and_the_answer_counts() {
        let at = |host: &str| Member {
            name: "pg2".to_owned(),
            host: host.to_owned(),
            port: 5432,
            ..Member::default()
        };
        let now = Instant::now();
        let mut presence = MemberPresence::new(Forget::After(Duration::from_secs(60)));
        for host in ["10.0.0.2", "10.0.0.9", "10.0.0.10"] {
            presence.answered(vec![at(host)], now);
        }
        let there = presence.answered(vec![at("10.0.0.9")], now);
        let names: Vec<_> = there.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["10.0.0.2", "pg2", "10.0.0.10"]);
        assert!(crate::check::check(there, SocketHosts::Refused).is_ok());
    }

    #[test]
    fn a_host_that_is_written_another_way_is_the_same() {
        let now = Instant::now();
        let mut presence = MemberPresence::new(Forget::AfterAnswers);
        presence.answered(members(&["db1.example"]), now);
        assert_eq!(hosts(&presence.answered(members(&["DB1.example."]), now)), ["DB1.example."]);
    }

    #[test]
    fn by_time_one_is_kept_until_then() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut presence = MemberPresence::new(Forget::After(Duration::from_secs(60)));
        presence.answered(members(&["a", "b"]), at(0));
        for seconds in 1..60 {
            assert_eq!(hosts(&presence.answered(members(&["a"]), at(seconds))), ["a", "b"]);
        }
        assert_eq!(hosts(&presence.answered(members(&["a"]), at(60))), ["a"]);
    }

    #[test]
    fn answers_that_are_never_the_same_do_not_fill_memory() {
        let now = Instant::now();
        let mut presence = MemberPresence::new(Forget::AfterAnswers);
        for turn in 0..40 {
            let names: Vec<String> = (0..1000).map(|number| format!("h{turn}-{number}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            presence.answered(members(&names), now);
            assert!(presence.known.len() <= REMEMBERED_MAX + 1000, "{}", presence.known.len());
        }
    }
}
