//! Snapshots between members: the store's durable state as one hashed stream, and back.
//!
//! ```text
//!  magic | frame meta | frame leases ... | frame rows ... | frame end | sha256 of all before
//!  frame = length u32 LE, CRC-32C u32 LE, kind u8, content
//! ```
//!
//! It is never the redb file itself: copying an open one is unsafe, and would tie all members to
//! one redb version. But it carries redb's rows as they are, and neither side decodes and encodes
//! them. The stream comes from one redb read transaction, so the mark in it (log id, membership) is
//! exactly the state it carries.
//!
//! On arrival, the caller's thread reads and hashes, a second checks and writes, and a third builds
//! the new store's in-memory state, so that it is ready when its last byte has come. A few frames
//! are between them, so memory is bounded by their largest record, besides the store's own.
//!
//! The import owns the file under construction, `<destination>.tmp`; the destination appears by
//! rename, complete, verified and durable, or not at all. Every failure is a value; nothing is
//! retried.

mod export;
mod import;

use std::io;

use althing_api::etcdserverpb::AlarmType;

use sha2::{Digest, Sha256};

pub use export::Source;
pub use import::{Arrival, import};

use crate::entry::LogId;
use crate::store::{AppliedMark, CheckpointError, LeaseRecord, MemberRecord};

const MAGIC: &[u8; 8] = b"althsnap";
/// The layout described above.
const FORMAT: u32 = 3;
/// Content of a frame of rows in bytes, roughly. redb rebuilds a path of its tree for each.
const FRAME_BYTES: usize = 1 << 20;
const SHA256_BYTES: usize = 32;

const KIND_META: u8 = 1;
const KIND_END: u8 = 3;
const KIND_LEASES: u8 = 4;
/// Kind 2 was that of records that were encoded again.
const KIND_ROWS: u8 = 5;

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMark {
    /// Log position and membership of the state.
    pub applied: AppliedMark,
    /// The store's revision.
    pub revision: i64,
    /// The number of changes in it.
    pub records: u64,
    /// The stream's hash.
    pub sha256: [u8; SHA256_BYTES],
}

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The sink, the stream or the file failed.
    #[error("snapshot: {0}")]
    Io(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] CheckpointError),
    /// The stream is cut, changed or of another kind.
    #[error("snapshot is not usable: {0}; fetch it again")]
    Damaged(&'static str),
    /// The stream belongs to another cluster.
    #[error("snapshot belongs to cluster {found:x}, not to {expected:x}")]
    OtherCluster {
        /// The stream's cluster.
        found: u64,
        /// The importing member's cluster.
        expected: u64,
    },
    /// Another version wrote the stream.
    #[error("snapshot format {found} is not {FORMAT}; run the same version on all members")]
    OtherFormat {
        /// The stream's format.
        found: u32,
    },
}

/// The first frame.
#[derive(Clone, PartialEq, prost::Message)]
struct Meta {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(fixed64, tag = "2")]
    cluster_id: u64,
    #[prost(message, optional, tag = "3")]
    applied: Option<MetaLogId>,
    #[prost(message, optional, tag = "4")]
    membership_id: Option<MetaLogId>,
    #[prost(bytes = "bytes", tag = "5")]
    membership: bytes::Bytes,
    #[prost(int64, tag = "6")]
    revision: i64,
    #[prost(int64, optional, tag = "7")]
    compacted: Option<i64>,
    #[prost(string, optional, tag = "8")]
    cluster_version: Option<String>,
    #[prost(message, repeated, tag = "9")]
    members: Vec<althing_api::commandpb::PublishMember>,
    /// Ids of members that were removed.
    #[prost(fixed64, repeated, tag = "10")]
    removed: Vec<u64>,
    #[prost(message, repeated, tag = "11")]
    alarms: Vec<Alarm>,
    #[prost(string, optional, tag = "12")]
    downgrade_target: Option<String>,
}

/// An active alarm.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Alarm {
    #[prost(enumeration = "AlarmType", tag = "1")]
    alarm: i32,
    #[prost(fixed64, tag = "2")]
    member_id: u64,
    #[prost(bool, tag = "3")]
    clears_itself: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct MetaLogId {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

impl From<LogId> for MetaLogId {
    fn from(LogId { term, index }: LogId) -> MetaLogId {
        MetaLogId { term, index }
    }
}

impl From<MetaLogId> for LogId {
    fn from(MetaLogId { term, index }: MetaLogId) -> LogId {
        LogId { term, index }
    }
}

impl Meta {
    fn applied(&self) -> AppliedMark {
        let membership = self.membership.clone();
        AppliedMark {
            log_id: self.applied.map(LogId::from),
            membership: self.membership_id.map(|id| (id.into(), membership)),
        }
    }

    fn members(&self) -> Vec<MemberRecord> {
        self.members
            .iter()
            .cloned()
            .map(MemberRecord::from)
            .collect()
    }
}

/// One lease inside a frame of leases.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Lease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining: i64,
    #[prost(fixed64, tag = "4")]
    generation: u64,
    #[prost(bool, tag = "5")]
    bound: bool,
}

impl From<LeaseRecord> for Lease {
    fn from(lease: LeaseRecord) -> Lease {
        Lease {
            id: lease.id,
            ttl: lease.ttl,
            remaining: lease.remaining,
            generation: lease.generation,
            bound: lease.bound,
        }
    }
}

impl From<Lease> for LeaseRecord {
    fn from(lease: Lease) -> LeaseRecord {
        LeaseRecord {
            id: lease.id,
            ttl: lease.ttl,
            remaining: lease.remaining,
            generation: lease.generation,
            bound: lease.bound,
        }
    }
}

/// Hashes the bytes that pass through.
pub(crate) struct Hashed<T> {
    inner: T,
    sha256: Sha256,
}

impl<T> Hashed<T> {
    pub(crate) fn new(inner: T) -> Hashed<T> {
        Hashed {
            inner,
            sha256: Sha256::new(),
        }
    }

    pub(crate) fn digest(&self) -> [u8; SHA256_BYTES] {
        self.sha256.clone().finalize().into()
    }
}

impl<T: io::Write> io::Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: io::BufRead> Hashed<T> {
    /// Adds the next `len` bytes to `to`, or fewer if the stream ends.
    fn take_to(&mut self, mut len: usize, to: &mut Vec<u8>) -> io::Result<()> {
        while len > 0 {
            let arrived = self.inner.fill_buf()?;
            let taken = &arrived[..arrived.len().min(len)];
            if taken.is_empty() {
                break;
            }
            self.sha256.update(taken);
            to.extend_from_slice(taken);
            let taken = taken.len();
            self.inner.consume(taken);
            len -= taken;
        }
        Ok(())
    }
}

impl<T: io::Read> io::Read for Hashed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.sha256.update(&bytes[..read]);
        Ok(read)
    }
}
