//! Reading a snapshot into a new store file, and making it a store that is ready to take over.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};

use bytes::Bytes;
use prost::Message;

use super::{
    Alarm, FORMAT, FRAME_BYTES, Hashed, KIND_END, KIND_LEASES, KIND_META, KIND_ROWS, Lease, MAGIC,
    Meta, SHA256_BYTES, SnapshotError, SnapshotMark,
};
use crate::store::{
    AlarmChanges, CarriedRow, CheckpointError, DiskError, FileBuilder, LeaseRecord, LoadedRow,
    Loading, Replacement, Rev, SideChanges, StoreSettings, Unsound,
};

/// Frames that may wait between two threads.
const FRAMES_MAX: usize = 2;
/// Memory that a frame gets before its bytes come. A larger frame grows with them, so a damaged
/// length cannot claim more.
const FRAME_ROOM_BYTES: usize = 2 * FRAME_BYTES;
const UNSOUND: SnapshotError = SnapshotError::Damaged("a row fails its check");

/// Where a snapshot goes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The snapshot's file; replaced if it exists.
    pub arrived: &'a Path,
    /// The store's file, whose place it will take.
    pub place: &'a Path,
    /// The settings of the future store.
    pub settings: &'a StoreSettings,
    /// The cluster that the snapshot must belong to.
    pub cluster_id: u64,
}

/// Reads a snapshot from `stream` into a file, and makes it a state that can take the place of the
/// store's. Blocks until the file is durable. Errors, which leave no file behind: those of the
/// stream or the disk; a stream that is damaged, of another version, or of another cluster.
pub fn import(
    stream: &mut impl BufRead,
    arrival: &Arrival<'_>,
) -> Result<(SnapshotMark, Replacement), SnapshotError> {
    let Arrival {
        arrived,
        place,
        settings,
        cluster_id,
    } = *arrival;
    let mut stream = Hashed::new(stream);
    let meta = read_head(&mut stream, cluster_id)?;
    let mut builder = FileBuilder::create(arrived).map_err(failed)?;
    let Poured {
        tail,
        loading,
        leases,
    } = pour(&mut stream, &mut builder, settings)?;
    let applied = meta.applied();
    let side = SideChanges {
        membership: applied.membership.clone(),
        compact: meta.compacted,
        members: meta.members(),
        removed: meta.removed.clone(),
        cluster_version: meta.cluster_version.clone(),
        downgrade: meta.downgrade_target.clone(),
        alarms: alarms(&meta),
        leases: leases.iter().map(|one| (one.id, Some(*one))).collect(),
    };
    let finished = builder.finish(applied.log_id, meta.revision, side);
    finished.map_err(failed)?;
    let mark = SnapshotMark {
        applied,
        revision: meta.revision,
        records: tail.records,
        sha256: tail.sha256,
    };
    let replacement = Replacement::open(arrived, place, loading, settings);
    Ok((mark, replacement.map_err(failed)?))
}

fn failed(error: DiskError) -> SnapshotError {
    CheckpointError::from(error).into()
}

fn alarms(meta: &Meta) -> AlarmChanges {
    let one = |alarm: &Alarm| ((alarm.alarm(), alarm.member_id), Some(alarm.clears_itself));
    meta.alarms.iter().map(one).collect()
}

fn read_head(stream: &mut Hashed<impl BufRead>, cluster_id: u64) -> Result<Meta, SnapshotError> {
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
    if meta.format != FORMAT {
        return Err(SnapshotError::OtherFormat { found: meta.format });
    }
    if meta.cluster_id != cluster_id {
        let (found, expected) = (meta.cluster_id, cluster_id);
        return Err(SnapshotError::OtherCluster { found, expected });
    }
    Ok(meta)
}

/// What the three threads made of a stream.
struct Poured {
    tail: Tail,
    loading: Loading,
    leases: Vec<LeaseRecord>,
}

/// What the end of a stream says, once checked.
struct Tail {
    records: u64,
    sha256: [u8; SHA256_BYTES],
}

