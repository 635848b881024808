//! How long a member that an answer does not name any more is kept. Pure: answers and the time go in, members come out.
//!
//! A source that names a part of its members at a time, as a reader endpoint does, or that loses sight of one that
//! restarts, must not take servers from the sessions: health alone judges those that are kept.

use std::time::{Duration, Instant};

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

/// The members of the answers so far.
#[derive(Debug)]
pub(crate) struct MemberPresence {
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
    pub(crate) fn new(forget: Forget) -> Self {
        Self { forget, patience: ABSENT_ANSWERS_MIN, known: Vec::new() }
    }

    /// Takes an answer, and gives those that are there after it: in the order in which they came first.
    pub(crate) fn answered(&mut self, members: Vec<Member>, now: Instant) -> Vec<Member> {
        for known in &mut self.known {
            known.absent = known.absent.saturating_add(1);
        }
        for member in members {
            let place = |known: &&mut KnownMember| {
                known.member.host == member.host && known.member.port == member.port
            };
            match self.known.iter_mut().find(place) {
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
        self.known.iter().filter(|known| is_there(known)).map(|known| known.member.clone()).collect()
    }
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
