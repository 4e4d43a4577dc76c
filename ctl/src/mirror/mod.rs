//! One cluster's keys copied into another and kept equal, for `make-mirror` and `migrate`.
//!
//! `compare` walks both key spaces side by side, `batch` makes transactions of what differs or of
//! events, `writer` sends them, `leases` carries leases over and keeps them alive. A transaction
//! that is sent twice does no harm, because nobody else writes these keys: so each is repeated
//! until its outcome is known. Nothing is kept beside the two clusters: after an interruption, the
//! next run compares again and goes on.

pub mod batch;
pub mod compare;
pub mod destination;
pub mod follow;
pub mod leases;
pub mod writer;

use bytes::Bytes;

use althing_api::range::{OPEN_END, prefix_end};

/// The keys with `prefix`: key and range end.
pub fn range_of(prefix: &Bytes) -> (Bytes, Bytes) {
    if prefix.is_empty() {
        (Bytes::from_static(OPEN_END), Bytes::from_static(OPEN_END))
    } else {
        (prefix.clone(), prefix_end(prefix))
    }
}

/// The names of keys at the destination.
#[derive(Clone, Debug, Default)]
pub struct Rename {
    /// What keys begin with at the source.
    pub prefix: Bytes,
    /// What they begin with instead.
    pub dest_prefix: Bytes,
}

impl Rename {
    /// Keeps every name.
    pub fn none(prefix: &Bytes) -> Rename {
        Rename {
            prefix: prefix.clone(),
            dest_prefix: prefix.clone(),
        }
    }

    /// The name of `key` at the destination.
    pub fn apply(&self, key: &Bytes) -> Bytes {
        if self.prefix == self.dest_prefix {
            return key.clone();
        }
        let rest = key.strip_prefix(self.prefix.as_ref()).unwrap_or(key);
        [self.dest_prefix.as_ref(), rest].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gets_the_prefix_of_the_destination() {
        let rename = |prefix: &'static str, dest: &'static str, key: &'static str| {
            let rename = Rename {
                prefix: prefix.into(),
                dest_prefix: dest.into(),
            };
            rename.apply(&Bytes::from(key))
        };
        assert_eq!(rename("/a/", "/b/", "/a/x"), "/b/x");
        assert_eq!(rename("/a/", "", "/a/x"), "x");
        assert_eq!(rename("", "/b/", "x"), "/b/x");
        assert_eq!(rename("/a/", "/a/", "/a/x"), "/a/x");
    }
}
