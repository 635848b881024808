//! Whether `\1` stands for the same text here and in PostgreSQL.
//!
//! Of several ways to match, the engine here takes the first, as Perl does, and PostgreSQL the longest: `^(adm|admin)(.*)$`
//! makes `adm` of `admin` here, and `admin` there. What is let through is where the two agree: as long as only single
//! characters and classes are repeated, the first way also goes as far as any in each of its steps, whatever comes behind.

/// One piece of an expression, as far as it matters for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PatternPiece {
    /// A character, a class, an escape, or `^`.
    Single,
    /// `(`
    OpensGroup,
    /// `(?:`
    Opens,
    Closes,
    Bar,
    /// `?`
    Optional,
    /// `*`, `+`, `{n,m}`
    Repeated,
    /// `$`
    End,
}

/// Why the first group of an expression may be another text in PostgreSQL. `None` where it is the same, and where there is
/// no group.
pub(super) fn doubt(expression: &str) -> Option<&'static str> {
    let pieces = pieces(expression);
    if has(&pieces, |first, second| is_quantifier(first) && is_quantifier(second)) {
        return Some("something is repeated twice, or as seldom as possible");
    }
    let begin = pieces.iter().position(|piece| *piece == PatternPiece::OpensGroup)?;
    let (head, rest) = pieces.split_at_checked(begin)?;
    let length = rest.iter().position(|piece| *piece == PatternPiece::Closes)?;
    let (group, mut rest) = rest.split_at_checked(length + 1)?;
    if depth(head) != 0 {
        return Some("the first group is within another one");
    }
    if depth(group) != 0 {
        return Some("there is a group within the first one");
    }
    if head.contains(&PatternPiece::Bar) || group.contains(&PatternPiece::Bar) {
        return Some("there is a | before the end of the first group");
    }
    if has(head, repeats_group) {
        return Some("a group is repeated before the first one that counts");
    }
    match rest.split_first() {
        // With a length of its own it is there or not, in both.
        Some((PatternPiece::Optional, behind)) if is_of_fixed_length(group) => rest = behind,
        Some((PatternPiece::Optional | PatternPiece::Repeated, _)) => {
            return Some("the first group is repeated");
        }
        Some(_) | None => {}
    }
    let is_simple = !rest.contains(&PatternPiece::Bar) && !has(rest, repeats_group);
    let ends = rest.last() == Some(&PatternPiece::End) && !has_bar_outside(rest);
    (!is_simple && !ends).then_some("there is a | or a repeated group, and no $ at the end")
}

/// Whether two pieces that follow each other are so.
fn has(pieces: &[PatternPiece], are_so: impl Fn(PatternPiece, PatternPiece) -> bool) -> bool {
    pieces.iter().zip(pieces.iter().skip(1)).any(|(first, second)| are_so(*first, *second))
}

fn is_quantifier(piece: PatternPiece) -> bool {
    matches!(piece, PatternPiece::Optional | PatternPiece::Repeated)
}

fn repeats_group(first: PatternPiece, second: PatternPiece) -> bool {
    first == PatternPiece::Closes && is_quantifier(second)
}

/// Of the parentheses and what is between them.
fn is_of_fixed_length(group: &[PatternPiece]) -> bool {
    group.contains(&PatternPiece::Single) && !group.iter().any(|piece| is_quantifier(*piece))
}

/// How many groups are open behind these pieces.
fn depth(pieces: &[PatternPiece]) -> usize {
    pieces.iter().fold(0, |depth, piece| deeper(depth, *piece))
}

fn deeper(depth: usize, piece: PatternPiece) -> usize {
    match piece {
        PatternPiece::OpensGroup | PatternPiece::Opens => depth + 1,
        PatternPiece::Closes => depth.saturating_sub(1),
        PatternPiece::Single
        | PatternPiece::Bar
        | PatternPiece::Optional
        | PatternPiece::Repeated
        | PatternPiece::End => depth,
    }
}

/// Whether there is an alternative to the whole.
fn has_bar_outside(pieces: &[PatternPiece]) -> bool {
    let mut depth = 0;
    pieces.iter().any(|piece| {
        depth = deeper(depth, *piece);
        depth == 0 && *piece == PatternPiece::Bar
    })
}

/// The pieces of an expression that the engine takes.
fn pieces(expression: &str) -> Vec<PatternPiece> {
    let mut rest = expression.strip_prefix("(?i)").unwrap_or(expression).chars().peekable();
    let mut pieces = Vec::new();
    while let Some(c) = rest.next() {
        pieces.push(match c {
            '\\' => {
                rest.next();
                PatternPiece::Single
            }
            '[' => {
                skip_bracket(&mut rest);
                PatternPiece::Single
            }
            '(' if rest.next_if_eq(&'?').is_some() => {
                // The colon: nothing else is let through.
                rest.next();
                PatternPiece::Opens
            }
            '(' => PatternPiece::OpensGroup,
            ')' => PatternPiece::Closes,
            '|' => PatternPiece::Bar,
            '?' => PatternPiece::Optional,
            '*' | '+' => PatternPiece::Repeated,
            '{' => {
                rest.by_ref().find(|c| *c == '}');
                PatternPiece::Repeated
            }
            '$' => PatternPiece::End,
            _ => PatternPiece::Single,
        });
    }
    pieces
}

