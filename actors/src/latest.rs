//! The latest value of something, and waiting for it to change.
//!
//! Like tokio's `watch`, with one difference: waiters are woken in the order in which they began to
//! wait. tokio spreads them over eight lists at random, and a simulation could not repeat that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::Notify;

/// A look at the value; it must be short, since the value cannot change meanwhile.
pub(crate) type Ref<'a, T> = RwLockReadGuard<'a, T>;

/// The value will not change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

struct Shared<T> {
    value: RwLock<T>,
    /// Grows with each change, while the value is locked.
    version: AtomicU64,
    changed: Notify,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    is_closed: AtomicBool,
}

/// The end that changes the value.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The end that waits for changes.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// A value with its first sender and receiver.
pub(crate) fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Sender<T> {
        Sender(Arc::new(Shared {
            value: RwLock::new(value),
            version: AtomicU64::new(0),
            changed: Notify::new(),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// A receiver that has seen the current value.
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.fetch_add(1, Ordering::AcqRel);
        Receiver {
            seen: self.0.version.load(Ordering::Acquire),
            shared: Arc::clone(&self.0),
        }
    }

    pub(crate) fn borrow(&self) -> Ref<'_, T> {
        self.0.value.read()
    }

    /// Changes the value; `modify` says whether it did, and so does the result.
    pub(crate) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let mut value = self.0.value.write();
        let modified = modify(&mut value);
        if modified {
            self.0.version.fetch_add(1, Ordering::Release);
        }
        drop(value);
        if modified {
            self.0.changed.notify_waiters();
        }
        modified
    }

    pub(crate) fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// Sets the value, and returns the former one.
    pub(crate) fn send_replace(&self, value: T) -> T {
        let mut former = value;
        self.send_modify(|current| std::mem::swap(current, &mut former));
        former
    }

    /// Sets the value. Errors: the value, if nobody could see it.
    pub(crate) fn send(&self, value: T) -> Result<(), T> {
        if self.0.receivers.load(Ordering::Acquire) == 0 {
            return Err(value);
        }
        self.send_replace(value);
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.is_closed.store(true, Ordering::Release);
            self.0.changed.notify_waiters();
        }
    }
}

impl<T> Receiver<T> {
    pub(crate) fn borrow(&self) -> Ref<'_, T> {
        self.shared.value.read()
    }

    pub(crate) fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.value.read();
        self.seen = self.shared.version.load(Ordering::Acquire);
        value
    }

    /// Waits for a value that this receiver has not seen. Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Created before the check: a change between the two completes it.
            let changed = self.shared.changed.notified();
            // Read before the value, so that the last value counts.
            let is_closed = self.shared.is_closed.load(Ordering::Acquire);
            let version = self.shared.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if is_closed {
                return Err(Closed);
            }
            changed.await;
        }
    }

    /// Waits for a value that `is_wanted` accepts; the present one counts.
    pub(crate) async fn wait_for(
        &mut self,
        mut is_wanted: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, Closed> {
        let Receiver { shared, seen } = self;
        loop {
            let changed = shared.changed.notified();
            // Read before the value, so that the last value counts.
            let is_closed = shared.is_closed.load(Ordering::Acquire);
            {
                let value = shared.value.read();
                *seen = shared.version.load(Ordering::Acquire);
                if is_wanted(&value) {
                    return Ok(value);
                }
            }
            if is_closed {
                return Err(Closed);
            }
            changed.await;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::AcqRel);
        Receiver {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.0.value).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.shared.value).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[actix::test]
    async fn each_receiver_sees_the_latest_value_once() {
        let (sender, mut one) = channel(1);
        let mut other = one.clone();
        assert!(one.changed().now_or_never().is_none(), "1 is no news");
        assert_eq!(sender.send(2), Ok(()));
        assert_eq!(sender.send_replace(3), 2);
        for receiver in [&mut one, &mut other] {
            assert_eq!(receiver.changed().await, Ok(()));
            assert_eq!(*receiver.borrow_and_update(), 3);
            assert!(receiver.changed().now_or_never().is_none());
        }
        assert!(!sender.send_if_modified(|_| false));
        assert!(one.changed().now_or_never().is_none(), "nothing changed");
    }

    #[actix::test]
    async fn who_waits_is_woken_in_order() {
        let sender = Sender::new(0);
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let waits: Vec<_> = (0..50)
            .map(|number| {
                let (mut receiver, order) = (sender.subscribe(), Arc::clone(&order));
                actix_rt::spawn(async move {
                    assert_eq!(*receiver.wait_for(|value| *value == 1).await.unwrap(), 1);
                    order.lock().push(number);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.send_replace(1);
        for wait in waits {
            wait.await.unwrap();
        }
        assert_eq!(*order.lock(), (0..50).collect::<Vec<i32>>());
    }

    #[actix::test]
    async fn the_last_value_outlives_its_senders() {
        let (sender, mut receiver) = channel(1);
        let second = sender.clone();
        drop(sender);
        second.send_replace(2);
        drop(second);
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(receiver.changed().await, Err(Closed));
        assert!(receiver.wait_for(|value| *value == 2).await.is_ok());
        assert!(receiver.wait_for(|value| *value == 3).await.is_err());
        let (sender, receiver) = channel(1);
        drop(receiver);
        assert_eq!(sender.send(2), Err(2), "nobody could see it");
    }
}
