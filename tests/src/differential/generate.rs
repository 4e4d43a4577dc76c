//! Makes the sequence: which request comes next, with which fields. Small pools of keys, values and
//! revisions make the interesting coincidences likely: keys that exist, ranges that overlap,
//! revisions just before and behind the compacted and the current one.

use althing_api::etcdserverpb as pb;
use althing_api::range::{OPEN_END, prefix_end};
use althing_api::v3electionpb::LeaderKey;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::VecDeque;

use super::normal;
use super::operation::{Call, Operation, Step, Transport};
use super::play::Release;
use super::spelling::Spelling;
use super::watch_steps::{JSON_SLOT, SLOTS};
use super::watching::{FIRST_MARK, with_mark};

/// Keys that interact: prefixes of one another, and the bytes at the edges of the order.
const KEYS: [&[u8]; 20] = [
    b"a",
    b"a/1",
    b"a/2",
    b"a/3",
    b"a/4",
    b"a/5",
    b"a/6",
    b"a/7",
    b"a/8",
    b"a\0",
    b"a\xff",
    b"b",
    b"b/1",
    b"b/2",
    b"\0",
    b"\0\0",
    b"\xff",
    b"\xff\xff",
    b"z",
    b"\xfe\xff",
];
const VALUES: [&[u8]; 6] = [b"", b"1", b"2", b"22", b"\0\xff", b"the same value"];

/// The transports of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// gRPC only.
    Grpc,
    /// JSON, and gRPC only for what JSON cannot carry.
    Json,
    /// Either, at random.
    Mixed,
}

/// What both sides support; the rest would let their states diverge, which explains nothing.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    /// RangeStream exists since 3.7.
    range_stream: bool,
    /// Unknown sort orders and targets are refused since 3.6. Before, an unknown target ends the
    /// process, and a transaction with an unknown order writes what the newer side refuses to.
    sort_is_checked: bool,
    /// JSON takes URL-safe and unpadded base64, and unknown names of enums, since 3.6.
    pub(super) loose_json: bool,
    /// HashKV has a JSON route since 3.6 (and in late patches of 3.5).
    hash_kv_route: bool,
    /// A progress request is answered for the whole stream, and only when it has caught up, since
    /// 3.6 (and in late patches of 3.5).
    pub(super) whole_progress: bool,
    /// Since 3.6 (and in late patches of 3.5) a negative start of a watcher is refused at once, and
    /// a watcher with the id -1 gets its events.
    pub(super) negatives_watched: bool,
    /// A deletion at the very revision compacted to can still be watched since 3.6.
    pub(super) tombstones_kept: bool,
}

impl Abilities {
    /// The abilities that two releases share.
    pub fn shared(left: Release, right: Release) -> Abilities {
        let older = left.min(right);
        Abilities {
            range_stream: older >= (3, 7),
            sort_is_checked: older >= (3, 6),
            loose_json: older >= (3, 6),
            hash_kv_route: older >= (3, 6),
            whole_progress: older >= (3, 6),
            negatives_watched: older >= (3, 6),
            tombstones_kept: older >= (3, 6),
        }
    }
}

/// What a transaction leaves out. etcd overlooks that a delete to the last key covers a put behind
/// it, and crashes (all releases) if that put asks to keep the value or lease of the deleted key;
/// so a transaction may have only one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftOut {
    Nothing,
    OpenDeletes,
    KeepingPuts,
}

/// The maker of a sequence.
#[derive(Debug)]
pub struct Generator {
    pub(super) random: StdRng,
    pub(super) ways: Ways,
    pub(super) abilities: Abilities,
    pub(super) left_out: LeftOut,
    /// The store's revision, as the members last reported it.
    pub(super) revision: i64,
    /// The revision that was last compacted to.
    pub(super) compacted: i64,
    /// Operations that must follow.
    pub(super) next: VecDeque<Operation>,
    /// Leaders that campaigns named.
    pub(super) leaders: VecDeque<LeaderKey>,
    /// Watchers created on each stream.
    pub(super) creates: [u32; SLOTS],
    pub(super) large_seen: bool,
    /// Compactions stay at or below this, so as not to race with watchers that are still behind.
    floor: i64,
}

