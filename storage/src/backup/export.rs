//! Writing a backup.

use std::fmt;
use std::io::Write;

use althing_api::commandpb::Membership;
use althing_api::mvccpb::KeyValue;
use bytes::Bytes;
use prost::Message;
use serde::Serialize;

use super::BackupError;
use super::rows::*;
use crate::bbolt::{Layout, Value, Writer};
use crate::entry::LogId;
use crate::snapshot::Hashed;
use crate::store::{CheckpointError, DiskError, DiskMeta, DiskView, LeaseRecord, Store};

/// The bytes of a field's tag for numbers below 16.
const TAG_BYTES: usize = 1;

/// A state to be written as a snapshot of etcd: what the store's file durably held when it was
/// opened. Holding it keeps that state readable, whatever is written meanwhile.
pub struct Backup {
    view: DiskView,
    meta: DiskMeta,
    leases: Vec<LeaseRecord>,
    layout: Layout,
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup")
            .field("revision", &self.meta.revision)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

/// A member as stored in etcd's bucket `members`.
#[derive(Serialize)]
struct MemberJson<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

/// A raft configuration as stored in etcd's `confState`.
#[derive(Serialize)]
struct ConfState {
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    auto_leave: bool,
}

impl Backup {
    /// Opens what `store` durably holds, and measures it. Blocks. Checkpoint first: what is only
    /// pending is not in it.
    ///
    /// # Errors
    /// Errors of reading the store's file.
    pub fn open(store: &Store) -> Result<Backup, BackupError> {
        let (view, meta) = store.disk_view()?;
        let leases = view.leases().map_err(failed)?;
        let mut backup = Backup {
            view,
            meta,
            leases,
            layout: Layout::default(),
        };
        let mut measuring = Writer::measuring();
        backup.write_buckets(&mut measuring)?;
        backup.layout = measuring.finish()?;
        Ok(backup)
    }

    /// Size of the snapshot, without the hash that follows it.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// The last log entry that the state includes.
    pub fn applied(&self) -> Option<LogId> {
        self.meta.applied.log_id
    }

    /// Writes the snapshot to `out`, its SHA-256 behind it, and flushes. Blocks.
    ///
    /// # Errors
    /// Errors of `out`, and of the store's file.
    pub fn stream(&self, out: &mut impl Write) -> Result<(), BackupError> {
        let mut out = Hashed::new(out);
        self.write(&mut out)?;
        let sha256 = out.digest();
        out.write_all(&sha256)?;
        Ok(out.flush()?)
    }

    fn write(&self, out: impl Write) -> Result<(), BackupError> {
        let transaction = self.applied().map_or(1, |id| id.index.max(1));
        let mut writer = Writer::new(out, self.layout, transaction)?;
        self.write_buckets(&mut writer)?;
        writer.finish()?;
        Ok(())
    }

    /// All buckets, in the order of their names.
    fn write_buckets<W: Write>(&self, writer: &mut Writer<W>) -> Result<(), BackupError> {
        for (key, value) in alarm_rows(&self.meta.alarms) {
            writer.put(&key, Value::of(value, writer))?;
        }
        writer.end_bucket(ALARM)?;
        for empty in [AUTH, AUTH_ROLES, AUTH_USERS] {
            writer.end_bucket(empty)?;
        }
        if let Some(version) = &self.meta.cluster_version {
            writer.put(CLUSTER_VERSION, Value::of(version.as_bytes(), writer))?;
        }
        writer.end_bucket(CLUSTER)?;
        self.write_keys(writer)?;
        writer.end_bucket(KEY)?;
        self.write_leases(writer)?;
        writer.end_bucket(LEASE)?;
        let membership = self.membership();
        self.write_members(&membership, writer)?;
        writer.end_bucket(MEMBERS)?;
        self.write_removed(writer)?;
        writer.end_bucket(MEMBERS_REMOVED)?;
        self.write_meta(&membership, writer)?;
        writer.end_bucket(META)?;
        Ok(())
    }

    fn write_keys<W: Write>(&self, writer: &mut Writer<W>) -> Result<(), BackupError> {
        for stored in self.view.revisions().map_err(failed)? {
            let stored = stored.map_err(failed)?;
            let rev = stored.rev;
            let key = RevisionKey::new(rev.main, rev.sub, stored.tombstone);
            match stored.value_apart {
                None => writer.put(key.bytes(), Value::of(&stored.record, writer))?,
                Some(len) if writer.is_measuring() => {
                    let len = joined_len(&stored.record, len);
                    writer.put(key.bytes(), Value::Length(len))?;
                }
                Some(len) => {
                    let joined = self.view.join_value(rev, &stored.record, len);
                    writer.put(key.bytes(), Value::Bytes(&joined.map_err(failed)?))?;
                }
            }
        }
        Ok(())
    }

