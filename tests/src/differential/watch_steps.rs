//! Makes the steps about watches: streams in a few slots, watchers of every kind on them.

use althing_api::etcdserverpb as pb;
use bytes::Bytes;
use pb::watch_request::RequestUnion;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::generate::{Generator, Ways};
use super::operation::Operation;

/// Slots from here on are JSON streams, whose requests are all in the body.
pub const JSON_SLOT: usize = 2;
/// The number of slots.
pub const SLOTS: usize = 4;
/// The number of watchers that a stream gets before it is closed.
const CREATES_MAX: u32 = 10;
const CHOSEN_IDS: [i64; 9] = [1, 2, 3, 4, 5, 77, 999_999, -2, -1];
/// Large enough that a few of them exceed one message, in bytes.
const LARGE: usize = 550_000;

impl Generator {
    /// A step about watches.
    pub(super) fn watch_step(&mut self) -> Operation {
        let is_json = self.chooses_json();
        let slot = if is_json {
            self.random.random_range(JSON_SLOT..SLOTS)
        } else {
            self.random.random_range(0..JSON_SLOT)
        };
        if self.creates[slot] >= CREATES_MAX {
            self.creates[slot] = 0;
            return Operation::CloseWatch { slot };
        }
        match self.random.random_range(0..100) {
            0..3 => Operation::CloseWatch { slot },
            3..5 => Operation::HalfCloseWatch { slot },
            5..20 if self.abilities.whole_progress && !is_json => Operation::Progress { slot },
            20..30 if !self.large_seen => self.large_events(slot),
            _ => self.watch(slot),
        }
    }

    /// Puts whose events are all awaited before the next, or not at all.
    pub(super) fn burst(&mut self) -> Operation {
        let count = self.random.random_range(2..12);
        Operation::Burst((0..count).map(|_| self.put()).collect())
    }

    pub(super) fn chooses_json(&mut self) -> bool {
        match self.ways {
            Ways::Grpc => false,
            Ways::Json => true,
            Ways::Mixed => self.random.random(),
        }
    }

    fn watch(&mut self, slot: usize) -> Operation {
        let mut requests = Vec::new();
        if slot < JSON_SLOT && self.one_in(3) {
            for _ in 0..self.random.random_range(1..=2) {
                requests.push(RequestUnion::CancelRequest(self.cancel()));
            }
        }
        let creates = self.random.random_range(0..=3);
        let mut from_now = true;
        for _ in 0..creates {
            let create = self.create();
            from_now &= create.start_revision == 0;
            self.creates[slot] += 1;
            requests.push(RequestUnion::CreateRequest(create));
        }
        // If a watcher may still be sending, its cancellation could come before or behind its
        // events.
        if from_now && self.one_in(3) {
            let cancel = self.cancel();
            requests.push(RequestUnion::CancelRequest(cancel));
            requests.push(RequestUnion::CancelRequest(cancel));
        }
        let requests = requests.into_iter().map(Some);
        let nothing = self.one_in(20).then_some(None);
        let requests = requests.chain(nothing);
        Operation::Watch {
            slot,
            requests: requests
                .map(|request_union| pb::WatchRequest { request_union })
                .collect(),
        }
    }

    fn create(&mut self) -> pb::WatchCreateRequest {
        let key = self.key();
        let mut start_revision = match self.random.random_range(0..10) {
            0..4 => 0,
            4 => self.revision + 1,
            _ => self.any_revision(),
        };
        if start_revision == self.compacted && !self.abilities.tombstones_kept {
            start_revision += 1;
        }
        if !self.abilities.negatives_watched {
            start_revision = start_revision.max(0);
        }
        let filters = if self.one_in(4) {
            let count = self.random.random_range(1..=2);
            (0..count)
                .map(|_| self.random.random_range(0..=1))
                .collect()
        } else {
            Vec::new()
        };
        pb::WatchCreateRequest {
            range_end: self.range_end(&key),
            key,
            start_revision,
            progress_notify: self.one_in(6),
            filters,
            prev_kv: self.random.random(),
            watch_id: if self.one_in(4) { self.watch_id() } else { 0 },
            fragment: self.one_in(3),
        }
    }

    fn cancel(&mut self) -> pb::WatchCancelRequest {
        let watch_id = if self.one_in(3) {
            self.watch_id()
        } else {
            self.random.random_range(0..8)
        };
        pb::WatchCancelRequest { watch_id }
    }

    fn watch_id(&mut self) -> i64 {
        let id = *CHOSEN_IDS.choose(&mut self.random).expect("not empty");
        if self.abilities.negatives_watched {
            id
        } else {
            id.abs()
        }
    }

    /// A history of events that exceed one message, with two watchers on it; once in a sequence,
    /// because these events are slow.
    fn large_events(&mut self, slot: usize) -> Operation {
        self.large_seen = true;
        let from = self.revision;
        let prefix = Bytes::from_static(b"large/");
        let end = Bytes::from_static(b"large0");
        for number in 0..5 {
            self.next.push_back(Operation::Put(pb::PutRequest {
                key: format!("large/{number}").into(),
                value: vec![b'l'; LARGE].into(),
                ..pb::PutRequest::default()
            }));
        }
        let watch = |fragment| pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(pb::WatchCreateRequest {
                key: prefix.clone(),
                range_end: end.clone(),
                start_revision: from + 1,
                fragment,
                ..pb::WatchCreateRequest::default()
            })),
        };
        self.next.push_back(Operation::Watch {
            slot,
            requests: vec![watch(true), watch(false)],
        });
        self.next
            .push_back(Operation::DeleteRange(pb::DeleteRangeRequest {
                key: prefix,
                range_end: end,
                prev_kv: false,
            }));
        self.creates[slot] += 2;
        // What this stream watches would get the large events too.
        Operation::CloseWatch { slot }
    }
}
