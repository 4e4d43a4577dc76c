//! From the Applier to the hub: what was committed, one notice for each batch. The Applier never
//! waits: what does not fit is dropped, and the hub reads it from the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use althing_api::mvccpb::Event;
use althing_storage::store::{self, HeldHistory, Store};
use parking_lot::Mutex;

use super::WatchHub;
use super::message::Committed;
use crate::supervisor::ActorRef;

/// Events in one notice; the hub reads a larger batch from the store, in slices.
const NOTICE_EVENTS_MAX: usize = 1_000;
/// Bytes of all values in one notice, for the same reason.
const NOTICE_BYTES_MAX: usize = 1 << 20;

/// What the Applier and the hub share.
#[derive(Debug, Default)]
pub(crate) struct Attention {
    /// Whether anybody watches. While nobody does, the Applier keeps no events.
    watched: AtomicBool,
    /// Whether the hub was not told of some revision.
    missed: AtomicBool,
    held: Mutex<Option<Held>>,
}

/// What the hub may still have to read, held when a compaction would make it unreadable.
#[derive(Debug)]
struct Held {
    history: HeldHistory,
    /// The hub needs none of this once it has fanned out this revision.
    until: i64,
}

impl Attention {
    /// Notes that somebody watches from now on. Revisions that become visible after this call are
    /// either told or seen in the store by the caller.
    pub(super) fn raise(&self) {
        self.watched.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Notes that nobody watches any more.
    pub(super) fn lower(&self) {
        self.watched.store(false, Ordering::SeqCst);
        *self.held.lock() = None;
    }

    /// Holds history for the hub before a compaction is applied; if the hub lags, also what was
    /// held for an earlier one.
    pub(super) fn hold(&self, store: &Store) {
        let until = store.revisions().current;
        let mut held = self.held.lock();
        let history = match held.take() {
            Some(earlier) => earlier.history,
            None => store.hold_history(),
        };
        *held = Some(Held { history, until });
    }

    /// What is held. Must be read only after the store said that something is compacted.
    pub(super) fn held(&self) -> Option<HeldHistory> {
        self.held.lock().as_ref().map(|held| held.history.clone())
    }

    /// Notes that the hub has fanned out `current`, and lets go of what is held only for earlier
    /// ones.
    pub(super) fn let_go(&self, current: i64) {
        self.held.lock().take_if(|held| held.until <= current);
    }

    /// Whether a revision was not told since the last call.
    pub(super) fn take_missed(&self) -> bool {
        self.missed.load(Ordering::SeqCst) && self.missed.swap(false, Ordering::SeqCst)
    }

    fn is_raised(&self) -> bool {
        fence(Ordering::SeqCst);
        self.watched.load(Ordering::SeqCst)
    }
}

/// Makes the hub read from the store what it was not told.
#[derive(Clone, Debug)]
pub(crate) struct Hint {
    hub: ActorRef<WatchHub>,
    attention: Arc<Attention>,
}

impl Hint {
    /// Notes that the store has moved on, perhaps by more than one revision.
    pub(crate) fn missed(&self) {
        // In this order: either the hub still has a message in its queue, after which it looks
        // here, or there is room for this one by now.
        self.attention.missed.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        self.hub.try_send(Committed {
            first: 0,
            last: 0,
            events: Vec::new(),
        });
    }
}

/// The Applier's end.
#[derive(Debug)]
pub(crate) struct Feed {
    hint: Hint,
    notice: Notice,
    /// Whether history is held for the hub, which has to check whether it needs it.
    holds: bool,
}

/// A notice under construction while a batch is applied. `first` is 0 while it is empty.
#[derive(Debug, Default)]
struct Notice {
    first: i64,
    last: i64,
    events: Vec<Event>,
    bytes: usize,
    is_lost: bool,
}

impl Feed {
    pub(crate) fn new(hub: ActorRef<WatchHub>, attention: Arc<Attention>) -> Feed {
        Feed {
            hint: Hint { hub, attention },
            notice: Notice::default(),
            holds: false,
        }
    }

    /// Must be called before a compaction is applied: keeps readable what the hub has still to
    /// read.
    pub(crate) fn hold_history(&mut self, store: &Store) {
        if self.hint.attention.is_raised() {
            self.hint.attention.hold(store);
            self.holds = true;
        }
    }

    /// A hint for code that changes the store as a whole.
    pub(crate) fn hint(&self) -> Hint {
        self.hint.clone()
    }

    /// Adds what one entry changed, after it became visible.
    pub(crate) fn add(&mut self, committed: store::Committed) {
        if !committed.events.is_empty() && self.hint.attention.is_raised() {
            self.notice.add(committed);
        }
    }

    /// Tells the hub what was added.
    pub(crate) fn flush(&mut self) {
        self.tell();
        if std::mem::take(&mut self.holds) {
            self.hint.wake();
        }
    }

    fn tell(&mut self) {
        if self.notice.first == 0 {
            return;
        }
        let Notice {
            first,
            last,
            events,
            is_lost,
            ..
        } = std::mem::take(&mut self.notice);
        if !is_lost {
            let committed = Committed {
                first,
                last,
                events,
            };
            if self.hint.hub.try_send(committed) {
                return;
            }
        }
        self.hint.missed();
    }
}

impl Notice {
    fn add(&mut self, committed: store::Committed) {
        if self.first == 0 {
            self.first = committed.revision;
        }
        self.last = committed.revision;
        let value = |event: &Event| {
            event
                .kv
                .as_ref()
                .map_or(0, |kv| kv.key.len() + kv.value.len())
        };
        self.bytes += committed.events.iter().map(value).sum::<usize>();
        let count = self.events.len() + committed.events.len();
        if self.is_lost || count > NOTICE_EVENTS_MAX || self.bytes > NOTICE_BYTES_MAX {
            self.is_lost = true;
            self.events = Vec::new();
        } else if self.events.is_empty() {
            self.events = committed.events;
        } else {
            self.events.extend(committed.events);
        }
    }
}

#[cfg(test)]
mod tests {
    use althing_api::mvccpb::KeyValue;

    use super::*;

    fn committed(revision: i64, value_bytes: usize) -> store::Committed {
        let kv = KeyValue {
            value: vec![0; value_bytes].into(),
            ..KeyValue::default()
        };
        let event = Event {
            kv: Some(kv),
            ..Event::default()
        };
        store::Committed {
            revision,
            events: vec![event],
            ..store::Committed::default()
        }
    }

    #[test]
    fn a_notice_holds_the_revisions_of_a_batch() {
        let mut notice = Notice::default();
        (5..8).for_each(|revision| notice.add(committed(revision, 10)));
        assert_eq!((notice.first, notice.last), (5, 7));
        assert_eq!(notice.events.len(), 3);
    }

    #[test]
    fn a_batch_that_is_too_large_is_left_to_the_store() {
        let mut notice = Notice::default();
        notice.add(committed(5, NOTICE_BYTES_MAX));
        assert!(!notice.is_lost);
        notice.add(committed(6, 1));
        assert!(notice.is_lost && notice.events.is_empty());
        let mut notice = Notice::default();
        (0..=NOTICE_EVENTS_MAX as i64).for_each(|n| notice.add(committed(2 + n, 0)));
        assert!(notice.is_lost);
    }
}
