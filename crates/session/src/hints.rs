//! What clients say of where their reads go: the settings of the proxy's own that a listener with route `statement` follows.
//!
//! A session has them by its startup packet, SET, and the first comment of a statement; what is said last goes before.

use std::fmt;
use std::time::Duration;

use trunkline_codec::ids::{Lsn, TimelineId};

/// What a client says of its reads; `None` is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `trunkline.route`.
    pub route: Option<RouteHint>,
    /// `trunkline.read_your_writes`.
    pub read_your_writes: Option<ReadYourWrites>,
    /// `trunkline.min_lsn`: what reads must see.
    pub min_lsn: Option<MinLsn>,
    /// `trunkline.max_staleness`: how old what they see may be.
    pub max_staleness: Option<Duration>,
    /// `trunkline.report_lsn`: whether the client is told up to where it has written.
    pub report_lsn: Option<bool>,
}

/// A position in the WAL that reads must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinLsn {
    /// That of the position, if it is known: of an older one it means nothing on a standby of today.
    pub timeline: Option<TimelineId>,
    /// The position.
    pub lsn: Lsn,
}

impl fmt::Display for MinLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timeline {
            Some(timeline) => write!(f, "{timeline}/{}", self.lsn),
            None => self.lsn.fmt(f),
        }
    }
}

/// Where requests that only read go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteHint {
    /// To a standby where the catalog says that one answers as the primary does.
    #[default]
    Auto,
    /// To the primary.
    Primary,
    /// To a standby, whatever the catalog says of what they call.
    Standby,
}

/// What becomes of a read while no standby is known to show what the session has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadYourWrites {
    /// It may go to a standby that does not show it.
    Off,
    /// It waits a moment for one that does, and then goes to the primary.
    Wait,
    /// It goes to the primary.
    #[default]
    Session,
}

/// A value that no hint has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidHint {
    /// The name of the hint.
    pub name: &'static str,
    /// The value, as far as it is shown.
    pub value: String,
    /// What would do, as in "It must be ...".
    pub must_be: &'static str,
}

impl fmt::Display for InvalidHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid value for parameter \"{}\": \"{}\"", self.name, self.value)
    }
}

/// What the names of the proxy's own settings begin with.
pub(crate) const PREFIX: &str = "trunkline.";

/// Characters of an invalid value that are shown.
const SHOWN_MAX: usize = 60;

/// Longest `trunkline.max_staleness`: the most that a setting in milliseconds can be in PostgreSQL.
const STALENESS_MAX_MS: u64 = i32::MAX as u64;

/// One of the hints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HintName {
    pub(crate) name: &'static str,
    must_be: &'static str,
    /// `None` for a value that it cannot have. The empty value takes back what was said before.
    put: fn(&mut Hints, &str) -> Option<()>,
}

/// The hint that asks for positions.
pub(crate) const REPORT_LSN: &str = "trunkline.report_lsn";

pub(crate) const HINTS: [HintName; 5] = [
    HintName { name: "trunkline.route", must_be: "auto, primary or standby", put: put_route },
    HintName {
        name: "trunkline.read_your_writes",
        must_be: "session, wait or off",
        put: put_read_your_writes,
    },
    HintName {
        name: "trunkline.min_lsn",
        must_be: "a WAL position such as 16/B374D848, or a timeline and one such as 2/16/B374D848",
        put: put_min_lsn,
    },
    HintName {
        name: "trunkline.max_staleness",
        must_be: "a whole number of milliseconds, or one with ms, s, min, h or d",
        put: put_max_staleness,
    },
    HintName { name: REPORT_LSN, must_be: "on or off", put: put_report_lsn },
];

