//! A model of the store that keeps every state it ever had, and random commands for both.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

use althing_api::commandpb::Command;
use althing_api::commandpb::command::Request;
use althing_api::error::Error;
use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::response_op::Response as OpResponse;
use althing_api::etcdserverpb::*;
use althing_api::mvccpb::{Event, KeyValue};
use althing_storage::apply::Response;
use althing_storage::store::{LeaseRecord, StoreSettings};
use bytes::Bytes;

pub mod gen_command;
mod lease_model;
pub mod seed;
pub mod sim_disk;

/// Budgets small enough that records are evicted and redb is read.
pub const TINY: StoreSettings = StoreSettings {
    record_cache_bytes: 600,
    page_cache_bytes: 1 << 20,
    pending_bytes_max: 1 << 20,
};

pub type State = BTreeMap<Vec<u8>, KeyValue>;

/// One change, as etcd would store it.
#[derive(Clone, Debug)]
pub struct Change {
    pub main: i64,
    pub sub: u64,
    pub tombstone: bool,
    pub kv: KeyValue,
}

/// Every state the store had, by revision.
#[derive(Clone, Debug)]
pub struct Model {
    /// `states[revision]`; revisions 0 and 1 are empty.
    pub states: Vec<State>,
    pub changes: Vec<Change>,
    pub compacted: i64,
    /// The present leases; which keys they have follows from the newest state.
    pub leases: BTreeMap<i64, LeaseRecord>,
}

/// A txn's view while it runs.
struct Running<'a> {
    model: &'a Model,
    state: State,
    changes: Vec<Change>,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            states: vec![State::new(), State::new()],
            changes: Vec::new(),
            compacted: -1,
            leases: BTreeMap::new(),
        }
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

pub fn selected(state: &State, key: &[u8], end: &[u8]) -> Vec<KeyValue> {
    let inside = |candidate: &[u8]| match end {
        b"" => candidate == key,
        b"\0" => candidate >= key,
        end => candidate >= key && candidate < end,
    };
    let kvs = state.iter().filter(|(candidate, _)| inside(candidate));
    kvs.map(|(_, kv)| kv.clone()).collect()
}

/// etcd's Range on a state, straight from its description.
fn range_of(state: &State, request: &RangeRequest, current: i64) -> RangeResponse {
    use range_request::{SortOrder, SortTarget};
    let mut kvs = selected(state, &request.key, &request.range_end);
    let mut response = RangeResponse {
        header: header(current),
        count: kvs.len() as i64,
        ..Default::default()
    };
    if request.count_only {
        return response;
    }
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let unsorted = request.sort_order() == SortOrder::None;
    if unsorted && bounds == [0; 4] && limit > 0 {
        kvs.truncate(limit + 1);
    }
    for (position, bound) in bounds
        .into_iter()
        .enumerate()
        .filter(|(_, bound)| *bound != 0)
    {
        kvs.retain(|kv| match position {
            0 => kv.mod_revision >= bound,
            1 => kv.mod_revision <= bound,
            2 => kv.create_revision >= bound,
            _ => kv.create_revision <= bound,
        });
    }
    match request.sort_target() {
        SortTarget::Key => kvs.sort_by_key(|kv| kv.key.clone()),
        SortTarget::Version => kvs.sort_by_key(|kv| (kv.version, kv.key.clone())),
        SortTarget::Create => kvs.sort_by_key(|kv| (kv.create_revision, kv.key.clone())),
        SortTarget::Mod => kvs.sort_by_key(|kv| (kv.mod_revision, kv.key.clone())),
        SortTarget::Value => kvs.sort_by_key(|kv| (kv.value.clone(), kv.key.clone())),
    }
    if request.sort_order() == SortOrder::Descend {
        // Ties keep the order of keys in the store as well.
        kvs.reverse();
        let rank = |kv: &KeyValue| match request.sort_target() {
            SortTarget::Key => Bytes::new(),
            SortTarget::Version => Bytes::copy_from_slice(&kv.version.to_be_bytes()),
            SortTarget::Create => Bytes::copy_from_slice(&kv.create_revision.to_be_bytes()),
            SortTarget::Mod => Bytes::copy_from_slice(&kv.mod_revision.to_be_bytes()),
            SortTarget::Value => kv.value.clone(),
        };
        if request.sort_target() != SortTarget::Key {
            for run in kvs.chunk_by_mut(|a, b| rank(a) == rank(b)) {
                run.reverse();
            }
        }
    }
    if limit > 0 && kvs.len() > limit {
        kvs.truncate(limit);
        response.more = true;
    }
    if request.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
            if request.sort_target() != SortTarget::Value {
                kv.lease = 0;
            }
        }
    }
    response.kvs = kvs;
    response
}

