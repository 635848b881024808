//! What clients say of where their reads go: the settings of the proxy's own that a listener with route `statement` follows.
//!
//! A session has them by its startup packet, SET, and the first comment of a statement; what is said last goes before.

use std::fmt;

/// What a client says of its reads; `None` is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `trunkline.route`.
    pub route: Option<RouteHint>,
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

/// One of the hints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HintName {
    pub(crate) name: &'static str,
    must_be: &'static str,
    /// `None` for a value that it cannot have. The empty value takes back what was said before.
    put: fn(&mut Hints, &str) -> Option<()>,
}

pub(crate) const HINTS: [HintName; 1] =
    [HintName { name: "trunkline.route", must_be: "auto, primary or standby", put: put_route }];

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
        let route = match (self.route, other.route) {
            (Some(RouteHint::Primary), _) | (_, Some(RouteHint::Primary)) => Some(RouteHint::Primary),
            (one, same) if one == same => one,
            (_, _) => Some(RouteHint::Auto),
        };
        Hints { route }
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
        let both = |one, other| Hints { route: one }.and(Hints { route: other }).route;
        assert_eq!(both(Some(Standby), Some(Primary)), Some(Primary));
        assert_eq!(both(Some(Primary), None), Some(Primary));
        assert_eq!(both(Some(Standby), Some(Standby)), Some(Standby));
        assert_eq!(both(Some(Standby), None), Some(Auto));
        assert_eq!(both(None, None), None);
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
