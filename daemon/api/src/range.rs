//! Key ranges as etcd's clients write them: a key and a range end, where an empty end means the
//! one key and an end of one zero byte means "to the last key".

use std::ops::Bound;

use bytes::Bytes;

/// The range end that stands for "every key from here on"; as a key, the smallest of all keys.
pub const OPEN_END: &[u8] = &[0];

/// A half-open interval of keys, compared as raw bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// Exactly this key.
    One(Bytes),
    /// `start <= key < end`; empty when `end <= start`.
    Span {
        /// First key of the range.
        start: Bytes,
        /// First key after the range.
        end: Bytes,
    },
    /// `start <= key`.
    From(Bytes),
}

/// Where a range begins and ends, as ordered collections take it.
pub type KeyBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl KeyRange {
    /// Reads the pair of fields that Range, DeleteRange, Watch, compares and permissions share.
    pub fn new(key: Bytes, range_end: Bytes) -> KeyRange {
        if range_end.is_empty() {
            KeyRange::One(key)
        } else if range_end == OPEN_END {
            KeyRange::From(key)
        } else {
            KeyRange::Span {
                start: key,
                end: range_end,
            }
        }
    }

    /// The range's bounds for an ordered collection; `None` when no key can be inside.
    pub fn bounds(&self) -> Option<KeyBounds<'_>> {
        match self {
            KeyRange::One(key) => Some((Bound::Included(key), Bound::Included(key))),
            KeyRange::Span { start, end } if start < end => {
                Some((Bound::Included(start), Bound::Excluded(end)))
            }
            KeyRange::Span { .. } => None,
            KeyRange::From(start) => Some((Bound::Included(start), Bound::Unbounded)),
        }
    }

    /// Whether `key` lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => one == key,
            KeyRange::Span { start, end } => start.as_ref() <= key && key < end.as_ref(),
            KeyRange::From(start) => start.as_ref() <= key,
        }
    }
}

/// The range end that selects every key with `prefix`: the last byte plus one, after trailing 0xff
/// bytes are dropped. An empty or all-0xff prefix has no such end and selects to the last key.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => Bytes::from_static(OPEN_END),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_end_before_its_start_selects_nothing() {
        let range = KeyRange::new("b".into(), "a".into());
        assert_eq!(range.bounds(), None);
        assert!(!range.contains(b"a") && !range.contains(b"b"));
    }

    #[test]
    fn a_prefix_of_only_0xff_runs_to_the_last_key() {
        assert_eq!(prefix_end(&[0xff, 0xff]), OPEN_END);
        assert_eq!(prefix_end(b""), OPEN_END);
        assert_eq!(prefix_end(&[1, 0xff]), [2][..]);
    }

    proptest! {
        #[test]
        fn a_prefix_range_holds_exactly_the_keys_with_the_prefix(
            prefix in prop::collection::vec(250u8.., 1..4),
            key in prop::collection::vec(250u8.., 0..5),
        ) {
            let range = KeyRange::new(prefix.clone().into(), prefix_end(&prefix));
            prop_assert_eq!(range.contains(&key), key.starts_with(&prefix));
        }
    }
}
