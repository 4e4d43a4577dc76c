//! Where the Applier waits while the store is too far ahead of its file.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a wait lasts before the condition is looked at again, should a notice be missed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Wakes the Applier when StoreWriter has caught up. It blocks the Applier's own thread, and so
/// holds back openraft's apply task, which is the intended back-pressure.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Backlog {
    /// Blocks while `is_backlogged` says so. Returns false if the node stops meanwhile.
    pub(crate) fn wait_while(&self, is_backlogged: impl Fn() -> bool) -> bool {
        let mut closed = self.closed.lock();
        while !*closed && is_backlogged() {
            self.changed.wait_for(&mut closed, WAIT_MAX);
        }
        !*closed
    }

    /// Something was checkpointed.
    pub(crate) fn checkpointed(&self) {
        let _closed = self.closed.lock();
        self.changed.notify_all();
    }

    /// Nothing will be checkpointed any more; whoever waits gives up.
    pub(crate) fn close(&self) {
        *self.closed.lock() = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_wait_ends_when_the_backlog_is_gone() {
        let backlog = Arc::new(Backlog::default());
        let full = Arc::new(AtomicBool::new(true));
        let (theirs, seen) = (Arc::clone(&backlog), Arc::clone(&full));
        let waiter = std::thread::spawn(move || theirs.wait_while(|| seen.load(Ordering::SeqCst)));
        full.store(false, Ordering::SeqCst);
        backlog.checkpointed();
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn closing_ends_every_wait() {
        let backlog = Arc::new(Backlog::default());
        let theirs = Arc::clone(&backlog);
        let waiter = std::thread::spawn(move || theirs.wait_while(|| true));
        backlog.close();
        assert!(!waiter.join().unwrap());
    }
}
