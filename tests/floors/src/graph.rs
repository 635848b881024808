//! Who imports from whom.

use std::collections::{BTreeMap, BTreeSet};

/// Arrows between named things, with a place where each stands.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    arrows: BTreeMap<String, BTreeMap<String, String>>,
}

impl Graph {
    /// Adds a module without imports.
    pub fn module(&mut self, name: &str) {
        self.arrows.entry(name.to_owned()).or_default();
    }

    /// Adds an arrow; the first place stays.
    pub fn arrow(&mut self, from: &str, to: &str, place: &str) {
        let arrows = self.arrows.entry(from.to_owned()).or_default();
        arrows.entry(to.to_owned()).or_insert_with(|| place.to_owned());
    }

    /// Each module with those that it imports.
    pub fn arrows(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.arrows.iter().map(|(from, to)| (from.as_str(), to.keys().map(String::as_str).collect()))
    }

    /// Whether there is such a module.
    #[must_use]
    pub fn has(&self, module: &str) -> bool {
        self.arrows.contains_key(module)
    }

    /// Where `from` imports `to`.
    #[must_use]
    pub fn place(&self, from: &str, to: &str) -> &str {
        self.arrows.get(from).and_then(|arrows| arrows.get(to)).map_or("", String::as_str)
    }

    /// What is in a circle: what is left when everything that imports nothing, or that nothing imports, is taken
    /// away again and again.
    #[must_use]
    pub fn circle(&self) -> BTreeSet<&str> {
        let mut left: BTreeSet<&str> = self.arrows.keys().map(String::as_str).collect();
        loop {
            let imported: BTreeSet<&str> =
                left.iter().flat_map(|from| self.imports(from)).filter(|to| left.contains(to)).collect();
            let imports = |module: &&str| self.imports(module).any(|to| left.contains(to));
            let next: BTreeSet<&str> =
                left.iter().copied().filter(|module| imports(module) && imported.contains(module)).collect();
            if next.len() == left.len() {
                return left;
            }
            left = next;
        }
    }

    fn imports(&self, from: &str) -> impl Iterator<Item = &str> {
        self.arrows.get(from).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_and_what_hangs_on_it_is_not_in_it() {
        let mut graph = Graph::default();
        for (from, to) in [("top", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "ground")] {
            graph.arrow(from, to, "");
        }
        graph.module("ground");
        assert_eq!(graph.circle(), BTreeSet::from(["a", "b", "c"]));
    }
}