impl Model {
    pub fn current(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    pub fn state(&self) -> &State {
        self.states.last().unwrap()
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let current = self.current();
        match request.revision {
            revision if revision > current => Err(Error::FutureRevision),
            revision if revision > 0 && revision < self.compacted => Err(Error::Compacted),
            revision if revision > 0 => {
                Ok(range_of(&self.states[revision as usize], request, current))
            }
            _ => Ok(range_of(self.state(), request, current)),
        }
    }

    /// The first revision whose events the history has completely.
    pub fn first_whole_revision(&self) -> i64 {
        let at = self.compacted.max(1);
        let keys = self.changes.iter().filter(|change| change.main == at);
        let keys: Vec<_> = keys.map(|change| &change.kv.key).collect();
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        at + i64::from(distinct.len() < keys.len())
    }

    /// The events from revision `first` on, as a watcher sees them.
    pub fn events(&self, first: i64, wants: impl Fn(&[u8]) -> bool) -> Vec<Event> {
        let chosen = self.changes.iter().filter(|change| change.main >= first);
        let chosen = chosen.filter(|change| wants(&change.kv.key));
        let event = |change: &Change| Event {
            r#type: i32::from(change.tombstone),
            kv: Some(KeyValue {
                mod_revision: change.main,
                ..change.kv.clone()
            }),
            prev_kv: None,
        };
        chosen.map(event).collect()
    }

    fn running(&self) -> Running<'_> {
        Running {
            model: self,
            state: self.state().clone(),
            changes: Vec::new(),
        }
    }

    /// Applies a command: the response, and the changes it made.
    pub fn apply(&mut self, command: &Command) -> (Result<Response, Error>, Vec<Change>) {
        if let Some(outcome) = self.apply_lease(command.request.as_ref().unwrap()) {
            return outcome;
        }
        let mut running = self.running();
        let response = match command.request.as_ref().unwrap() {
            Request::Put(put) => running
                .check_put(put)
                .map(|()| Response::Put(running.put(put))),
            Request::DeleteRange(delete) => Ok(Response::DeleteRange(running.delete(delete))),
            Request::Txn(txn) => running.txn(txn).map(Response::Txn),
            Request::Compaction(compaction) => {
                let response = self.compact(compaction.revision);
                return (response.map(Response::Compaction), Vec::new());
            }
            _ => return (Ok(Response::Done), Vec::new()),
        };
        let Running { state, changes, .. } = running;
        self.commit(state, &changes);
        (response, changes)
    }

    fn commit(&mut self, state: State, changes: &[Change]) {
        let held = |state: &State, id: i64| state.values().any(|kv| kv.lease == id);
        let before = self.state();
        let emptied: Vec<i64> = self
            .leases
            .values()
            .filter(|lease| lease.bound && held(before, lease.id) && !held(&state, lease.id))
            .map(|lease| lease.id)
            .collect();
        self.leases.retain(|id, _| !emptied.contains(id));
        if !changes.is_empty() {
            self.states.push(state);
            self.changes.extend(changes.iter().cloned());
        }
    }

    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        self.running().txn(request)
    }

    fn compact(&mut self, revision: i64) -> Result<CompactionResponse, Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.current() {
            return Err(Error::FutureRevision);
        }
        self.compacted = revision;
        Ok(CompactionResponse {
            header: header(self.current()),
        })
    }
}

