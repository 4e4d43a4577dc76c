//! Two key spaces side by side, page by page: what differs, and what would make the destination
//! equal to the source.

use std::cmp::Ordering;

use althing_api::etcdserverpb::{RangeRequest, RangeResponse};
use althing_api::mvccpb::KeyValue;
use bytes::Bytes;

use super::batch::Change;
use super::range_of;
use crate::client::Client;
use crate::client::pages::{PageSize, rest};
use crate::failure::Failure;

/// How two key spaces differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Keys that are the same, lease included.
    pub equal: u64,
    /// Keys that the destination lacks.
    pub missing: u64,
    /// Keys with another value or lease.
    pub changed: u64,
    /// Keys that only the destination has.
    pub surplus: u64,
}

impl Difference {
    /// Whether the two are equal.
    pub fn is_none(&self) -> bool {
        self.missing + self.changed + self.surplus == 0
    }

    /// Keys of the source.
    pub fn source_keys(&self) -> u64 {
        self.equal + self.missing + self.changed
    }

    fn count(&mut self, change: &Change, is_there: bool) {
        match (change, is_there) {
            (Change::Delete(_), _) => self.surplus += 1,
            (Change::Put { .. }, true) => self.changed += 1,
            (Change::Put { .. }, false) => self.missing += 1,
        }
    }
}

/// A walk over both key spaces, from the first key with a prefix to the last.
#[derive(Debug)]
pub struct Walk {
    from: Bytes,
    end: Bytes,
    /// 0 for the newest at each page.
    revision: i64,
    size: PageSize,
    done: bool,
    /// What was found so far.
    pub difference: Difference,
}

impl Walk {
    /// Begins; `revision` is the one at which the source is read.
    pub fn new(prefix: &Bytes, revision: i64) -> Walk {
        let (from, end) = range_of(prefix);
        Walk {
            from,
            end,
            revision,
            size: PageSize::default(),
            done: false,
            difference: Difference::default(),
        }
    }

    /// The changes of the next stretch; `None` at the end.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn next(
        &mut self,
        source: &mut Client,
        destination: &mut Client,
    ) -> Result<Option<Vec<Change>>, Failure> {
        if self.done {
            return Ok(None);
        }
        let page = self.page(source, self.end.clone(), self.revision).await?;
        let next = rest(&page);
        let until = next.clone().unwrap_or_else(|| self.end.clone());
        let mut theirs = Vec::new();
        loop {
            let part = self.page(destination, until.clone(), 0).await?;
            let more = rest(&part);
            theirs.extend(part.kvs);
            match more {
                Some(from) => self.from = from,
                None => break,
            }
        }
        match next {
            Some(next) => self.from = next,
            None => self.done = true,
        }
        Ok(Some(changes(&page.kvs, &theirs, &mut self.difference)))
    }

    async fn page(
        &mut self,
        client: &mut Client,
        range_end: Bytes,
        revision: i64,
    ) -> Result<RangeResponse, Failure> {
        let request = RangeRequest {
            key: self.from.clone(),
            range_end,
            revision,
            ..RangeRequest::default()
        };
        self.size.read(client, request).await
    }
}

/// What makes `theirs` equal to `ours`; both are sorted by key.
fn changes(ours: &[KeyValue], theirs: &[KeyValue], found: &mut Difference) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut ours, mut theirs) = (ours.iter().peekable(), theirs.iter().peekable());
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (Some(one), Some(other)) => one.key.cmp(&other.key),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return changes,
        };
        let one = (order != Ordering::Greater).then(|| ours.next()).flatten();
        let other = (order != Ordering::Less).then(|| theirs.next()).flatten();
        let change = match (one, other) {
            (Some(one), Some(other)) if one.value == other.value && one.lease == other.lease => {
                found.equal += 1;
                continue;
            }
            (Some(one), _) => Change::Put {
                key: one.key.clone(),
                value: one.value.clone(),
                lease: one.lease,
            },
            (None, Some(other)) => Change::Delete(other.key.clone()),
            (None, None) => continue,
        };
        found.count(&change, other.is_some());
        changes.push(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, value: &'static str, lease: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.into(),
            lease,
            ..KeyValue::default()
        }
    }

    #[test]
    fn each_key_is_equal_missing_changed_or_surplus() {
        let ours = [
            kv("a", "1", 0),
            kv("b", "1", 0),
            kv("d", "1", 7),
            kv("e", "1", 0),
        ];
        let theirs = [
            kv("a", "1", 0),
            kv("c", "1", 0),
            kv("d", "1", 0),
            kv("e", "2", 0),
        ];
        let mut found = Difference::default();
        let made = changes(&ours, &theirs, &mut found);
        let keys: Vec<&[u8]> = made.iter().map(|change| change.key().as_ref()).collect();
        assert_eq!(keys, [b"b", b"c", b"d", b"e"]);
        assert_eq!(made[1], Change::Delete("c".into()));
        let expected = Difference {
            equal: 1,
            missing: 1,
            changed: 2,
            surplus: 1,
        };
        assert_eq!(found, expected);
        assert_eq!(found.source_keys(), 4);
    }

    #[test]
    fn equal_key_spaces_need_no_change() {
        let kvs = [kv("a", "1", 3)];
        let mut found = Difference::default();
        assert!(changes(&kvs, &kvs, &mut found).is_empty());
        assert!(found.is_none());
    }
}
