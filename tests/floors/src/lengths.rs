//! How long files and functions may be.

use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenTree};

/// Lines of a file.
pub const FILE_LINES_MAX: usize = 450;

/// Lines of a function, from its `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 80;

/// What is too long in `file`.
///
/// # Panics
/// When the file cannot be read.
#[must_use]
pub fn faults(file: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = fs::read_to_string(file).expect("a file of the repository").lines().count();
    if lines > FILE_LINES_MAX {
        faults.push(format!("{} has {lines} lines, more than {FILE_LINES_MAX}", file.display()));
    }
    for (name, lines) in functions(&crate::tokens(file)) {
        if lines > FUNCTION_LINES_MAX {
            let file = file.display();
            faults.push(format!("{name} in {file} has {lines} lines, more than {FUNCTION_LINES_MAX}"));
        }
    }
    faults
}

/// All functions with their lines.
fn functions(tokens: &[TokenTree]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize)> = None;
    let mut after_fn = None;
    for token in tokens {
        match token {
            TokenTree::Ident(word) if word == "fn" => after_fn = Some(word.span().start().line),
            TokenTree::Ident(word) => {
                if let Some(line) = after_fn.take() {
                    open = Some((word.to_string(), line));
                }
            }
            TokenTree::Group(group) => {
                // `fn(u8)` is a type.
                after_fn = None;
                if group.delimiter() == Delimiter::Brace
                    && let Some((name, first)) = open.take()
                {
                    found.push((name, group.span_close().end().line + 1 - first));
                }
                found.extend(functions(&group.stream().into_iter().collect::<Vec<_>>()));
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => open = None,
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_counts_from_its_name_to_its_brace() {
        let text = "trait T { fn declared(f: fn(u8)); }\nimpl T {\n fn made(\n a: u8,\n ) {\n let b = || {};\n }\n}\nfn one() {}";
        let stream: proc_macro2::TokenStream = text.parse().expect("Rust");
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        assert_eq!(functions(&tokens), [("made".to_owned(), 5), ("one".to_owned(), 1)]);
    }
}
