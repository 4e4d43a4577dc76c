//! Panics of tasks, which a runtime would swallow.

use std::cell::RefCell;
use std::panic;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes panics of all threads from now on, each for its own.
pub fn note() {
    panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        LAST.with_borrow_mut(|last| last.get_or_insert(text).truncate(2_000));
    }));
}

/// The first panic of this thread since the last call of [`forget`].
pub fn last() -> Option<String> {
    LAST.with_borrow(Clone::clone)
}

pub fn forget() {
    LAST.take();
}
