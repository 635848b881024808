//! What only the next look knows: objects that sessions have created or changed a moment ago.

use super::keywords::is_of_language;
use super::name_of;
use crate::sql::functions::hash_of;
use crate::sql::lexer::{Lexer, Token};

/// Hashes of all names in SQL.
#[cold]
pub(super) fn names_in(sql: &[u8]) -> Vec<u64> {
    let mut names = Vec::new();
    let mut lexer = Lexer::new(sql);
    while let Ok(Some(token)) = lexer.next() {
        names.extend(name_of(token).map(|name| hash_of(&name)));
    }
    names
}

/// Hashes of names that what this SQL creates or changes may have: all but words of the language, those in the text of a DO or
/// a function, too.
#[cold]
pub(crate) fn names_made(sql: &[u8]) -> Vec<u64> {
    let mut names = Vec::new();
    let mut lexer = Lexer::new(sql);
    while let Ok(Some(token)) = lexer.next() {
        match token {
            Token::OtherString => add_names(inside(&sql[lexer.start()..lexer.at()]), &mut names),
            token => add_name(token, &mut names),
        }
    }
    names
}

fn add_names(sql: &[u8], names: &mut Vec<u64>) {
    let mut lexer = Lexer::new(sql);
    while let Ok(Some(token)) = lexer.next() {
        add_name(token, names);
    }
}

fn add_name(token: Token<'_>, names: &mut Vec<u64>) {
    let is_of_language = matches!(token, Token::Word(word) if is_of_language(&word.to_ascii_lowercase()));
    if !is_of_language {
        names.extend(name_of(token).map(|name| hash_of(&name)));
    }
}

/// What is between the dollars of a string; nothing of another one.
fn inside(string: &[u8]) -> &[u8] {
    let Some(tag) = string.strip_prefix(b"$").and_then(|rest| rest.iter().position(|byte| *byte == b'$'))
    else {
        return &[];
    };
    let delimiter = tag + 2;
    string.get(delimiter..string.len().saturating_sub(delimiter)).unwrap_or_default()
}