impl Running<'_> {
    fn next(&self) -> i64 {
        self.model.current() + 1
    }

    fn current(&self) -> i64 {
        self.model.current() + i64::from(!self.changes.is_empty())
    }

    fn check_put(&self, put: &PutRequest) -> Result<(), Error> {
        if put.lease != 0 && !self.model.leases.contains_key(&put.lease) {
            return Err(Error::LeaseNotFound);
        }
        let absent = !self.model.state().contains_key(put.key.as_ref());
        if absent && (put.ignore_lease || put.ignore_value) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn record(&mut self, tombstone: bool, kv: KeyValue) {
        let change = Change {
            main: self.next(),
            sub: self.changes.len() as u64,
            tombstone,
            kv,
        };
        self.changes.push(change);
    }

    fn put(&mut self, put: &PutRequest) -> PutResponse {
        let main = self.next();
        let former = self.state.get(put.key.as_ref()).cloned();
        let known = former.clone().unwrap_or_default();
        let kv = KeyValue {
            key: put.key.clone(),
            value: if put.ignore_value {
                known.value
            } else {
                put.value.clone()
            },
            create_revision: former.as_ref().map_or(main, |kv| kv.create_revision),
            mod_revision: main,
            version: known.version + 1,
            lease: match &former {
                Some(former) if put.ignore_lease => former.lease,
                // Nothing is there to keep: an earlier op of the same txn deleted it.
                _ => put.lease,
            },
        };
        self.state.insert(put.key.to_vec(), kv.clone());
        self.record(false, kv);
        PutResponse {
            header: header(main),
            prev_kv: former.filter(|_| put.prev_kv),
        }
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone = selected(&self.state, &delete.key, &delete.range_end);
        for kv in &gone {
            self.state.remove(kv.key.as_ref());
            let key = kv.key.clone();
            self.record(
                true,
                KeyValue {
                    key,
                    ..Default::default()
                },
            );
        }
        DeleteRangeResponse {
            header: header(self.current()),
            deleted: gone.len() as i64,
            prev_kvs: if delete.prev_kv { gone } else { Vec::new() },
        }
    }

    fn txn(&mut self, txn: &TxnRequest) -> Result<TxnResponse, Error> {
        self.check_txn(txn)?;
        let mut response = self.run_txn(txn);
        response.header = header(self.current());
        Ok(response)
    }

    fn chosen<'t>(&self, txn: &'t TxnRequest) -> (bool, &'t [RequestOp]) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        (succeeded, ops)
    }

    fn check_txn(&self, txn: &TxnRequest) -> Result<(), Error> {
        for op in self.chosen(txn).1 {
            match op.request.as_ref().unwrap() {
                Op::RequestRange(range) => match range.revision {
                    0 => {}
                    revision if revision > self.model.current() => {
                        return Err(Error::FutureRevision);
                    }
                    revision if revision < self.model.compacted => return Err(Error::Compacted),
                    _ => {}
                },
                Op::RequestPut(put) => self.check_put(put)?,
                Op::RequestDeleteRange(_) => {}
                Op::RequestTxn(nested) => self.check_txn(nested)?,
            }
        }
        Ok(())
    }

    fn run_txn(&mut self, txn: &TxnRequest) -> TxnResponse {
        let (succeeded, ops) = self.chosen(txn);
        let run = |op: &RequestOp| {
            let response = match op.request.as_ref().unwrap() {
                Op::RequestRange(range) => {
                    let state = match range.revision {
                        revision if revision > 0 && revision <= self.model.current() => {
                            &self.model.states[revision as usize]
                        }
                        _ => &self.state,
                    };
                    OpResponse::ResponseRange(range_of(state, range, self.current()))
                }
                Op::RequestPut(put) => OpResponse::ResponsePut(self.put(put)),
                Op::RequestDeleteRange(delete) => {
                    OpResponse::ResponseDeleteRange(self.delete(delete))
                }
                Op::RequestTxn(nested) => OpResponse::ResponseTxn(self.run_txn(nested)),
            };
            ResponseOp {
                response: Some(response),
            }
        };
        TxnResponse {
            header: header(0),
            succeeded,
            responses: ops.iter().map(run).collect(),
        }
    }

    /// Compares read the state before the whole txn.
    fn holds(&self, compare: &Compare) -> bool {
        use compare::{CompareResult, TargetUnion};
        let kvs = selected(self.model.state(), &compare.key, &compare.range_end);
        let one = |kv: &KeyValue| {
            let ordering = match compare.target_union.as_ref().unwrap() {
                TargetUnion::Version(given) => kv.version.cmp(given),
                TargetUnion::CreateRevision(given) => kv.create_revision.cmp(given),
                TargetUnion::ModRevision(given) => kv.mod_revision.cmp(given),
                TargetUnion::Value(given) => kv.value.cmp(given),
                TargetUnion::Lease(given) => kv.lease.cmp(given),
            };
            match compare.result() {
                CompareResult::Equal => ordering.is_eq(),
                CompareResult::NotEqual => ordering.is_ne(),
                CompareResult::Greater => ordering.is_gt(),
                CompareResult::Less => ordering.is_lt(),
            }
        };
        if kvs.is_empty() {
            let is_value = matches!(compare.target_union, Some(TargetUnion::Value(_)));
            return !is_value && one(&KeyValue::default());
        }
        kvs.iter().all(one)
    }
}

/// A CRC-32C without tables, to share no code with the store.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc = (crc >> 1) ^ (0x82f6_3b78 * carry);
        }
    }
    !crc
}

impl Model {
    /// etcd's HashKV from the list of all changes.
    pub fn hash_kv(&self, revision: i64) -> u32 {
        use prost::Message;
        let newest_at = |at: i64, change: &Change| {
            let mut of_key = self
                .changes
                .iter()
                .filter(|other| other.kv.key == change.kv.key);
            let last = of_key.rfind(|other| other.main <= at).unwrap();
            (last.main, last.sub) == (change.main, change.sub)
        };
        let at = if self.states[revision as usize].is_empty() {
            self.compacted
        } else {
            revision
        };
        let mut bytes = b"key".to_vec();
        for change in self.changes.iter().filter(|change| change.main <= revision) {
            if change.main <= self.compacted && (change.tombstone || !newest_at(at, change)) {
                continue;
            }
            bytes.extend_from_slice(&change.main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend_from_slice(&change.sub.to_be_bytes());
            if change.tombstone {
                bytes.push(b't');
            }
            bytes.extend_from_slice(&change.kv.encode_to_vec());
        }
        crc32c(&bytes)
    }
}
