//! Reading a snapshot into a new store file.

use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::{
    FORMAT, Hashed, KIND_END, KIND_LEASES, KIND_META, KIND_RECORDS, Lease, MAGIC, Meta, Record,
    SHA256_BYTES, SnapshotError, SnapshotMark,
};
use crate::store::{CheckpointError, FileBuilder, LeaseRecord, SideChanges};

/// Reads a snapshot of `cluster_id` from `stream` and makes it the store file `dest`, replacing
/// what is there. Blocks until the file is durable. Errors leave `dest` as it was: the stream's or
/// the disk's, a stream that is damaged, newer, or of another cluster.
pub fn import(
    stream: &mut impl Read,
    dest: &Path,
    cluster_id: u64,
) -> Result<SnapshotMark, SnapshotError> {
    let mut stream = Hashed::new(stream);
    let meta = read_head(&mut stream, cluster_id)?;
    let mut builder = FileBuilder::create(dest).map_err(CheckpointError::from)?;
    let body = read_body(&mut stream, &mut builder);
    let (records, sha256) = match body {
        Ok(body) => body,
        Err(error) => {
            builder.abandon();
            return Err(error);
        }
    };
    let applied = meta.applied();
    let side = SideChanges {
        membership: applied.membership.clone(),
        compact: meta.compacted,
        members: meta.members(),
        removed: meta.removed.clone(),
        cluster_version: meta.cluster_version.clone(),
        ..SideChanges::default()
    };
    builder
        .finish(applied.log_id, meta.revision, side)
        .map_err(CheckpointError::from)?;
    Ok(SnapshotMark {
        applied,
        revision: meta.revision,
        records,
        sha256,
    })
}

fn read_head(stream: &mut impl Read, cluster_id: u64) -> Result<Meta, SnapshotError> {
    let mut magic = [0; MAGIC.len()];
    read_exact(stream, &mut magic)?;
    if magic != *MAGIC {
        return Err(SnapshotError::Damaged("it does not start like a snapshot"));
    }
    let (kind, content) = frame(stream)?;
    let meta = Meta::decode(content);
    let meta = meta.map_err(|_| SnapshotError::Damaged("its head cannot be read"))?;
    if kind != KIND_META {
        return Err(SnapshotError::Damaged("its head is missing"));
    }
    if meta.format > FORMAT {
        return Err(SnapshotError::Newer { found: meta.format });
    }
    if meta.cluster_id != cluster_id {
        let (found, expected) = (meta.cluster_id, cluster_id);
        return Err(SnapshotError::OtherCluster { found, expected });
    }
    Ok(meta)
}

/// Copies the records and checks the stream's hash.
fn read_body(
    stream: &mut Hashed<impl Read>,
    builder: &mut FileBuilder,
) -> Result<(u64, [u8; SHA256_BYTES]), SnapshotError> {
    let records = copy_records(stream, builder)?;
    let sha256 = stream.digest();
    let mut expected = [0; SHA256_BYTES];
    read_exact(stream, &mut expected)?;
    if sha256 != expected {
        return Err(SnapshotError::Damaged("its hash does not fit"));
    }
    Ok((records, sha256))
}

/// Copies frames of records up to the end frame; answers how many records there were.
fn copy_records(stream: &mut impl Read, builder: &mut FileBuilder) -> Result<u64, SnapshotError> {
    let mut records = 0u64;
    loop {
        let (kind, mut content) = frame(stream)?;
        if kind == KIND_END {
            if *content != records.to_le_bytes() {
                return Err(SnapshotError::Damaged("records are missing"));
            }
            return Ok(records);
        }
        if kind == KIND_LEASES {
            let leases = leases(content)?;
            builder
                .append_leases(leases)
                .map_err(CheckpointError::from)?;
            continue;
        }
        if kind != KIND_RECORDS {
            return Err(SnapshotError::Damaged("a frame is of an unknown kind"));
        }
        let mut batch = Vec::new();
        while !content.is_empty() {
            let record = Record::decode_length_delimited(&mut content);
            let record = record.map_err(|_| SnapshotError::Damaged("a record cannot be read"))?;
            let Record {
                main,
                sub,
                tombstone,
                key_value,
            } = record;
            if main < 0 {
                return Err(SnapshotError::Damaged("a revision is negative"));
            }
            batch.push((main, sub, tombstone, key_value));
        }
        records += batch.len() as u64;
        builder.append(batch).map_err(CheckpointError::from)?;
    }
}

fn leases(mut content: Bytes) -> Result<Vec<LeaseRecord>, SnapshotError> {
    let mut leases = Vec::new();
    while !content.is_empty() {
        let lease = Lease::decode_length_delimited(&mut content);
        let lease = lease.map_err(|_| SnapshotError::Damaged("a lease cannot be read"))?;
        leases.push(lease.into());
    }
    Ok(leases)
}

/// Reads one frame: its kind and its content.
fn frame(stream: &mut impl Read) -> Result<(u8, Bytes), SnapshotError> {
    let mut head = [0; 8];
    read_exact(stream, &mut head)?;
    let [l0, l1, l2, l3, crc @ ..] = head;
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    let mut content = Vec::new();
    // Grows with what arrives, so a damaged length cannot claim memory.
    stream.take(len.into()).read_to_end(&mut content)?;
    if content.len() != len as usize {
        return Err(SnapshotError::Damaged("it is cut"));
    }
    if crc32c::crc32c(&content) != u32::from_le_bytes(crc) {
        return Err(SnapshotError::Damaged("a frame fails its check"));
    }
    let mut content = Bytes::from(content);
    if content.is_empty() {
        return Err(SnapshotError::Damaged("a frame is empty"));
    }
    let kind = content.split_to(1)[0];
    Ok((kind, content))
}

fn read_exact(stream: &mut impl Read, bytes: &mut [u8]) -> Result<(), SnapshotError> {
    stream
        .read_exact(bytes)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => SnapshotError::Damaged("it is cut"),
            _ => error.into(),
        })
}