    fn write_leases<W: Write>(&self, writer: &mut Writer<W>) -> Result<(), BackupError> {
        let mut leases: Vec<&LeaseRecord> = self.leases.iter().collect();
        // Ids are signed; bytes are not.
        leases.sort_unstable_by_key(|lease| lease.id.to_be_bytes());
        for lease in leases {
            let row = LeaseRow::from(lease).encode_to_vec();
            writer.put(&lease.id.to_be_bytes(), Value::of(&row, writer))?;
        }
        Ok(())
    }

    /// The membership; one that cannot be read is left out, since no restore uses it.
    fn membership(&self) -> Membership {
        let payload = self.meta.applied.membership.as_ref();
        let row = payload.and_then(|(_, payload)| Membership::decode(payload.clone()).ok());
        row.unwrap_or_default()
    }

    fn write_members<W: Write>(
        &self,
        membership: &Membership,
        writer: &mut Writer<W>,
    ) -> Result<(), BackupError> {
        let mut rows = Vec::new();
        for node in &membership.members {
            let published = self.meta.members.iter().find(|member| member.id == node.id);
            let json = MemberJson {
                id: node.id,
                peer_urls: &node.peer_urls,
                is_learner: !is_voter(membership, node.id),
                name: published.map_or("", |member| &member.name),
                client_urls: published.map_or(&[], |member| &member.client_urls),
            };
            let json = serde_json::to_vec(&json).expect("strings and numbers are JSON");
            rows.push((format!("{:x}", node.id), json));
        }
        rows.sort();
        for (id, json) in rows {
            writer.put(id.as_bytes(), Value::of(&json, writer))?;
        }
        Ok(())
    }

    fn write_removed<W: Write>(&self, writer: &mut Writer<W>) -> Result<(), BackupError> {
        let ids = self.meta.removed.iter();
        let mut ids: Vec<String> = ids.map(|id| format!("{id:x}")).collect();
        ids.sort();
        for id in ids {
            writer.put(id.as_bytes(), Value::of(REMOVED_MARK, writer))?;
        }
        Ok(())
    }

    fn write_meta<W: Write>(
        &self,
        membership: &Membership,
        writer: &mut Writer<W>,
    ) -> Result<(), BackupError> {
        let (voters, learners) = membership
            .members
            .iter()
            .map(|node| node.id)
            .partition(|id| is_voter(membership, *id));
        let conf_state = ConfState {
            voters,
            learners,
            auto_leave: false,
        };
        let conf_state = serde_json::to_vec(&conf_state).expect("numbers are JSON");
        let LogId { term, index } = self.applied().unwrap_or_default();
        let compaction = |revision: i64| {
            let key = (revision >= 0).then(|| RevisionKey::new(revision, 0, false));
            key.map(|key| Bytes::copy_from_slice(key.bytes()))
        };
        let rows = [
            (CONF_STATE, Some(Bytes::from(conf_state))),
            (
                CONSISTENT_INDEX,
                Some(Bytes::copy_from_slice(&index.to_be_bytes())),
            ),
            (COMPACT_FINISHED, compaction(self.meta.compact_finished)),
            (COMPACT_SCHEDULED, compaction(self.meta.compact_scheduled)),
            (TERM, Some(Bytes::copy_from_slice(&term.to_be_bytes()))),
        ];
        for (name, value) in rows {
            if let Some(value) = value {
                writer.put(name, Value::of(&value, writer))?;
            }
        }
        Ok(())
    }
}

impl<'a> Value<'a> {
    /// `bytes`, or only their length if nothing else matters.
    fn of<W: Write>(bytes: &'a [u8], writer: &Writer<W>) -> Value<'a> {
        if writer.is_measuring() {
            Value::Length(bytes.len())
        } else {
            Value::Bytes(bytes)
        }
    }
}

fn failed(error: DiskError) -> BackupError {
    CheckpointError::from(error).into()
}

fn is_voter(membership: &Membership, id: u64) -> bool {
    membership.voters.iter().any(|set| set.ids.contains(&id))
}

/// Length of a record once its value of `value_len` bytes is back in it.
fn joined_len(record: &[u8], value_len: u64) -> usize {
    let without = KeyValue::decode(record).map_or(record.len(), |kv| kv.encoded_len());
    let value_len = usize::try_from(value_len).unwrap_or(usize::MAX);
    without + TAG_BYTES + prost::length_delimiter_len(value_len) + value_len
}