impl HintName {
    /// The hint of this name, in whatever case.
    pub(crate) fn of(name: &[u8]) -> Option<&'static Self> {
        HINTS.iter().find(|hint| hint.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// # Errors
    /// If the hint cannot have this value.
    pub(crate) fn put(&self, hints: &mut Hints, value: &[u8]) -> Result<(), InvalidHint> {
        let text = std::str::from_utf8(value).ok().map(str::trim);
        text.and_then(|text| (self.put)(hints, text)).ok_or_else(|| self.invalid(value))
    }

    pub(crate) fn invalid(&self, value: &[u8]) -> InvalidHint {
        let text = String::from_utf8_lossy(value);
        let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(shown_as).collect();
        if text.chars().nth(SHOWN_MAX).is_some() {
            shown.push_str("...");
        }
        InvalidHint { name: self.name, value: shown, must_be: self.must_be }
    }
}

/// Control characters are escaped.
fn shown_as(character: char) -> impl Iterator<Item = char> {
    let (plain, escaped) = match character.is_control() {
        true => (None, Some(character.escape_default())),
        false => (Some(character), None),
    };
    plain.into_iter().chain(escaped.into_iter().flatten())
}

impl Hints {
    /// Takes a startup option; one of another name is left alone.
    ///
    /// # Errors
    /// If the option is a hint that cannot have this value.
    pub fn put(&mut self, name: &[u8], value: &[u8]) -> Result<(), InvalidHint> {
        HintName::of(name).map_or(Ok(()), |hint| hint.put(self, value))
    }

    /// What holds for two statements of one request: what is stricter.
    pub(crate) fn and(self, other: Self) -> Self {
        let (min_lsn, is_comparable) = match (self.min_lsn, other.min_lsn) {
            (Some(one), Some(other)) if one.timeline == other.timeline => {
                (Some(MinLsn { lsn: one.lsn.max(other.lsn), ..one }), true)
            }
            (Some(_), Some(_)) => (None, false),
            (one, other) => (one.or(other), true),
        };
        let route = match (self.route, other.route) {
            // It shows whatever there is.
            _either if !is_comparable => Some(RouteHint::Primary),
            (Some(RouteHint::Primary), _) | (_, Some(RouteHint::Primary)) => Some(RouteHint::Primary),
            (one, same) if one == same => one,
            (_, _) => Some(RouteHint::Auto),
        };
        // One that says nothing has what the listener says, which is not known here.
        let read_your_writes = match (self.read_your_writes, other.read_your_writes) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (None, other) if other != Some(ReadYourWrites::Session) => None,
            (one, None) if one != Some(ReadYourWrites::Session) => None,
            (_, _) => Some(ReadYourWrites::Session),
        };
        let staleness = [self.max_staleness, other.max_staleness];
        let max_staleness = staleness.into_iter().flatten().min();
        Hints { route, read_your_writes, min_lsn, max_staleness, ..self }
    }

    /// The names that there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        HINTS.iter().map(|hint| hint.name)
    }
}

fn put_route(hints: &mut Hints, value: &str) -> Option<()> {
    hints.route = match value.to_ascii_lowercase().as_str() {
        "" => None,
        "auto" => Some(RouteHint::Auto),
        "primary" => Some(RouteHint::Primary),
        "standby" => Some(RouteHint::Standby),
        _other => return None,
    };
    Some(())
}

fn put_read_your_writes(hints: &mut Hints, value: &str) -> Option<()> {
    hints.read_your_writes = match value.to_ascii_lowercase().as_str() {
        "" => None,
        "session" => Some(ReadYourWrites::Session),
        "wait" => Some(ReadYourWrites::Wait),
        "off" => Some(ReadYourWrites::Off),
        _other => return None,
    };
    Some(())
}

fn put_min_lsn(hints: &mut Hints, value: &str) -> Option<()> {
    hints.min_lsn = match value.bytes().filter(|byte| *byte == b'/').count() {
        0 if value.is_empty() => None,
        1 => Some(MinLsn { timeline: None, lsn: value.parse().ok()? }),
        2 => {
            let (timeline, lsn) = value.split_once('/')?;
            let timeline = number(timeline).and_then(|number| u32::try_from(number).ok())?;
            Some(MinLsn { timeline: Some(TimelineId(timeline)), lsn: lsn.parse().ok()? })
        }
        _other => return None,
    };
    Some(())
}

