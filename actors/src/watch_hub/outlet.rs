//! The way from the hub to one watch stream: a queue bounded in bytes and shared by all watchers of
//! the stream. The hub never waits: a full queue refuses, and says when there is room again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use prometheus::IntGauge;

use super::event::Events;

/// Bytes that may wait for one stream's reader; one notice beyond that fits.
const OUTLET_BYTES_MAX: usize = 256 * 1024;
/// What a notice costs besides its events, in bytes.
const NOTICE_BYTES: usize = 64;
/// What each watcher's part of a notice costs besides its events, in bytes.
const DELIVERY_BYTES: usize = 32;
/// A drained queue keeps at most this capacity.
const IDLE_CAPACITY_MAX: usize = 16;

/// What the hub tells a stream. Watchers are named by the ids that the stream gave them.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A watch was made; the store is at this revision.
    Created {
        /// The watcher.
        watch_id: i64,
        /// The store's revision.
        revision: i64,
    },
    /// Events for some of the watchers.
    Events(Deliveries),
    /// Everything up to `revision` was delivered.
    Progress {
        /// The watcher; `None` means all watchers of the stream.
        watch_id: Option<i64>,
        /// The revision.
        revision: i64,
    },
    /// Answers a question about the whole stream if it has no watcher, or one that was not told
    /// everything.
    NoProgress,
    /// The watch was ended, as asked for.
    Cancelled {
        /// The watcher.
        watch_id: i64,
        /// The store's revision.
        revision: i64,
    },
    /// The watch has ended: revisions that it still wanted were compacted.
    Compacted {
        /// The watcher.
        watch_id: i64,
        /// The first revision that is left.
        compact_revision: i64,
    },
    /// The member has as many watchers as it may have.
    Refused {
        /// The watcher that was not made.
        watch_id: i64,
        /// The store's revision.
        revision: i64,
    },
}

/// Events for watchers of one stream.
#[derive(Clone, Debug, Default)]
pub struct Deliveries {
    /// The store's revision when the events were read from history, as in etcd also when there is
    /// more to read; `None` if they are new, and the last event tells the revision.
    pub revision: Option<i64>,
    /// For each watcher, its events.
    pub to: Vec<(i64, Events)>,
}

impl Deliveries {
    fn cost(&self) -> usize {
        let events = |(_, events): &(i64, Events)| -> usize {
            events.iter().map(|event| event.cost()).sum()
        };
        let bytes = self.to.iter().map(events);
        bytes.map(|bytes| bytes + DELIVERY_BYTES).sum()
    }

    fn events(&self) -> usize {
        self.to.iter().map(|(_, events)| events.len()).sum()
    }
}

impl Notice {
    fn cost(&self) -> usize {
        NOTICE_BYTES
            + match self {
                Notice::Events(deliveries) => deliveries.cost(),
                _ => 0,
            }
    }

    fn events(&self) -> i64 {
        match self {
            Notice::Events(deliveries) => deliveries.events() as i64,
            _ => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    notices: VecDeque<(Notice, usize)>,
    bytes: usize,
    /// Whether the hub has something that did not fit.
    hub_waits: bool,
    closed: bool,
    reader: Option<Waker>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Events in all queues of the member.
    waiting_events: IntGauge,
}

/// Counted when both ends are gone: the hub may add something after the reader has left.
impl Drop for Shared {
    fn drop(&mut self) {
        let notices = &self.queue.get_mut().notices;
        let left = notices.iter().map(|(notice, _)| notice.events());
        self.waiting_events.sub(left.sum());
    }
}

/// The hub's end. Dropping it ends the stream once the queue is empty.
#[derive(Debug)]
pub(crate) struct Outlet(Arc<Shared>);

/// The stream's end.
#[derive(Debug)]
pub(crate) struct Inlet(Arc<Shared>);

/// A new queue.
pub(crate) fn outlet(waiting_events: IntGauge) -> (Outlet, Inlet) {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        waiting_events,
    });
    (Outlet(Arc::clone(&shared)), Inlet(shared))
}