impl Generator {
    /// A generator whose sequence follows from `seed`.
    pub fn new(seed: u64, ways: Ways, abilities: Abilities) -> Generator {
        Generator {
            random: StdRng::seed_from_u64(seed),
            ways,
            abilities,
            left_out: LeftOut::Nothing,
            revision: 1,
            compacted: 0,
            next: VecDeque::from(super::lease_steps::grants()),
            leaders: VecDeque::new(),
            creates: [0; SLOTS],
            large_seen: false,
            floor: i64::MAX,
        }
    }

    /// The next step.
    pub fn step(&mut self, number: u64) -> Step {
        let operation = match self.next.pop_front() {
            Some(operation) => operation,
            None => self.operation(),
        };
        let as_json = match operation {
            Operation::Watch { slot, .. } => slot >= JSON_SLOT,
            Operation::Text { .. } => true,
            Operation::HashKv(_) if !self.abilities.hash_kv_route => false,
            _ => self.chooses_json() && operation.http().is_some(),
        };
        let transport = if as_json {
            Transport::Json(self.body(&operation))
        } else {
            Transport::Grpc
        };
        Step {
            number,
            operation,
            transport,
        }
    }

    /// Queues the end of a sequence: steps that are slow, or leave behind what each member names by
    /// itself. Returns how many steps are queued.
    pub fn end(&mut self) -> usize {
        self.next.extend(super::lease_steps::expiry());
        self.next.extend(super::party_steps::own_leases());
        self.next.len()
    }

    /// Learns from an answer how far the store is.
    pub fn observe(&mut self, operation: &Operation, answer: &Value) {
        match operation {
            Operation::Call(Call::Campaign(_)) => self.learn_leader(answer),
            Operation::Settle => {
                let came = answer.as_object().into_iter().flatten();
                came.for_each(|(_, answer)| self.learn_leader(answer));
                let revision = answer.get("revision").and_then(Value::as_i64);
                self.revision = revision.unwrap_or(self.revision);
            }
            _ => (),
        }
        if let Some(revision) = normal::revision(answer) {
            self.revision = self.revision.max(revision);
            if let Operation::Compact(request) = operation {
                self.compacted = request.revision;
            }
        }
    }

    /// Learns up to which revision a compaction meets nothing that is still behind.
    pub fn keep_below(&mut self, floor: i64) {
        self.floor = floor;
    }

    fn operation(&mut self) -> Operation {
        match self.random.random_range(0..100) {
            0..9 => return self.watch_step(),
            9..15 => return self.lease_step(),
            15..27 => return self.party_step(),
            27..28 => return self.burst(),
            _ => (),
        }
        let grpc = self.ways != Ways::Json;
        let json = self.ways != Ways::Grpc;
        match self.random.random_range(0..1_000) {
            0..300 => Operation::Put(self.put()),
            300..560 => Operation::Range(self.range(true)),
            560..640 if self.abilities.range_stream && grpc => {
                Operation::RangeStream(self.range(true))
            }
            560..720 => Operation::Txn(self.outer_txn()),
            720..800 => Operation::DeleteRange(self.delete_range()),
            800..900 => Operation::Txn(self.outer_txn()),
            900..915 => Operation::Compact(self.compaction()),
            915..940 => Operation::HashKv(pb::HashKvRequest {
                revision: self.any_revision(),
            }),
            940..950 => Operation::MemberList(pb::MemberListRequest {
                linearizable: self.random.random(),
            }),
            950..960 => Operation::Status(pb::StatusRequest {}),
            960..963 => Operation::Put(self.oversize_put()),
            963..980 if grpc => self.broken(),
            963..1_000 if json => self.malformed(),
            _ => Operation::Range(self.range(true)),
        }
    }

