//! What a client may watch, and under which id.

use std::collections::HashMap;

use althing_actors::watch_hub::WatchOptions;
use althing_api::error::Error;
use althing_api::etcdserverpb::WatchCreateRequest;
use althing_api::etcdserverpb::watch_create_request::FilterType;
use althing_api::range::KeyRange;
use bytes::Bytes;

/// The watcher id in an answer that is about no watcher.
pub(super) const NO_WATCHER: i64 = -1;

/// Most watchers of a stream that keep their ids after a compaction ended them.
const OVER_MAX: usize = 1_000;

/// The key that stands for the smallest of all.
const FIRST_KEY: &[u8] = &[0];

/// What a stream knows of one of its watchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Whether large messages may be cut.
    pub(super) fragment: bool,
    /// Whether it is to be told how far it is.
    pub(super) wants_progress: bool,
    /// Whether it was told no event since the timer's last tick.
    pub(super) is_silent: bool,
    /// Whether the hub was told to end it.
    pub(super) is_cancelled: bool,
    /// Whether a compaction ended it. It keeps its id until the client cancels it.
    pub(super) is_over: bool,
}

/// The watchers of a stream, by their ids.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    pub(super) known: HashMap<i64, Known>,
    /// How many of them want to be told how far they are.
    wanting_progress: usize,
    /// How many of them a compaction ended.
    over: usize,
    next_id: i64,
}

/// A watch that may be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Creation {
    pub(super) watch_id: i64,
    pub(super) range: KeyRange,
    pub(super) start_revision: i64,
    pub(super) options: WatchOptions,
}

impl Watchers {
    /// Checks a request and gives it an id. Error: the reason, in etcd's words.
    pub(super) fn create(&mut self, request: WatchCreateRequest) -> Result<Creation, &'static str> {
        if request.start_revision < 0 {
            return Err(Error::Compacted.text());
        }
        let key = if request.key.is_empty() {
            Bytes::from_static(FIRST_KEY)
        } else {
            request.key
        };
        let range = KeyRange::new(key, request.range_end);
        if range.bounds().is_none() {
            return Err(EMPTY_RANGE);
        }
        let watch_id = self.id(request.watch_id)?;
        let has = |filter: FilterType| request.filters.contains(&filter.into());
        self.wanting_progress += usize::from(request.progress_notify);
        self.known.insert(
            watch_id,
            Known {
                fragment: request.fragment,
                wants_progress: request.progress_notify,
                is_silent: true,
                is_cancelled: false,
                is_over: false,
            },
        );
        Ok(Creation {
            watch_id,
            range,
            start_revision: request.start_revision,
            options: WatchOptions {
                no_put: has(FilterType::Noput),
                no_delete: has(FilterType::Nodelete),
                prev_kv: request.prev_kv,
            },
        })
    }

    /// Zero asks for the next id that is free; ids are not given twice.
    fn id(&mut self, asked: i64) -> Result<i64, &'static str> {
        if asked != 0 {
            return if self.known.contains_key(&asked) {
                Err(DUPLICATE_ID)
            } else {
                Ok(asked)
            };
        }
        while self.known.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    /// Whether the id is being given up, so that the request has to wait for it.
    pub(super) fn is_being_freed(&self, watch_id: i64) -> bool {
        self.known
            .get(&watch_id)
            .is_some_and(|known| known.is_cancelled)
    }

    /// Whether the id that a creation would get is being given up. Zero asks for the next free id,
    /// which may be one that a client chose and cancelled just now.
    pub(super) fn waits_for_id(&self, asked: i64) -> bool {
        if asked != 0 {
            return self.is_being_freed(asked);
        }
        let mut taken = (self.next_id..).take_while(|id| self.known.contains_key(id));
        taken.any(|id| self.is_being_freed(id))
    }

    /// Notes that a compaction ended this watcher, which keeps its id unless too many do.
    pub(super) fn end(&mut self, watch_id: i64) {
        let Some(mut known) = self.remove(watch_id) else {
            return;
        };
        if !known.is_cancelled && self.over < OVER_MAX {
            (known.is_over, known.wants_progress) = (true, false);
            self.over += 1;
            self.known.insert(watch_id, known);
        }
    }

    /// Removes a watcher, also from the counts.
    fn remove(&mut self, watch_id: i64) -> Option<Known> {
        let known = self.known.remove(&watch_id)?;
        self.wanting_progress -= usize::from(known.wants_progress);
        self.over -= usize::from(known.is_over);
        Some(known)
    }

    /// Whether any watcher is to be told how far it is.
    pub(super) fn want_progress(&self) -> bool {
        self.wanting_progress > 0
    }

    /// Removes a watcher that has ended.
    pub(super) fn forget(&mut self, watch_id: i64) {
        self.remove(watch_id);
    }

    /// Notes that the timer ticked; returns the watchers that are to be told how far they are.
    pub(super) fn tick(&mut self) -> Vec<i64> {
        let wanting = self.known.iter_mut();
        wanting
            .filter(|(_, known)| known.wants_progress)
            .filter_map(|(id, known)| {
                let was_silent = std::mem::replace(&mut known.is_silent, true);
                was_silent.then_some(*id)
            })
            .collect()
    }
}