impl Outlet {
    /// Whether another notice fits. If not, the reader will say when one does.
    pub(crate) fn has_room(&self) -> bool {
        let mut queue = self.0.queue.lock();
        queue.hub_waits = queue.bytes >= OUTLET_BYTES_MAX;
        !queue.hub_waits
    }

    /// Adds a notice, whether or not it fits: answers to requests are bounded by the requests, and
    /// for events the hub looks first whether there is room.
    pub(crate) fn push(&self, notice: Notice) {
        if let Some(reader) = self.put(notice) {
            reader.wake();
        }
    }

    /// Like `push`, but the caller wakes the reader that is returned, if one waits.
    pub(crate) fn put(&self, notice: Notice) -> Option<Waker> {
        let cost = notice.cost();
        self.0.waiting_events.add(notice.events());
        let mut queue = self.0.queue.lock();
        queue.bytes += cost;
        queue.notices.push_back((notice, cost));
        queue.reader.take()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Inlet {
    /// The next notice, and whether the hub has to be told that there is room; `None` at the end.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<(Notice, bool)>> {
        let mut queue = self.0.queue.lock();
        let Some((notice, cost)) = queue.notices.pop_front() else {
            if queue.closed {
                return Poll::Ready(None);
            }
            queue.notices.shrink_to(IDLE_CAPACITY_MAX);
            queue.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        queue.bytes -= cost;
        let has_room = queue.hub_waits && queue.bytes < OUTLET_BYTES_MAX / 2;
        queue.hub_waits &= !has_room;
        drop(queue);
        self.0.waiting_events.sub(notice.events());
        Poll::Ready(Some((notice, has_room)))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::event::WatchedEvent;
    use super::*;

    fn gauge() -> IntGauge {
        IntGauge::new("waiting", "waiting").unwrap()
    }

    fn progress(revision: i64) -> Notice {
        Notice::Progress {
            watch_id: None,
            revision,
        }
    }

    #[test]
    fn a_full_queue_says_once_when_half_of_it_is_free() {
        let (outlet, inlet) = outlet(gauge());
        let mut count = 0;
        while outlet.has_room() {
            outlet.push(progress(count));
            count += 1;
        }
        assert_eq!(count as usize, OUTLET_BYTES_MAX / NOTICE_BYTES);
        let mut cx = Context::from_waker(Waker::noop());
        let mut told = Vec::new();
        for expected in 0..count {
            let Poll::Ready(Some((notice, has_room))) = inlet.poll_next(&mut cx) else {
                panic!("notice {expected} is there");
            };
            assert!(matches!(notice, Notice::Progress { revision, .. } if revision == expected));
            if has_room {
                told.push(expected);
            }
        }
        assert_eq!(told, [count / 2]);
        assert!(inlet.poll_next(&mut cx).is_pending());
    }

    #[test]
    fn what_is_queued_when_the_hub_goes_is_still_delivered() {
        let (outlet, inlet) = outlet(gauge());
        outlet.push(progress(7));
        drop(outlet);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(inlet.poll_next(&mut cx), Poll::Ready(Some(_))));
        assert!(matches!(inlet.poll_next(&mut cx), Poll::Ready(None)));
    }

    #[test]
    fn events_count_as_waiting_until_they_are_taken_or_both_ends_are_gone() {
        let gauge = gauge();
        let (outlet, inlet) = outlet(gauge.clone());
        let event = Arc::new(WatchedEvent::new(althing_api::mvccpb::Event::default()));
        let events: Events = Arc::from([Arc::clone(&event), event]);
        let notice = Notice::Events(Deliveries {
            revision: None,
            to: vec![(0, events)],
        });
        for _ in 0..2 {
            outlet.push(notice.clone());
        }
        assert_eq!(gauge.get(), 4);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(inlet.poll_next(&mut cx).is_ready());
        assert_eq!(gauge.get(), 2);
        drop(inlet);
        // The hub does not know yet.
        outlet.push(notice);
        drop(outlet);
        assert_eq!(gauge.get(), 0);
    }
}
