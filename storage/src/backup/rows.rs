//! etcd's buckets and their rows. Sources: etcd's `server/storage/schema`, `server/lease/leasepb`.

use althing_api::etcdserverpb::{AlarmMember, AlarmType};
use prost::Message;

use crate::store::{AlarmRecord, LeaseRecord};

pub(super) const ALARM: &[u8] = b"alarm";
pub(super) const AUTH: &[u8] = b"auth";
pub(super) const AUTH_ROLES: &[u8] = b"authRoles";
pub(super) const AUTH_USERS: &[u8] = b"authUsers";
pub(super) const CLUSTER: &[u8] = b"cluster";
pub(super) const KEY: &[u8] = b"key";
pub(super) const LEASE: &[u8] = b"lease";
pub(super) const MEMBERS: &[u8] = b"members";
pub(super) const MEMBERS_REMOVED: &[u8] = b"members_removed";
pub(super) const META: &[u8] = b"meta";

/// The value in bucket `alarm` of an alarm that ends by itself; etcd reads keys only.
const CLEARS_ITSELF: &[u8] = b"clears itself";
/// The value of each row in bucket `members_removed`.
pub(super) const REMOVED_MARK: &[u8] = b"removed";
/// In bucket `auth`: one byte, which is not zero if authentication is on.
pub(super) const AUTH_ENABLED: &[u8] = b"authEnabled";
/// In bucket `cluster`.
pub(super) const CLUSTER_VERSION: &[u8] = b"clusterVersion";
/// In bucket `meta`, in the order of their names.
pub(super) const CONF_STATE: &[u8] = b"confState";
pub(super) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub(super) const COMPACT_FINISHED: &[u8] = b"finishedCompactRev";
pub(super) const COMPACT_SCHEDULED: &[u8] = b"scheduledCompactRev";
pub(super) const TERM: &[u8] = b"term";

const REVISION_BYTES: usize = 17;
const TOMBSTONE: u8 = b't';

/// A revision's key in bucket `key`: main, `_`, sub, and `t` for a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RevisionKey {
    bytes: [u8; REVISION_BYTES + 1],
    len: usize,
}

impl RevisionKey {
    pub fn new(main: i64, sub: u32, tombstone: bool) -> RevisionKey {
        let mut bytes = [TOMBSTONE; REVISION_BYTES + 1];
        bytes[..8].copy_from_slice(&main.to_be_bytes());
        bytes[8] = b'_';
        bytes[9..REVISION_BYTES].copy_from_slice(&u64::from(sub).to_be_bytes());
        let len = REVISION_BYTES + usize::from(tombstone);
        RevisionKey { bytes, len }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads a revision's key: main, sub, and whether it is a deletion.
pub(super) fn read_revision(key: &[u8]) -> Option<(i64, u32, bool)> {
    let (main, rest) = key.split_first_chunk::<8>()?;
    let (mark, rest) = rest.split_first()?;
    let (sub, rest) = rest.split_first_chunk::<8>()?;
    let tombstone = match rest {
        [] => false,
        [TOMBSTONE] => true,
        _ => return None,
    };
    let main = i64::from_be_bytes(*main);
    let sub = u32::try_from(u64::from_be_bytes(*sub)).ok()?;
    (*mark == b'_' && main >= 0).then_some((main, sub, tombstone))
}

/// The rows of bucket `alarm`, in order. A key alone is an alarm.
pub(super) fn alarm_rows(alarms: &[AlarmRecord]) -> Vec<(Vec<u8>, &'static [u8])> {
    let row = |alarm: &AlarmRecord| {
        let value = if alarm.clears_itself {
            CLEARS_ITSELF
        } else {
            b""
        };
        (AlarmMember::from(*alarm).encode_to_vec(), value)
    };
    let mut rows: Vec<_> = alarms.iter().map(row).collect();
    rows.sort_unstable();
    rows
}

/// Reads a row of bucket `alarm`.
pub(super) fn read_alarm(key: &[u8], value: &[u8]) -> Option<AlarmRecord> {
    let alarm = AlarmMember::decode(key).ok()?;
    Some(AlarmRecord {
        alarm: AlarmType::try_from(alarm.alarm).ok()?,
        member_id: alarm.member_id,
        clears_itself: value == CLEARS_ITSELF,
    })
}

/// A lease as etcd stores it. etcd skips the last field, which is ours.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseRow {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub ttl: i64,
    #[prost(int64, tag = "3")]
    pub remaining: i64,
    #[prost(bool, tag = "1001")]
    pub bound: bool,
}

impl LeaseRow {
    /// No log refers to an earlier generation, so all leases begin with the same one, on every
    /// member.
    const GENERATION: u64 = 1;

    pub fn record(self) -> LeaseRecord {
        LeaseRecord {
            id: self.id,
            ttl: self.ttl,
            remaining: self.remaining,
            generation: LeaseRow::GENERATION,
            bound: self.bound,
        }
    }
}

impl From<&LeaseRecord> for LeaseRow {
    fn from(lease: &LeaseRecord) -> LeaseRow {
        LeaseRow {
            id: lease.id,
            ttl: lease.ttl,
            remaining: lease.remaining,
            bound: lease.bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revisions_key_survives_encoding() {
        for (main, sub, tombstone) in [(1, 0, false), (i64::MAX, 7, true), (2, u32::MAX, false)] {
            let key = RevisionKey::new(main, sub, tombstone);
            assert_eq!(read_revision(key.bytes()), Some((main, sub, tombstone)));
        }
        assert_eq!(read_revision(b"short"), None);
        assert_eq!(read_revision(&[0xff; 17]), None);
    }

    #[test]
    fn an_alarm_is_the_key_that_etcd_makes_of_it() {
        let alarm = AlarmRecord {
            alarm: AlarmType::Corrupt,
            member_id: 5,
            clears_itself: false,
        };
        let rows = alarm_rows(&[alarm]);
        assert_eq!(rows, [(b"\x08\x05\x10\x02".to_vec(), &b""[..])]);
        assert_eq!(read_alarm(&rows[0].0, rows[0].1), Some(alarm));
        assert_eq!(read_alarm(b"\x10\x09", b""), None);
    }

    #[test]
    fn an_etcd_reads_our_lease_without_the_field_of_ours() {
        let row = LeaseRow {
            id: 7,
            ttl: 60,
            remaining: 0,
            bound: true,
        };
        assert!(row.encode_to_vec().starts_with(b"\x08\x07\x10\x3c"));
    }
}
