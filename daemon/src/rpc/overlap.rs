//! The duplicate check of a txn: no execution path may put a key twice, or put a key that it also
//! deletes. What collides is exactly what etcd finds, its two gaps included: a deletion "from this
//! key on" (range end of one zero byte) collides with nothing, and a put of one nested txn is not
//! compared with the deletions of a nested txn that follows it.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use althing_api::error::Error;
use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::{DeleteRangeRequest, RequestOp};
use bytes::Bytes;

/// Refuses a list of ops, with everything nested in it, that writes a key twice.
pub fn check(ops: &[RequestOp]) -> Result<(), Error> {
    // Most txns write at most one key per branch; they need no sets.
    let alone = ops.iter().filter(|op| writes(op)).nth(1).is_none();
    if alone && !ops.iter().any(is_nested) {
        return Ok(());
    }
    collect(ops).map(drop)
}

fn writes(op: &RequestOp) -> bool {
    !matches!(op.request, None | Some(Op::RequestRange(_)))
}

fn is_nested(op: &RequestOp) -> bool {
    matches!(op.request, Some(Op::RequestTxn(_)))
}

/// What a list of ops may write, over all its paths.
#[derive(Default)]
struct Writes {
    puts: HashSet<Bytes>,
    deleted: Spans,
}

/// Deletions of this level come first, then the nested txns one by one, then this level's puts.
fn collect(ops: &[RequestOp]) -> Result<Writes, Error> {
    let mut writes = Writes::default();
    for op in ops {
        if let Some(Op::RequestDeleteRange(request)) = &op.request {
            writes.deleted.delete(request);
        }
    }
    for op in ops {
        if let Some(Op::RequestTxn(request)) = &op.request {
            let success = collect(&request.success)?;
            let failure = collect(&request.failure)?;
            writes.add_branches(success, failure)?;
        }
    }
    for op in ops {
        if let Some(Op::RequestPut(request)) = &op.request {
            writes.put(&request.key)?;
        }
    }
    Ok(writes)
}

impl Writes {
    fn put(&mut self, key: &Bytes) -> Result<(), Error> {
        if self.deleted.contains(key) || !self.puts.insert(key.clone()) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Only one of the two branches runs, so they are not compared with each other.
    fn add_branches(&mut self, success: Writes, failure: Writes) -> Result<(), Error> {
        for key in &success.puts {
            self.put(key)?;
        }
        for key in &failure.puts {
            if !success.puts.contains(key) {
                self.put(key)?;
            }
        }
        self.deleted.merge(success.deleted);
        self.deleted.merge(failure.deleted);
        Ok(())
    }
}

/// Disjoint half-open intervals of keys: start -> end, with start < end.
#[derive(Default)]
struct Spans(BTreeMap<Bytes, Bytes>);

impl Spans {
    fn delete(&mut self, request: &DeleteRangeRequest) {
        if !request.range_end.is_empty() {
            self.insert(request.key.clone(), request.range_end.clone());
        } else {
            let mut next = request.key.to_vec();
            next.push(0);
            self.insert(request.key.clone(), next.into());
        }
    }

    fn insert(&mut self, mut start: Bytes, mut end: Bytes) {
        if start >= end {
            return;
        }
        // Swallow, from the right, every interval that touches the new one.
        let upto = (Bound::Unbounded, Bound::Included(end.clone()));
        while let Some((left, right)) = self.0.range::<Bytes, _>(upto.clone()).next_back() {
            if *right < start {
                break;
            }
            let left = left.clone();
            let right = self.0.remove(&left).expect("the interval was just found");
            start = start.min(left);
            end = end.max(right);
        }
        self.0.insert(start, end);
    }

    fn merge(&mut self, mut other: Spans) {
        if self.0.len() < other.0.len() {
            std::mem::swap(self, &mut other);
        }
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }

    fn contains(&self, key: &Bytes) -> bool {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let before = self.0.range::<Bytes, _>(upto).next_back();
        before.is_some_and(|(_, end)| key < end)
    }
}

#[cfg(test)]
#[path = "overlap_test.rs"]
mod tests;
