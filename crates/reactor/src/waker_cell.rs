//! A place for the waker of a task: the size of the waker, and nothing beside it.

use std::cell::Cell;
use std::fmt;
use std::task::Waker;

/// Whom to wake, if anybody. For one thread.
#[derive(Default)]
pub struct WakerCell(Cell<Option<Waker>>);

impl fmt::Debug for WakerCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "WakerCell(set)" } else { "WakerCell(empty)" })
    }
}

impl WakerCell {
    /// Puts a waker there, unless the one that is there wakes the same task.
    #[inline]
    pub fn set(&self, waker: &Waker) {
        let known = self.0.take().filter(|known| known.will_wake(waker));
        self.0.set(Some(known.unwrap_or_else(|| waker.clone())));
    }

    /// Puts a waker there if there is none.
    #[inline]
    pub fn set_first(&self, waker: &Waker) {
        let known = self.0.take();
        self.0.set(Some(known.unwrap_or_else(|| waker.clone())));
    }

    /// Whether there is one.
    #[inline]
    pub fn is_set(&self) -> bool {
        let waker = self.0.take();
        let is_set = waker.is_some();
        self.0.set(waker);
        is_set
    }

    /// Takes it out.
    #[inline]
    pub fn take(&self) -> Option<Waker> {
        self.0.take()
    }

    /// Wakes the task, whose waker stays.
    #[inline]
    pub fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake_by_ref();
            self.0.set(Some(waker));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_is_there_is_woken_and_stays() {
        let [first, second] = [(); 2].map(|()| Arc::new(Count::default()));
        let told = || [&first, &second].map(|count| count.0.load(Ordering::Relaxed));
        let cell = WakerCell::default();
        cell.wake();
        assert!(!cell.is_set());
        cell.set_first(&Arc::clone(&first).into());
        cell.set_first(&Arc::clone(&second).into());
        cell.wake();
        cell.wake();
        assert_eq!((told(), cell.is_set()), ([2, 0], true));
        cell.set(&Arc::clone(&second).into());
        cell.wake();
        assert_eq!(told(), [2, 1]);
        drop(cell.take());
        cell.wake();
        assert_eq!((told(), cell.is_set()), ([2, 1], false));
    }
}
