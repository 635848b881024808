//! What the top modules of a crate import from each other.
//!
//! A path that begins with `crate` or `super` counts wherever it stands, in a `use`, a signature or a macro. Tests do not
//! count: they may look at everything. A name that the root re-exports counts as its module's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenTree};

use crate::graph::Graph;

/// What the root file itself is called in the graph: what it defines, and what it imports for itself.
pub const ROOT: &str = "crate";

/// Reads the crate whose root file is `root`.
///
/// # Panics
/// When a file cannot be read.
#[must_use]
pub fn read(root: &Path) -> Graph {
    let tokens = crate::tokens(root);
    let mut reader = Reader { re_exports: re_exports(&tokens), graph: Graph::default(), modules: Vec::new() };
    reader.modules = modules_of(&tokens);
    for module in &reader.modules {
        reader.graph.module(module);
    }
    let folder = root.parent().expect("a file is in a folder").to_owned();
    reader.scan(&tokens, &Place { path: Vec::new(), file: root.to_owned(), folder });
    reader.graph
}

struct Reader {
    /// Names that the root re-exports, with the module that has them.
    re_exports: BTreeMap<String, String>,
    modules: Vec<String>,
    graph: Graph,
}

/// Where tokens stand.
#[derive(Clone)]
struct Place {
    /// The module's path from the root on.
    path: Vec<String>,
    file: PathBuf,
    /// Where the files of its modules are.
    folder: PathBuf,
}

impl Place {
    fn within(&self, module: &str) -> Self {
        let mut path = self.path.clone();
        path.push(module.to_owned());
        Place { path, file: self.file.clone(), folder: self.folder.join(module) }
    }
}

impl Reader {
    fn scan(&mut self, tokens: &[TokenTree], place: &Place) {
        let mut at = 0;
        while at < tokens.len() {
            if is_for_tests(tokens, at) {
                at = after_item(tokens, at);
                continue;
            }
            if let Some(name) = module_at(tokens, at) {
                match &tokens[at + 2] {
                    TokenTree::Group(body) => self.scan(&inner(body), &place.within(&name)),
                    _ => self.file(&place.within(&name)),
                }
                at += 3;
                continue;
            }
            at = match &tokens[at] {
                TokenTree::Group(group) => {
                    self.scan(&inner(group), place);
                    at + 1
                }
                TokenTree::Ident(word) if word == "crate" || word == "super" => self.path(tokens, at, place),
                _ => at + 1,
            };
        }
    }

    fn file(&mut self, place: &Place) {
        let plain = place.folder.with_extension("rs");
        let file = if plain.exists() { plain } else { place.folder.join("mod.rs") };
        let place = Place { file: file.clone(), ..place.clone() };
        self.scan(&crate::tokens(&file), &place);
    }

    /// Reads a path that begins with `crate` or `super`; returns where to go on.
    fn path(&mut self, tokens: &[TokenTree], at: usize, place: &Place) -> usize {
        let mut base = if is_word(tokens.get(at), "crate") { Vec::new() } else { place.path.clone() };
        let mut next = at;
        while is_word(tokens.get(next), "super") && is_separator(tokens, next + 1) {
            base.pop();
            next += 3;
        }
        if is_word(tokens.get(next), "crate") && is_separator(tokens, next + 1) {
            next += 3;
        }
        if next == at {
            return at + 1;
        }
        for name in first_names(tokens.get(next)) {
            let top = base.first().cloned().unwrap_or(name);
            self.arrow(place, &top, tokens[at].span().start().line);
        }
        // A group of names is read again for nothing: no name in it begins with `crate`.
        next
    }

    fn arrow(&mut self, place: &Place, name: &str, line: usize) {
        let from = place.path.first().map_or(ROOT, String::as_str);
        let to = if self.modules.iter().any(|module| module == name) {
            name
        } else {
            self.re_exports.get(name).map_or(ROOT, String::as_str)
        };
        if from != to && !(from == ROOT && place.path.is_empty()) {
            self.graph.arrow(from, to, &format!("{}:{line}", place.file.display()));
        }
    }
}

fn inner(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn is_word(token: Option<&TokenTree>, expected: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(word)) if word == expected)
}

fn is_punct(token: Option<&TokenTree>, expected: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == expected)
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// `mod NAME` and what follows.
fn module_at(tokens: &[TokenTree], at: usize) -> Option<String> {
    let body = tokens.get(at + 2)?;
    let is_body = is_punct(Some(body), ';')
        || matches!(body, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    match tokens.get(at + 1) {
        Some(TokenTree::Ident(name)) if is_word(tokens.get(at), "mod") && is_body => Some(name.to_string()),
        _ => None,
    }
}

/// Whether an attribute `#[cfg(test)]` begins here.
fn is_for_tests(tokens: &[TokenTree], at: usize) -> bool {
    let Some(TokenTree::Group(attribute)) = tokens.get(at + 1) else { return false };
    is_punct(tokens.get(at), '#') && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// Where the item that begins here with an attribute ends.
fn after_item(tokens: &[TokenTree], at: usize) -> usize {
    let is_end = |token: &TokenTree| {
        is_punct(Some(token), ';')
            || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
    };
    tokens[at..].iter().position(is_end).map_or(tokens.len(), |end| at + end + 1)
}

/// The names that a path goes on with: one, or those of a group.
fn first_names(token: Option<&TokenTree>) -> Vec<String> {
    match token {
        Some(TokenTree::Ident(name)) => vec![name.to_string()],
        Some(TokenTree::Group(group)) => {
            let tokens = inner(group);
            let items = tokens.split(|token| is_punct(Some(token), ','));
            items.flat_map(|item| first_names(item.first())).collect()
        }
        _ => Vec::new(),
    }
}

/// The root's modules that are not for tests.
fn modules_of(root: &[TokenTree]) -> Vec<String> {
    let mut modules = Vec::new();
    let mut at = 0;
    while at < root.len() {
        if is_for_tests(root, at) {
            at = after_item(root, at);
            continue;
        }
        modules.extend(module_at(root, at));
        at += 1;
    }
    modules
}

/// `use MODULE::NAME` and `use MODULE::{NAME, ...}` of the root, public or not.
fn re_exports(root: &[TokenTree]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for at in 0..root.len() {
        if !is_word(root.get(at), "use") {
            continue;
        }
        let Some(TokenTree::Ident(module)) = root.get(at + 1) else { continue };
        let end =
            root[at..].iter().position(|token| is_punct(Some(token), ';')).map_or(root.len(), |n| at + n);
        let names = root[at + 2..end].iter().flat_map(|token| match token {
            TokenTree::Group(group) => inner(group).iter().map(ToString::to_string).collect(),
            other => vec![other.to_string()],
        });
        found.extend(names.map(|name| (name, module.to_string())));
    }
    found
}
