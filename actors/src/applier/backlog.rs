//! Where the Applier waits while the store is too far ahead of its file.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The longest wait before the condition is checked again, in case a notice was missed.
const WAIT_MAX: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct State {
    closed: bool,
    store_full: bool,
}

/// Wakes the Applier when StoreWriter has caught up. Waiting blocks the Applier's own thread, and
/// so holds back openraft's apply task: this is the intended back-pressure.
///
/// On a full disk StoreWriter cannot catch up, and a wait would end in time-outs for writes that
/// were admitted and are safe in the log. So nothing waits then: few more can come, because only
/// what makes room is admitted, and no more than the log still has room for.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    state: Mutex<State>,
    changed: Condvar,
}

impl Backlog {
    /// Blocks while `is_backlogged` says so. Returns false if the node stops meanwhile.
    pub(crate) fn wait_while(&self, is_backlogged: impl Fn() -> bool) -> bool {
        let mut state = self.state.lock();
        while !state.closed && !state.store_full && is_backlogged() {
            self.changed.wait_for(&mut state, WAIT_MAX);
        }
        !state.closed
    }

    /// Blocks for a moment, or until a checkpoint was attempted. Returns false if the node stops.
    pub(crate) fn pause(&self) -> bool {
        let mut state = self.state.lock();
        if !state.closed {
            self.changed.wait_for(&mut state, WAIT_MAX);
        }
        !state.closed
    }

    /// Notes that a checkpoint was made, or met a full disk.
    pub(crate) fn checkpoint_ended(&self, disk_full: bool) {
        self.state.lock().store_full = disk_full;
        self.changed.notify_all();
    }

    /// Notes that nothing will be checkpointed any more; all waits end.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
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
        backlog.checkpoint_ended(false);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn nobody_waits_for_a_store_that_has_no_space() {
        let backlog = Arc::new(Backlog::default());
        let theirs = Arc::clone(&backlog);
        let waiter = std::thread::spawn(move || theirs.wait_while(|| true));
        backlog.checkpoint_ended(true);
        assert!(waiter.join().unwrap());
        assert!(backlog.wait_while(|| true));
        assert!(backlog.pause(), "it goes on");
        backlog.close();
        assert!(!backlog.pause());
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
