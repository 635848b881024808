//! How many requests are known to be the primary's, counted when somebody looks.

use std::sync::OnceLock;

/// `None` while no listener chooses a server for each request.
type CountLearned = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The requests that standbys have refused and the primary has run.
#[derive(Default)]
pub struct LearnedReader(OnceLock<CountLearned>);

impl LearnedReader {
    /// Has them counted by `count`, from now on; the first to say so counts.
    pub fn counted_by(&self, count: impl Fn() -> Option<u64> + Send + Sync + 'static) {
        let _is_first = self.0.set(Box::new(count));
    }

    /// How many there are; `None` while no listener chooses a server for each request.
    #[must_use]
    pub fn now(&self) -> Option<u64> {
        self.0.get()?()
    }
}

impl std::fmt::Debug for LearnedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.0.get().is_some() { "counted" } else { "none" };
        f.debug_tuple("LearnedReader").field(&state).finish()
    }
}
