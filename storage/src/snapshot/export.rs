//! Writing a snapshot.

use std::fmt;
use std::io::Write;

use althing_api::commandpb::PublishMember;
use prost::Message;

use super::{
    Alarm, FORMAT, FRAME_BYTES, Hashed, KIND_END, KIND_LEASES, KIND_META, KIND_ROWS, Lease, MAGIC,
    Meta, SnapshotError, SnapshotMark,
};
use crate::store::{
    AlarmRecord, AppliedMark, CheckpointError, DiskMeta, DiskView, LeaseRecord, MemberRecord, Store,
};

const TOO_LARGE: SnapshotError = SnapshotError::Damaged("a record is larger than 4 GiB");
/// A lease takes about 30 bytes.
const LEASES_PER_FRAME: usize = FRAME_BYTES / 32;

/// The state that a snapshot will hold: what the store's file durably held when it was opened.
/// Holding it keeps that state readable, whatever is written meanwhile.
pub struct Source {
    view: DiskView,
    meta: Meta,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.meta.fmt(f)
    }
}

impl Source {
    /// Opens what `store` durably holds. Checkpoint first: what is only pending is not in it.
    /// Errors: the store's file cannot be read; `NoSpace` while a full disk keeps it closed.
    pub fn open(store: &Store, cluster_id: u64) -> Result<Source, SnapshotError> {
        let (view, meta) = store.disk_view()?;
        let meta = meta_of(meta, cluster_id);
        Ok(Source { view, meta })
    }

    /// The log position and membership of exactly this state.
    pub fn applied(&self) -> AppliedMark {
        self.meta.applied()
    }

    /// Streams the state to `sink` and flushes it. Blocks. Errors: those of the sink, and of the
    /// store if its file cannot be read.
    pub fn export(&self, sink: &mut impl Write) -> Result<SnapshotMark, SnapshotError> {
        let Source { view, meta } = self;
        stream(view, meta, sink)
    }
}

fn stream(
    view: &DiskView,
    meta: &Meta,
    sink: &mut impl Write,
) -> Result<SnapshotMark, SnapshotError> {
    let failed = |error| SnapshotError::Store(CheckpointError::from(error));
    let mut sink = Hashed::new(sink);
    sink.write_all(MAGIC)?;
    frame(&mut sink, KIND_META, &meta.encode_to_vec())?;
    export_leases(&view.leases().map_err(failed)?, &mut sink)?;
    let records = export_rows(view, &mut sink)?;
    frame(&mut sink, KIND_END, &records.to_le_bytes())?;
    let sha256 = sink.digest();
    sink.write_all(&sha256)?;
    sink.flush()?;
    Ok(SnapshotMark {
        applied: meta.applied(),
        revision: meta.revision,
        records,
        sha256,
    })
}

/// Writes all rows; returns how many they are.
fn export_rows(view: &DiskView, sink: &mut impl Write) -> Result<u64, SnapshotError> {
    let failed = |error| SnapshotError::Store(CheckpointError::from(error));
    let mut records = 0u64;
    let mut rows = Vec::with_capacity(FRAME_BYTES);
    for row in view.raw_rows(None).map_err(failed)? {
        let row = row.map_err(failed)?;
        row.carry(&mut rows).ok_or(TOO_LARGE)?;
        records += 1;
        if rows.len() >= FRAME_BYTES {
            frame(sink, KIND_ROWS, &rows)?;
            rows.clear();
        }
    }
    if !rows.is_empty() {
        frame(sink, KIND_ROWS, &rows)?;
    }
    Ok(records)
}

fn export_leases(leases: &[LeaseRecord], sink: &mut impl Write) -> Result<(), SnapshotError> {
    for leases in leases.chunks(LEASES_PER_FRAME) {
        let mut content = Vec::with_capacity(FRAME_BYTES);
        for lease in leases {
            Lease::from(*lease)
                .encode_length_delimited(&mut content)
                .expect("a vector grows");
        }
        frame(sink, KIND_LEASES, &content)?;
    }
    Ok(())
}

fn frame(sink: &mut impl Write, kind: u8, content: &[u8]) -> Result<(), SnapshotError> {
    let len = u32::try_from(content.len() + 1).map_err(|_| TOO_LARGE)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), content);
    sink.write_all(&len.to_le_bytes())?;
    sink.write_all(&crc.to_le_bytes())?;
    sink.write_all(&[kind])?;
    sink.write_all(content)?;
    Ok(())
}

fn meta_of(meta: DiskMeta, cluster_id: u64) -> Meta {
    let (membership_id, membership) = meta.applied.membership.unzip();
    Meta {
        format: FORMAT,
        cluster_id,
        applied: meta.applied.log_id.map(Into::into),
        membership_id: membership_id.map(Into::into),
        membership: membership.unwrap_or_default(),
        revision: meta.revision,
        compacted: (meta.compact_scheduled >= 0).then_some(meta.compact_scheduled),
        cluster_version: meta.cluster_version,
        downgrade_target: meta.downgrade_target,
        alarms: meta.alarms.into_iter().map(alarm_out).collect(),
        members: meta.members.into_iter().map(published).collect(),
        removed: meta.removed.into_iter().collect(),
    }
}

fn alarm_out(record: AlarmRecord) -> Alarm {
    Alarm {
        alarm: record.alarm as i32,
        member_id: record.member_id,
        clears_itself: record.clears_itself,
    }
}

fn published(member: MemberRecord) -> PublishMember {
    PublishMember {
        member_id: member.id,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
    }
}
