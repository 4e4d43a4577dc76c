//! Keys as text that people read and programs parse: one JSON object a line, a head first.
//!
//! ```text
//!  {"althing_export":1,"revision":9,"key":"/app/","range_end":"/app0","count":2}
//!  {"key":"/app/a","value":"text","create_revision":3,"mod_revision":7,"version":2}
//!  {"key":"/app/b","value_base64":"/+8=","lease":"694d5765fc71500b",...}
//! ```
//! A field holds text if it is UTF-8; otherwise its name ends in `_base64`. The head tells how many
//! keys follow, so that a file that was cut is noticed.

mod file;

pub use file::{ExportFile, Head, Record};

use althing_api::mvccpb::KeyValue;
use bytes::Bytes;

/// One key as it differs between two sets of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Differs {
    /// Only the first has it.
    Removed(Record),
    /// Only the second has it.
    Added(Record),
    /// Both have it, with other values: the first's and the second's.
    Changed(Record, Record),
}

/// How `first` became `second`; both are sorted by key.
pub fn differences(first: Vec<Record>, second: Vec<Record>) -> Vec<Differs> {
    let mut differences = Vec::new();
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    loop {
        let order = match (first.peek(), second.peek()) {
            (Some(one), Some(other)) => one.key.cmp(&other.key),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return differences,
        };
        let one = order.is_le().then(|| first.next()).flatten();
        let other = order.is_ge().then(|| second.next()).flatten();
        match (one, other) {
            (Some(one), Some(other)) if one.value == other.value => {}
            (Some(one), Some(other)) => differences.push(Differs::Changed(one, other)),
            (Some(one), None) => differences.push(Differs::Removed(one)),
            (None, Some(other)) => differences.push(Differs::Added(other)),
            (None, None) => {}
        }
    }
}

impl From<KeyValue> for Record {
    fn from(kv: KeyValue) -> Record {
        Record {
            key: kv.key,
            value: kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

/// Bytes as a person reads them in a line.
pub fn shown(bytes: &Bytes) -> String {
    crate::text::quote::quote(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &'static str, value: &'static str) -> Record {
        Record {
            key: key.into(),
            value: value.into(),
            ..Record::default()
        }
    }

    #[test]
    fn keys_are_removed_added_or_changed() {
        let first = vec![record("a", "1"), record("b", "1"), record("d", "1")];
        let second = vec![record("b", "1"), record("c", "1"), record("d", "2")];
        let expected = [
            Differs::Removed(record("a", "1")),
            Differs::Added(record("c", "1")),
            Differs::Changed(record("d", "1"), record("d", "2")),
        ];
        assert_eq!(differences(first, second), expected);
    }
}