/// etcd's words, sent as a reason and not as an error.
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &'static str, end: &'static str, watch_id: i64) -> WatchCreateRequest {
        WatchCreateRequest {
            key: key.into(),
            range_end: end.into(),
            watch_id,
            ..WatchCreateRequest::default()
        }
    }

    #[test]
    fn ids_are_given_upwards_around_those_that_clients_chose() {
        let mut watchers = Watchers::default();
        let mut id = |asked| {
            let created = watchers.create(request("k", "", asked));
            created.map(|creation| creation.watch_id)
        };
        assert_eq!(id(0), Ok(0));
        assert_eq!(id(2), Ok(2));
        assert_eq!(id(-7), Ok(-7));
        assert_eq!(id(2), Err(DUPLICATE_ID));
        assert_eq!(id(0), Ok(1));
        assert_eq!(id(0), Ok(3));
        watchers.forget(0);
        assert_eq!(
            watchers.create(request("k", "", 0)).unwrap().watch_id,
            4,
            "a freed id is not given again"
        );
    }

    #[test]
    fn the_next_id_waits_for_one_that_is_being_freed() {
        let mut watchers = Watchers::default();
        for chosen in [1, 2] {
            watchers.create(request("k", "", chosen)).unwrap();
        }
        assert!(!watchers.waits_for_id(0));
        watchers.known.get_mut(&2).unwrap().is_cancelled = true;
        assert!(!watchers.waits_for_id(0), "0 is free");
        assert_eq!(watchers.create(request("k", "", 0)).unwrap().watch_id, 0);
        assert!(watchers.waits_for_id(0), "1 is taken, 2 is being freed");
        assert!(watchers.waits_for_id(2));
        assert!(!watchers.waits_for_id(1));
    }

    #[test]
    fn a_watcher_that_a_compaction_ended_keeps_its_id_and_only_so_many_do() {
        let mut watchers = Watchers::default();
        for id in 0..=i64::try_from(OVER_MAX).unwrap() {
            assert_eq!(watchers.create(request("k", "", 0)).unwrap().watch_id, id);
            watchers.end(id);
        }
        assert_eq!(watchers.known.len(), OVER_MAX);
        let again = watchers.create(request("k", "", 1));
        assert_eq!(again, Err(DUPLICATE_ID));
        watchers.forget(1);
        watchers.create(request("k", "", 1)).unwrap();
        watchers.end(1);
        assert_eq!(watchers.known.len(), OVER_MAX, "there was a place again");
    }

    #[test]
    fn nobody_wants_progress_once_those_who_did_have_ended_in_whatever_way() {
        let mut watchers = Watchers::default();
        for id in 1..4 {
            let request = WatchCreateRequest {
                progress_notify: true,
                ..request("k", "", id)
            };
            watchers.create(request).unwrap();
        }
        watchers.known.get_mut(&1).unwrap().is_cancelled = true;
        watchers.end(1);
        watchers.end(2);
        assert!(watchers.want_progress());
        watchers.forget(3);
        assert!(!watchers.want_progress());
        watchers.forget(2);
        assert!(watchers.known.is_empty());
    }

    #[test]
    fn an_empty_key_is_the_first_one_and_an_empty_range_is_refused() {
        let mut watchers = Watchers::default();
        let mut range = |key, end| {
            let created = watchers.create(request(key, end, 0));
            created.map(|creation| creation.range)
        };
        assert_eq!(
            range("", "\0"),
            Ok(KeyRange::From(Bytes::from_static(&[0])))
        );
        assert_eq!(range("", ""), Ok(KeyRange::One(Bytes::from_static(&[0]))));
        assert_eq!(range("b", "a"), Err(EMPTY_RANGE));
        assert_eq!(range("a", "a"), Err(EMPTY_RANGE));
        let negative = WatchCreateRequest {
            start_revision: -1,
            ..request("a", "", 0)
        };
        assert_eq!(watchers.create(negative), Err(Error::Compacted.text()));
    }

    #[test]
    fn only_watchers_that_were_silent_for_an_interval_are_told_of_progress() {
        let mut watchers = Watchers::default();
        for wants_progress in [true, false] {
            let request = WatchCreateRequest {
                progress_notify: wants_progress,
                ..request("k", "", 0)
            };
            watchers.create(request).unwrap();
        }
        assert_eq!(watchers.tick(), [0]);
        watchers.known.get_mut(&0).unwrap().is_silent = false;
        assert!(watchers.tick().is_empty());
        assert_eq!(watchers.tick(), [0]);
    }
}
