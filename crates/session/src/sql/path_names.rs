//! The names in a `search_path`.

use super::lexer::{Lexer, Token};

/// What a `search_path` is set to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PathNames {
    /// By the keyword, to what the login gave.
    Default,
    Listed(Vec<Vec<u8>>),
}

/// The names in what SQL sets: `SET search_path = a, b`, or `set_config('search_path', 'a, b', false)`.
pub(crate) fn path_names(sql: &[u8]) -> Option<PathNames> {
    let mut lexer = Lexer::new(sql);
    while let Some(token) = lexer.next().ok()? {
        match token {
            Token::Symbol(b'=') => return listed_or_default(lexer),
            Token::Word(word) if word.eq_ignore_ascii_case(b"to") => return listed_or_default(lexer),
            Token::String(word) if word.eq_ignore_ascii_case(b"search_path") => {
                let comma = lexer.next().ok()?;
                let Some(Token::String(value)) = lexer.next().ok()? else { return None };
                let names = list(Lexer::new(value)).filter(|_| comma == Some(Token::Symbol(b',')));
                return names.map(PathNames::Listed);
            }
            _before => {}
        }
    }
    None
}

/// Behind `=` or TO.
fn listed_or_default(lexer: Lexer<'_>) -> Option<PathNames> {
    match lexer.clone().next().ok()? {
        Some(Token::Word(word)) if word.eq_ignore_ascii_case(b"default") => Some(PathNames::Default),
        _name => list(lexer).map(PathNames::Listed),
    }
}

fn list(mut lexer: Lexer<'_>) -> Option<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    while let Some(token) = lexer.next().ok()? {
        match token {
            Token::Word(name) => names.push(name.to_ascii_lowercase()),
            Token::Quoted(name) | Token::String(name) => names.push(name.to_vec()),
            Token::Symbol(b',' | b';') => {}
            Token::OtherString | Token::Number | Token::Parameter(_) | Token::Symbol(_) => return None,
        }
    }
    Some(names)
}
