//! What may end a login from outside is waited for all its time, and looked at once it has happened: not each time that the
//! client sends something.

use std::task::{Context, Waker};

/// Who is woken by what may end a login, since that was polled.
#[derive(Debug, Default)]
pub(super) struct ToldWaker(Option<Waker>);

impl ToldWaker {
    /// Whether that will wake this task. If it would not, it is to be polled now, by which it will.
    pub(super) fn wakes(&mut self, cx: &Context<'_>) -> bool {
        if self.0.as_ref().is_some_and(|told| told.will_wake(cx.waker())) {
            return true;
        }
        self.0 = Some(cx.waker().clone());
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn another_task_has_to_be_told_anew() {
        let tasks = [0, 1].map(|_| Waker::from(Arc::new(Task)));
        let mut told = ToldWaker::default();
        let wakes = [0, 0, 1, 1, 0].map(|task: usize| told.wakes(&Context::from_waker(&tasks[task])));
        assert_eq!(wakes, [false, true, false, true, false]);
    }
}