/// Goes to the end of a bracket that is open.
fn skip_bracket(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    rest.next_if_eq(&'^');
    // At the front it is one of the characters.
    rest.next_if_eq(&']');
    while let Some(c) = rest.next() {
        match c {
            ']' => return,
            '\\' => {
                rest.next();
            }
            // A class such as [:alpha:]: no other bracket is let through.
            '[' => {
                rest.by_ref().find(|c| *c == ']');
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::*;

    #[test]
    fn what_may_stand_for_something_else_is_doubted() {
        for expression in [
            "^(adm|admin)(.*)$",
            "^(?:a|ab)(.*)$",
            "^(a)|(b)$",
            "a|(b)",
            "^(?:ab)?(b*)$",
            "^((?:ab)*)(b*)$",
            "^(a(b)?)",
            "^(?:(a)|b)$",
            "^(ab?)*b*$",
            "^(a*)?$",
            "^()?a$",
            "^(a+?)(b*)$",
            "^(.*)(?:@x|@xy)",
            "(b?)(?:bc)?",
            "^(a)b$|^(a)$",
            "^(.*)(?:@x|@xy)\\$",
            "^(.*)(?:@x|@y$)",
            "(?i)^(adm|admin)",
            "^[(](a|b)$",
            "^[]|](a|ab)",
        ] {
            assert!(Regex::new(expression).is_ok(), "{expression}");
            assert!(doubt(expression).is_some(), "{expression}");
        }
    }

    #[test]
    fn what_stands_for_the_same_is_not() {
        for expression in [
            "^(.*)@db\\.example$",
            "^(.*)@(?:db\\.example|db\\.test)$",
            "^(svc_[a-z]+)@example\\.org$",
            "^CN=([a-z]+),",
            "^(x)?y$",
            "^r(o+)t$",
            "^(r)(o)",
            "^(.)oot$",
            "(?i)^([^@|]+)@",
            "^([]|]+)$",
            "^([[:alpha:]|]{2,4})(?:, .*)?$",
            "^\\((a\\|b)\\)$",
            "^(?:CN=)([^,]+)(,OU=[^,]+)*$",
            "no group",
        ] {
            assert!(Regex::new(expression).is_ok(), "{expression}");
            assert_eq!(doubt(expression), None, "{expression}");
        }
    }

    fn whole(part: &str) -> Regex {
        Regex::new(&format!("^(?:{part})$")).expect("valid")
    }

    /// The longest way, as PostgreSQL goes: first what is before the group as far as it can, then the group.
    fn longest<'a>([head, group, rest]: [&Regex; 3], name: &'a [u8]) -> Option<&'a [u8]> {
        (0..=name.len()).rev().filter(|begin| head.is_match(&name[..*begin])).find_map(|begin| {
            let mut ends = (begin..=name.len()).rev();
            let end = ends.find(|end| group.is_match(&name[begin..*end]) && rest.is_match(&name[*end..]))?;
            Some(&name[begin..end])
        })
    }

    #[test]
    fn the_group_is_the_longest_one_where_there_is_no_doubt() {
        let names: Vec<String> = (0..5_u32)
            .flat_map(|length| (0..3_u32.pow(length)).map(move |number| (length, number)))
            .map(|(length, number)| {
                (0..length)
                    .map(|place| char::from(b"abc"[(number / 3_u32.pow(place) % 3) as usize]))
                    .collect()
            })
            .collect();
        let mut compared = 0;
        for head in ["", "a*", "[ab]?a", ".?b?", "a{0,2}", "(?:ab)", "(?:a|ab)", "(?:ab)?"] {
            for group in ["b*", "[ab]*a?c?", ".?a", "a?b?c?", "a|ab", "ab|a", "a?(?:ab)?"] {
                for rest in ["", ".*", "b?c*", "(?:b|bc)?", "(?:c|bc|b.*)"] {
                    let expression = format!("^{head}({group}){rest}$");
                    if doubt(&expression).is_some() {
                        continue;
                    }
                    let built = Regex::new(&expression).expect("valid");
                    let parts = [head, group, rest].map(whole);
                    for name in &names {
                        let found = built.captures(name.as_bytes()).and_then(|found| found.get(1));
                        let found = found.map(|group| group.as_bytes());
                        assert_eq!(found, longest(parts.each_ref(), name.as_bytes()), "{expression} {name}");
                        compared += usize::from(found.is_some());
                    }
                }
            }
        }
        assert!(compared > 1000, "{compared}");
    }
}