/// As PostgreSQL reads a length of time, without fractions.
fn put_max_staleness(hints: &mut Hints, value: &str) -> Option<()> {
    let digits = value.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(digits);
    let milliseconds = match unit.trim_start() {
        "" if count.is_empty() => {
            hints.max_staleness = None;
            return Some(());
        }
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _other => return None,
    };
    let all = number(count)?.checked_mul(milliseconds).filter(|all| *all <= STALENESS_MAX_MS)?;
    hints.max_staleness = Some(Duration::from_millis(all));
    Some(())
}

/// As PostgreSQL reads a boolean, in whole words.
fn put_report_lsn(hints: &mut Hints, value: &str) -> Option<()> {
    hints.report_lsn = match value.to_ascii_lowercase().as_str() {
        "" => None,
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _other => return None,
    };
    Some(())
}

/// A number in digits alone.
fn number(digits: &str) -> Option<u64> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str, value: &str) -> Result<Hints, InvalidHint> {
        let mut hints = Hints::default();
        hints.put(name.as_bytes(), value.as_bytes()).map(|()| hints)
    }

    #[test]
    fn a_route_is_one_of_three_words() {
        let route = |value| put("Trunkline.ROUTE", value).map(|hints| hints.route);
        assert_eq!(route("primary"), Ok(Some(RouteHint::Primary)));
        assert_eq!(route(" Standby "), Ok(Some(RouteHint::Standby)));
        assert_eq!(route("AUTO"), Ok(Some(RouteHint::Auto)));
        assert_eq!(route(""), Ok(None));
        for wrong in ["replica", "primary;", "\0", "prim\u{e4}ry", "standby,primary"] {
            assert!(route(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(put("trunkline.retry", "nonsense"), Ok(Hints::default()), "it is no hint");
    }

    #[test]
    fn of_two_statements_the_stricter_one_counts() {
        use RouteHint::{Auto, Primary, Standby};
        let of = |route| Hints { route, ..Hints::default() };
        let both = |one, other| of(one).and(of(other)).route;
        assert_eq!(both(Some(Standby), Some(Primary)), Some(Primary));
        assert_eq!(both(Some(Primary), None), Some(Primary));
        assert_eq!(both(Some(Standby), Some(Standby)), Some(Standby));
        assert_eq!(both(Some(Standby), None), Some(Auto));
        assert_eq!(both(None, None), None);
        let of = |read_your_writes| Hints { read_your_writes, ..Hints::default() };
        let both = |one, other| of(one).and(of(other)).read_your_writes;
        let [session, wait, off] =
            [ReadYourWrites::Session, ReadYourWrites::Wait, ReadYourWrites::Off].map(Some);
        assert_eq!([both(session, off), both(off, session), both(session, None)], [session; 3]);
        assert_eq!([both(wait, off), both(wait, wait), both(off, off)], [wait, wait, off]);
        assert_eq!([both(wait, None), both(None, off), both(None, None)], [None; 3]);
        let of = |max_staleness| Hints { max_staleness, ..Hints::default() };
        let [one, two] = [1, 2].map(|seconds| Some(Duration::from_secs(seconds)));
        let both = |one, other| of(one).and(of(other)).max_staleness;
        assert_eq!([both(one, two), both(two, one), both(None, one)], [one; 3]);
        let of = |timeline: Option<u32>, lsn| {
            let min_lsn = Some(MinLsn { timeline: timeline.map(TimelineId), lsn: Lsn(lsn) });
            Hints { min_lsn, ..Hints::default() }
        };
        assert_eq!(of(Some(1), 5).and(of(Some(1), 7)), of(Some(1), 7));
        assert_eq!(of(None, 5).and(Hints::default()), of(None, 5));
        let either = of(Some(1), 5).and(of(Some(2), 3));
        assert_eq!((either.route, either.min_lsn), (Some(Primary), None), "neither is the greater one");
    }

    #[test]
    fn what_becomes_of_a_read_behind_a_write_is_one_of_three_words() {
        let said = |value| put("trunkline.read_your_writes", value).map(|hints| hints.read_your_writes);
        assert_eq!(said("off"), Ok(Some(ReadYourWrites::Off)));
        assert_eq!(said("Wait"), Ok(Some(ReadYourWrites::Wait)));
        assert_eq!(said("session"), Ok(Some(ReadYourWrites::Session)));
        assert_eq!(said(""), Ok(None));
        assert!(said("on").is_err() && said("0").is_err());
    }

    #[test]
    fn a_position_may_be_of_a_timeline() {
        let said = |value: &str| put("trunkline.min_lsn", value).map(|hints| hints.min_lsn);
        let lsn = Lsn(0x16_B374_D848);
        assert_eq!(said("16/B374D848"), Ok(Some(MinLsn { timeline: None, lsn })));
        let of_timeline = MinLsn { timeline: Some(TimelineId(2)), lsn };
        assert_eq!(said(" 2/16/b374d848 "), Ok(Some(of_timeline)));
        assert_eq!(of_timeline.to_string(), "2/16/B374D848");
        let shown = of_timeline.to_string();
        assert_eq!(said(&shown), Ok(Some(of_timeline)));
        assert_eq!(said(""), Ok(None));
        for wrong in [
            "16",
            "/",
            "//",
            "1//2",
            "+1/0/1",
            "-1/0/1",
            "4294967296/0/1",
            "1/0/1/2",
            "1/123456789/0",
            "a/0/1",
            "1 /0/1",
        ] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_age_is_a_length_of_time_as_postgresql_reads_it() {
        let said = |value| put("trunkline.max_staleness", value).map(|hints| hints.max_staleness);
        let milliseconds = |number| Ok(Some(Duration::from_millis(number)));
        assert_eq!(said("500"), milliseconds(500));
        assert_eq!(said("500ms"), milliseconds(500));
        assert_eq!(said(" 2 s"), milliseconds(2000));
        assert_eq!(said("1min"), milliseconds(60_000));
        assert_eq!(said("1h"), milliseconds(3_600_000));
        assert_eq!(said("24d"), milliseconds(24 * 86_400_000));
        assert_eq!(said("0"), milliseconds(0));
        assert_eq!(said(""), Ok(None));
        for wrong in [
            "ms",
            "-1",
            "+1",
            "1.5s",
            "1 m",
            "1S",
            "25d",
            "99999999999999999999",
            "18446744073709551615d",
            "1\u{0}s",
        ] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn whether_positions_are_told_is_a_boolean() {
        let said = |value| put("trunkline.report_lsn", value).map(|hints| hints.report_lsn);
        for (values, expected) in
            [(["ON", "true", " yes ", "1"], Some(true)), (["off", "False", "no", "0"], Some(false))]
        {
            values.iter().for_each(|value| assert_eq!(said(value), Ok(expected), "{value}"));
        }
        assert_eq!(said(""), Ok(None));
        assert!(said("o").is_err() && said("2").is_err() && said("primary").is_err());
    }

    #[test]
    fn an_invalid_value_is_shown_on_one_line_and_not_at_length() {
        let mut hints = Hints::default();
        let invalid = hints.put(b"trunkline.route", b"a\nb\0\xff").expect_err("it is no route");
        assert_eq!(
            invalid.to_string(),
            "invalid value for parameter \"trunkline.route\": \"a\\nb\\u{0}\u{fffd}\""
        );
        let long = vec![b'x'; 1_000_000];
        let invalid = hints.put(b"trunkline.route", &long).expect_err("it is no route");
        assert_eq!(invalid.value.len(), SHOWN_MAX + 3);
        assert_eq!(hints, Hints::default());
    }
}
