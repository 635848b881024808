//! The names in a `search_path`.

use super::lexer::{Lexer, Token};

/// The names in what SQL sets: `SET search_path = a, b`, or `set_config('search_path', 'a, b', false)`.
pub(crate) fn path_names(sql: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut lexer = Lexer::new(sql);
    while let Some(token) = lexer.next().ok()? {
        match token {
            Token::Symbol(b'=') => return list(lexer),
            Token::Word(word) if word.eq_ignore_ascii_case(b"to") => return list(lexer),
            Token::String(word) if word.eq_ignore_ascii_case(b"search_path") => {
                let comma = lexer.next().ok()?;
                let Some(Token::String(value)) = lexer.next().ok()? else { return None };
                return list(Lexer::new(value)).filter(|_| comma == Some(Token::Symbol(b',')));
            }
            _before => {}
        }
    }
    None
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
