//! No type name stands for two things.

use std::collections::BTreeMap;
use std::path::Path;

use proc_macro2::TokenTree;

use crate::{rust_files, tokens};

/// The names that more than one type of the crates in `folder` has; those of tests aside.
#[must_use]
pub fn faults(folder: &Path) -> Vec<String> {
    let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files(folder).iter().filter(|file| is_program(file)) {
        for name in types(&tokens(file)) {
            homes.entry(name).or_default().push(file.display().to_string());
        }
    }
    let shared = homes.into_iter().filter(|(_, files)| files.len() > 1);
    shared.map(|(name, files)| format!("{name} is a type in {}", files.join(" and in "))).collect()
}

fn is_program(file: &Path) -> bool {
    let is_of_tests = |part: &str| ["tests", "simulation", "examples", "testing"].contains(&part);
    !file.iter().filter_map(|part| part.to_str()).any(|part| is_of_tests(part.trim_end_matches(".rs")))
}

/// The types that a file defines outside of modules and functions.
fn types(tokens: &[TokenTree]) -> Vec<String> {
    let named = tokens.windows(2).filter_map(|pair| match pair {
        [TokenTree::Ident(keyword), TokenTree::Ident(name)]
            if ["struct", "enum", "trait", "type"].contains(&keyword.to_string().as_str()) =>
        {
            Some(name.to_string())
        }
        _ => None,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_their_keyword() {
        let source =
            "pub(crate) struct A<T>(T); enum B { C } trait D {} type E = A<u8>; fn f() { struct G; }";
        let stream: proc_macro2::TokenStream = source.parse().expect("Rust");
        assert_eq!(types(&stream.into_iter().collect::<Vec<_>>()), ["A", "B", "D", "E"]);
    }
}
