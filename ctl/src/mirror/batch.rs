//! Transactions for the destination: pure.
//!
//! Changes stay in order. Those of one revision stay in one transaction while it may hold them; a
//! transaction names no key twice, which etcd refuses.

use std::collections::BTreeSet;
use std::mem;

use althing_api::etcdserverpb::request_op::Request;
use althing_api::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp};
use bytes::Bytes;

/// Bytes of keys and values in one transaction; below what servers accept by default.
const BATCH_BYTES: usize = 1 << 20;

/// A change to be made at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key gets this value and lease.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// 0 for none.
        lease: i64,
    },
    /// The key is deleted.
    Delete(Bytes),
}

impl Change {
    /// The key that changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Change::Put { key, .. } | Change::Delete(key) => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Change::Put { key, value, .. } => key.len() + value.len(),
            Change::Delete(key) => key.len(),
        }
    }

    /// The change as a part of a transaction.
    pub fn request(self) -> RequestOp {
        let request = match self {
            Change::Put { key, value, lease } => Request::RequestPut(PutRequest {
                key,
                value,
                lease,
                ..PutRequest::default()
            }),
            Change::Delete(key) => Request::RequestDeleteRange(DeleteRangeRequest {
                key,
                ..DeleteRangeRequest::default()
            }),
        };
        RequestOp {
            request: Some(request),
        }
    }
}

/// Collects changes until a transaction is full.
#[derive(Debug)]
pub struct Batches {
    ops_max: usize,
    full: Vec<Vec<Change>>,
    open: Vec<Change>,
    keys: BTreeSet<Bytes>,
    bytes: usize,
}

impl Batches {
    /// Transactions of at most `ops_max` changes, at least one.
    pub fn new(ops_max: usize) -> Batches {
        Batches {
            ops_max: ops_max.max(1),
            full: Vec::new(),
            open: Vec::new(),
            keys: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// Adds the changes of one revision.
    pub fn add(&mut self, changes: Vec<Change>) {
        let bytes: usize = changes.iter().map(Change::bytes).sum();
        let repeats = changes
            .iter()
            .any(|change| self.keys.contains(change.key()));
        let fits =
            self.open.len() + changes.len() <= self.ops_max && self.bytes + bytes <= BATCH_BYTES;
        if repeats || !fits {
            self.close();
        }
        for change in changes {
            let full = self.open.len() == self.ops_max
                || (!self.open.is_empty() && self.bytes + change.bytes() > BATCH_BYTES);
            if full || self.keys.contains(change.key()) {
                self.close();
            }
            self.bytes += change.bytes();
            self.keys.insert(change.key().clone());
            self.open.push(change);
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push(mem::take(&mut self.open));
        }
        self.keys.clear();
        self.bytes = 0;
    }

    /// The transactions, in order.
    pub fn finish(mut self) -> Vec<Vec<Change>> {
        self.close();
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, len: usize) -> Change {
        Change::Put {
            key: key.into(),
            value: vec![b'v'; len].into(),
            lease: 0,
        }
    }

    fn shape(ops_max: usize, revisions: Vec<Vec<Change>>) -> Vec<String> {
        let mut batches = Batches::new(ops_max);
        revisions
            .into_iter()
            .for_each(|changes| batches.add(changes));
        let keys = |batch: &Vec<Change>| -> String {
            let key = |change: &Change| String::from_utf8_lossy(change.key()).into_owned();
            batch.iter().map(key).collect()
        };
        batches.finish().iter().map(keys).collect()
    }

    #[test]
    fn revisions_share_a_transaction_until_a_key_repeats() {
        let revisions = ["a", "b", "a", "c"].map(|key| vec![put(key, 1)]);
        assert_eq!(shape(128, revisions.to_vec()), ["ab", "ac"]);
    }

    #[test]
    fn a_revision_is_split_only_when_no_transaction_holds_it() {
        let two = || vec![put("c", 1), put("d", 1)];
        let first = ["a", "b"].map(|key| vec![put(key, 1)]);
        let revisions = [first.to_vec(), vec![two()]].concat();
        assert_eq!(shape(3, revisions), ["ab", "cd"]);
        assert_eq!(shape(1, vec![two()]), ["c", "d"]);
    }

    #[test]
    fn a_transaction_stays_below_what_a_server_accepts() {
        let large = 700_000;
        let revisions = vec![vec![put("a", large)], vec![put("b", large), put("c", 1)]];
        assert_eq!(shape(128, revisions), ["a", "bc"]);
        assert_eq!(shape(128, vec![vec![put("a", 3 << 20)]]), ["a"]);
    }
}
