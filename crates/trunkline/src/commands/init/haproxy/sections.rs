//! The file: sections of lines of words.

/// One line that says something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HaLine {
    /// Its words, without quotes.
    pub(super) words: Vec<String>,
    number: usize,
}

impl HaLine {
    /// Its first word.
    pub(super) fn first(&self) -> &str {
        self.word(0)
    }

    /// A word of it; empty where there is none.
    pub(super) fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// The word after `word`.
    pub(super) fn after(&self, word: &str) -> Option<&str> {
        let at = self.words.iter().position(|known| known == word)?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// Whether a word is in it.
    pub(super) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// `line N`.
    pub(super) fn place(&self) -> String {
        format!("line {}", self.number)
    }
}

/// What kind of section it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectionKind {
    /// `global`
    Global,
    /// `defaults`
    Defaults,
    /// `listen`
    Listen,
    /// `frontend`
    Frontend,
    /// `backend`
    Backend,
    /// Any other, which does not matter here.
    Other,
}

/// A section with its lines.
#[derive(Clone, Debug)]
pub(super) struct HaSection {
    pub(super) kind: SectionKind,
    /// Its name; empty without one.
    pub(super) name: String,
    pub(super) lines: Vec<HaLine>,
}

/// Words that begin a section that does not matter here.
const OTHERS: &[&str] = &[
    "resolvers",
    "peers",
    "userlist",
    "mailers",
    "program",
    "http-errors",
    "cache",
    "ring",
    "fcgi-app",
    "log-forward",
    "crt-store",
    "traces",
    "log-profile",
    "acme",
];

/// All sections, in order.
pub(super) fn read(text: &str) -> Vec<HaSection> {
    let mut sections: Vec<HaSection> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words = words(line);
        let Some(first) = words.first() else { continue };
        let kind = match first.as_str() {
            "global" => Some(SectionKind::Global),
            "defaults" => Some(SectionKind::Defaults),
            "listen" => Some(SectionKind::Listen),
            "frontend" => Some(SectionKind::Frontend),
            "backend" => Some(SectionKind::Backend),
            word if OTHERS.contains(&word) => Some(SectionKind::Other),
            _ => None,
        };
        match (kind, sections.last_mut()) {
            (Some(kind), _) => {
                let name = words.get(1).cloned().unwrap_or_default();
                let mut section = HaSection { kind, name, lines: Vec::new() };
                // The address behind a listen's name is an old form of bind.
                if kind == SectionKind::Listen
                    && let Some(address) = words.get(2)
                {
                    section.lines.push(HaLine { words: vec!["bind".to_owned(), address.clone()], number });
                }
                sections.push(section);
            }
            (None, Some(section)) => section.lines.push(HaLine { words, number }),
            (None, None) => {}
        }
    }
    sections
}

/// The words of a line: a backslash takes the next character as it is, quotes keep blanks, and `#` begins a comment.
/// Source: HAProxy 2.6, doc/configuration.txt, "Quoting and escaping".
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#', None) => break,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_as_haproxy_does() {
        assert_eq!(words(r#" server a\ b "x # y" 'q"' # comment"#), ["server", "a b", "x # y", "q\""]);
        assert_eq!(words("  # nothing"), [] as [&str; 0]);
        assert_eq!(words("x \\"), ["x", ""]);
    }

    #[test]
    fn sections_have_their_lines() {
        let sections =
            read("stray\nglobal\n maxconn 5\nlisten pg :5000\n mode tcp\nresolvers d\n nameserver x\n");
        let shown: Vec<_> = sections.iter().map(|s| (s.kind, s.name.as_str(), s.lines.len())).collect();
        let wanted =
            [(SectionKind::Global, "", 1), (SectionKind::Listen, "pg", 2), (SectionKind::Other, "d", 1)];
        assert_eq!(shown, wanted);
        assert_eq!(sections[1].lines[0].words, ["bind", ":5000"]);
        assert_eq!(sections[1].lines[1].place(), "line 5");
    }
}