    fn body(&mut self, operation: &Operation) -> String {
        let mut spelling = Spelling {
            random: &mut self.random,
            loose_base64: self.abilities.loose_json,
        };
        let body = match operation {
            Operation::Put(request) => spelling.put(request),
            Operation::Range(request) => spelling.range(request),
            Operation::DeleteRange(request) => spelling.delete_range(request),
            Operation::Txn(request) => spelling.txn(request),
            Operation::Compact(request) => spelling.compaction(request),
            Operation::HashKv(request) => spelling.hash_kv(request),
            Operation::MemberList(request) => spelling.member_list(request),
            Operation::Text { body, .. } => return body.clone(),
            Operation::LeaseGrant(request) => spelling.message(request),
            Operation::LeaseRevoke { request, .. } => spelling.message(request),
            Operation::LeaseTimeToLive { request, .. } => spelling.message(request),
            Operation::Unlock(request) => spelling.message(request),
            Operation::Proclaim(request) => spelling.message(request),
            Operation::Leader(request) => spelling.message(request),
            Operation::Resign(request) => spelling.message(request),
            Operation::Call(Call::Lock(request)) => spelling.message(request),
            Operation::Call(Call::Campaign(request)) => spelling.message(request),
            Operation::Observe { request, .. } => spelling.message(request),
            Operation::KeepAlive(requests) => return spelling.lines(requests),
            Operation::Watch { requests, .. } => {
                return spelling.lines(&with_mark(requests, FIRST_MARK));
            }
            _ => return "{}".to_owned(),
        };
        body.to_string()
    }

    pub(super) fn put(&mut self) -> pb::PutRequest {
        let keeping = self.left_out != LeftOut::KeepingPuts;
        let ignore_value = self.one_in(20) && keeping;
        let ignore_lease = self.one_in(20) && keeping;
        pb::PutRequest {
            key: self.key(),
            value: if ignore_value && !self.one_in(4) {
                Bytes::new()
            } else {
                self.value()
            },
            lease: self.lease_of_key(),
            prev_kv: self.one_in(3),
            ignore_value,
            ignore_lease,
        }
    }

    fn oversize_put(&mut self) -> pb::PutRequest {
        // Above the limit of a request, and above the limit of a message.
        let bytes = if self.random.random() {
            1_700_000
        } else {
            2_300_000
        };
        pb::PutRequest {
            key: self.key(),
            value: vec![b'v'; bytes].into(),
            ..pb::PutRequest::default()
        }
    }

    /// A range; `alone` if it is a request of its own.
    pub(super) fn range(&mut self, alone: bool) -> pb::RangeRequest {
        let key = self.key();
        let mut request = pb::RangeRequest {
            range_end: self.range_end(&key),
            key,
            serializable: self.one_in(4),
            ..pb::RangeRequest::default()
        };
        if self.one_in(3) {
            request.limit = self.limit();
        }
        if self.one_in(3) {
            request.revision = self.any_revision();
        }
        if self.one_in(3) {
            request.sort_order = self.random.random_range(0..=2);
            request.sort_target = self.random.random_range(0..=4);
        }
        if self.one_in(40) && (alone || self.abilities.sort_is_checked) {
            let unknown = *[-1, 3, 5, 77].choose(&mut self.random).expect("not empty");
            if self.random.random() || !self.abilities.sort_is_checked {
                request.sort_order = unknown;
            } else {
                request.sort_target = unknown.max(5);
            }
        }
        // Inside a transaction, values that are not shown cannot tell a tie from a mistake.
        request.keys_only = self.one_in(8) && (alone || request.sort_target != 4);
        request.count_only = self.one_in(10);
        if self.one_in(6) {
            request.min_mod_revision = self.bound();
            request.max_mod_revision = self.bound();
            request.min_create_revision = self.bound();
            request.max_create_revision = self.bound();
        }
        request
    }

    pub(super) fn delete_range(&mut self) -> pb::DeleteRangeRequest {
        let key = self.key();
        let wide = self.one_in(5);
        let mut range_end = if wide {
            self.range_end(&key)
        } else {
            Bytes::new()
        };
        if range_end == OPEN_END && self.left_out == LeftOut::OpenDeletes {
            range_end = Bytes::new();
        }
        pb::DeleteRangeRequest {
            range_end,
            key,
            prev_kv: self.random.random(),
        }
    }

    fn compaction(&mut self) -> pb::CompactionRequest {
        let revision = if self.one_in(3) {
            self.any_revision()
        } else {
            // Leaves some history to read in.
            let newest = (self.revision - 20).max(self.compacted);
            self.random.random_range(self.compacted..=newest)
        };
        let revision = if revision <= self.revision {
            revision.min(self.floor)
        } else {
            revision
        };
        pb::CompactionRequest {
            revision,
            physical: self.random.random(),
        }
    }