/// Reads what follows the head, up to the end of the stream.
fn pour(
    stream: &mut Hashed<impl BufRead>,
    builder: &mut FileBuilder,
    settings: &StoreSettings,
) -> Result<Poured, SnapshotError> {
    scope(|threads| {
        let (to_file, for_file) = sync_channel(FRAMES_MAX);
        let (to_memory, for_memory) = sync_channel(FRAMES_MAX);
        let file = start(threads, "snap-file", move || write(builder, &for_file))?;
        let loading = Loading::new(settings);
        let memory = start(threads, "snap-memory", move || load(loading, &for_memory))?;
        let mut leases = Vec::new();
        let read = read_frames(stream, &mut leases, &[to_file, to_memory]);
        // If writing stopped early, it knows why reading did.
        let written = join(file)?;
        let (loading, records) = join(memory)?;
        let tail = read?;
        if (written, records) != (tail.records, tail.records) {
            return Err(SnapshotError::Damaged("records are missing"));
        }
        Ok(Poured {
            tail,
            loading,
            leases,
        })
    })
}

fn start<'scope, T: Send + 'scope>(
    threads: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().name(name.into()).spawn_scoped(threads, work)
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    let ended = thread.join();
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Hands the rows to all `takers`, as long as they take them, and checks the stream's hash.
fn read_frames(
    stream: &mut Hashed<impl BufRead>,
    leases: &mut Vec<LeaseRecord>,
    takers: &[SyncSender<Bytes>],
) -> Result<Tail, SnapshotError> {
    let records = loop {
        let (kind, content) = frame(stream)?;
        match kind {
            KIND_END => {
                let records = content[..].try_into().map(u64::from_le_bytes);
                break records.map_err(|_| SnapshotError::Damaged("its end cannot be read"))?;
            }
            KIND_LEASES => read_leases(content, leases)?,
            KIND_ROWS => {
                for taker in takers {
                    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
                    taker.send(content.clone()).map_err(|_| gone())?;
                }
            }
            _ => return Err(SnapshotError::Damaged("a frame is of an unknown kind")),
        }
    };
    let sha256 = stream.digest();
    let mut expected = [0; SHA256_BYTES];
    read_exact(stream, &mut expected)?;
    if sha256 != expected {
        return Err(SnapshotError::Damaged("its hash does not fit"));
    }
    Ok(Tail { records, sha256 })
}

/// Writes checked rows; returns how many.
fn write(builder: &mut FileBuilder, frames: &Receiver<Bytes>) -> Result<u64, SnapshotError> {
    let mut counted = Ok(Counted::default());
    let next = || {
        let frame = frames.recv().ok()?;
        counted = counted.and_then(|counted| counted.check(&frame));
        counted.is_ok().then_some(frame)
    };
    builder.append_carried(next).map_err(failed)?;
    counted.map(|counted| counted.rows).map_err(|_| UNSOUND)
}

/// The rows checked so far.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    rows: u64,
    last: Option<Rev>,
}

impl Counted {
    /// Adds the rows of a frame, which must be sound and come in the order of revisions.
    fn check(mut self, frame: &[u8]) -> Result<Counted, Unsound> {
        let mut rows = frame;
        while let Some(row) = CarriedRow::take(&mut rows)? {
            row.check()?;
            if self.last.is_some_and(|last| last >= row.rev) {
                return Err(Unsound);
            }
            self.last = Some(row.rev);
            self.rows += 1;
        }
        Ok(self)
    }
}

/// Builds the in-memory state from rows; returns how many. Their checks are verified where they are
/// written.
fn load(mut loading: Loading, frames: &Receiver<Bytes>) -> Result<(Loading, u64), SnapshotError> {
    let mut records = 0;
    while let Ok(frame) = frames.recv() {
        let mut rows = &frame[..];
        while let Some(row) = CarriedRow::take(&mut rows).map_err(|_| UNSOUND)? {
            let row = LoadedRow::of(&row).ok_or(UNSOUND)?;
            loading.add(row).map_err(|_| UNSOUND)?;
            records += 1;
        }
    }
    Ok((loading, records))
}

fn read_leases(mut content: Bytes, leases: &mut Vec<LeaseRecord>) -> Result<(), SnapshotError> {
    while !content.is_empty() {
        let lease = Lease::decode_length_delimited(&mut content);
        let lease = lease.map_err(|_| SnapshotError::Damaged("a lease cannot be read"))?;
        leases.push(lease.into());
    }
    Ok(())
}

/// Reads one frame: its kind and its content.
fn frame(stream: &mut Hashed<impl BufRead>) -> Result<(u8, Bytes), SnapshotError> {
    let mut head = [0; 8];
    read_exact(stream, &mut head)?;
    let [l0, l1, l2, l3, crc @ ..] = head;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let mut content = Vec::with_capacity(len.min(FRAME_ROOM_BYTES));
    stream.take_to(len, &mut content)?;
    if content.len() != len {
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