    pub(super) fn key(&mut self) -> Bytes {
        match self.random.random_range(0..150) {
            0 => Bytes::new(),
            1..20 => format!("k{:04}", self.random.random_range(0..300)).into(),
            _ => Bytes::from_static(KEYS.choose(&mut self.random).expect("not empty")),
        }
    }

    pub(super) fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.random.random_range(0..10) {
            0..3 => Bytes::new(),
            3..6 => prefix_end(key),
            6..8 => Bytes::from_static(OPEN_END),
            _ => self.key(),
        }
    }

    pub(super) fn value(&mut self) -> Bytes {
        match self.random.random_range(0..40) {
            0 => vec![b'x'; self.random.random_range(1_000..60_000)].into(),
            1..20 => self.random.random_range(0..1_000_000).to_string().into(),
            _ => Bytes::from_static(VALUES.choose(&mut self.random).expect("not empty")),
        }
    }

    fn limit(&mut self) -> i64 {
        match self.random.random_range(0..20) {
            0 => i64::MAX,
            1 => -1,
            2 => i64::MIN,
            _ => self.random.random_range(1..12),
        }
    }

    /// Mostly a revision of the store; sometimes compacted, future, negative or absurd.
    pub(super) fn any_revision(&mut self) -> i64 {
        match self.random.random_range(0..20) {
            0 => self.revision + self.random.random_range(1..5),
            1 => -self.random.random_range(1..10),
            2 => [i64::MAX, i64::MIN][usize::from(self.random.random::<bool>())],
            3 => 0,
            4 => self.compacted,
            5 => self.compacted + self.random.random_range(-2..=2),
            6 => self.revision,
            _ => self
                .random
                .random_range(self.compacted.min(self.revision)..=self.revision),
        }
    }

    /// A bound of a revision filter; half of them are off.
    fn bound(&mut self) -> i64 {
        match self.random.random_range(0..10) {
            0 => -1,
            1..5 => self.random.random_range(1..=self.revision + 1),
            _ => 0,
        }
    }

    pub(super) fn number(&mut self) -> i64 {
        match self.random.random_range(0..6) {
            0 => i64::MAX,
            1 => i64::MIN,
            2 => -1,
            _ => self.random.random_range(1..10_000),
        }
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }
}

/// A word for each kind of operation, for the report.
pub fn name_of(operation: &Operation) -> &'static str {
    match operation {
        Operation::Put(_) => "Put",
        Operation::Range(_) => "Range",
        Operation::RangeStream(_) => "RangeStream",
        Operation::DeleteRange(_) => "DeleteRange",
        Operation::Txn(_) => "Txn",
        Operation::Compact(_) => "Compact",
        Operation::HashKv(_) => "HashKV",
        Operation::MemberList(_) => "MemberList",
        Operation::Status(_) => "Status",
        Operation::LeaseGrant(_) => "LeaseGrant",
        Operation::LeaseRevoke { .. } => "LeaseRevoke",
        Operation::LeaseTimeToLive { .. } => "LeaseTimeToLive",
        Operation::LeaseLeases { .. } => "LeaseLeases",
        Operation::KeepAlive(_) => "LeaseKeepAlive",
        Operation::Expiry { .. } => "expiry of a lease",
        Operation::Unlock(_) => "Unlock",
        Operation::Proclaim(_) => "Proclaim",
        Operation::Leader(_) => "Leader",
        Operation::Resign(_) => "Resign",
        Operation::Call(Call::Lock(_)) => "Lock",
        Operation::Call(Call::Campaign(_)) => "Campaign",
        Operation::Abandon(_) => "abandoned call",
        Operation::Observe { .. } | Operation::CloseObserve { .. } => "Observe",
        Operation::Watch { .. } => "Watch",
        Operation::Progress { .. } => "progress of a Watch",
        Operation::HalfCloseWatch { .. } | Operation::CloseWatch { .. } => "end of a Watch",
        Operation::Burst(_) => "burst of Puts",
        Operation::Settle => "what arrived by itself",
        Operation::Broken { .. } => "broken gRPC",
        Operation::Text { .. } => "malformed JSON",
    }
}
