//! What a snapshot sends out comes in, and nothing else does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_support;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use althing_storage::apply::apply;
use althing_storage::entry::LogId;
use althing_storage::snapshot::{Arrival, SnapshotError, SnapshotMark, Source, import};
use althing_storage::store::{Medium, Replacement, Store};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::StorageBackend;

use store_support::sim_disk::SimDisk;
use store_support::{Model, TINY, gen_command};

const CLUSTER: u64 = 0xc1;

/// Takes `stream` in at `arrived`, as what will be the store at `place`.
fn taken_in(
    mut stream: &[u8],
    arrived: &Path,
    place: &Path,
) -> Result<(SnapshotMark, Replacement), SnapshotError> {
    let settings = &TINY;
    let arrival = Arrival {
        arrived,
        place,
        settings,
        cluster_id: CLUSTER,
    };
    import(&mut stream, &arrival)
}

fn filled(dir: &tempfile::TempDir, entries: u64) -> (Store, Vec<u8>) {
    let store = Store::open(&dir.path().join("store.redb"), TINY).unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    let mut model = Model::default();
    for index in 0..entries {
        let command = gen_command::command(&mut rng, model.current());
        let mut txn = store.begin();
        let _ = apply(&mut txn, command.clone());
        txn.commit(LogId { term: 1, index });
        let _ = model.apply(&command);
    }
    let id = LogId {
        term: 2,
        index: entries,
    };
    store.apply_membership(id, Bytes::from_static(b"voters"), vec![77]);
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    let mut stream = Vec::new();
    let mark = Source::open(&store, CLUSTER)
        .unwrap()
        .export(&mut stream)
        .unwrap();
    assert_eq!(mark.applied, store.durable_mark());
    (store, stream)
}

#[test]
fn an_imported_snapshot_is_the_same_store() {
    let dir = tempfile::tempdir().unwrap();
    let (store, stream) = filled(&dir, 300);
    let (arrived, place) = (
        dir.path().join("arrived.redb"),
        dir.path().join("place.redb"),
    );
    std::fs::write(&arrived, b"replaced").unwrap();
    let received = Store::open(&place, TINY).unwrap();
    let (mark, replacement) = taken_in(&stream, &arrived, &place).unwrap();
    drop(received.replace(replacement).unwrap());
    assert_eq!(mark.applied, store.applied());
    let is_the_same = |received: &Store| {
        assert_eq!(received.applied(), store.applied());
        assert_eq!(received.revisions(), store.revisions());
        assert_eq!(received.key_count(), store.key_count());
        assert_eq!(received.used_bytes(), store.used_bytes());
        assert_eq!(received.hash().unwrap(), store.hash().unwrap());
        assert_eq!(received.hash_kv(0), store.hash_kv(0));
        assert!(received.is_removed(77) && !received.is_removed(78));
        assert!(!store.leases().is_empty(), "the snapshot has some");
        assert_eq!(received.leases(), store.leases());
        for lease in store.leases() {
            assert_eq!(received.lease_keys(lease.id), store.lease_keys(lease.id));
        }
    };
    is_the_same(&received);
    drop(received);
    // What was built beside the file is what a start reads from it.
    is_the_same(&Store::open(&place, TINY).unwrap());
    let names = std::fs::read_dir(dir.path()).unwrap();
    assert_eq!(names.count(), 2, "no unfinished file is left");
}

#[test]
fn what_is_only_pending_is_not_in_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (store, stream) = filled(&dir, 5);
    store.apply_blank(LogId { term: 3, index: 6 });
    let mut again = Vec::new();
    let mark = Source::open(&store, CLUSTER)
        .unwrap()
        .export(&mut again)
        .unwrap();
    assert_eq!(again, stream);
    assert_eq!(mark.applied.log_id.unwrap().index, 5);
}

#[test]
fn a_changed_or_cut_stream_is_refused_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, stream) = filled(&dir, 40);
    let arriving = dir.path().join("snap");
    std::fs::create_dir(&arriving).unwrap();
    let (arrived, place) = (arriving.join("arrived.redb"), dir.path().join("place.redb"));
    let mut rng = StdRng::seed_from_u64(8);
    for case in 0..80 {
        let mut damaged = stream.clone();
        if case % 2 == 0 {
            damaged.truncate(rng.random_range(0..stream.len()));
        } else {
            let position = rng.random_range(0..stream.len());
            damaged[position] ^= 1 << rng.random_range(0..8);
        }
        taken_in(&damaged, &arrived, &place).unwrap_err();
        assert_eq!(std::fs::read_dir(&arriving).unwrap().count(), 0);
    }
}

/// Replaces the content of the first frame of rows, and corrects all checks of the stream.
fn with_rows(stream: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    const KIND_ROWS: u8 = 5;
    let (mut at, mut changed) = (8, stream[..8].to_vec());
    let mut change = Some(change);
    while at < stream.len() - 32 {
        let len = u32::from_le_bytes(stream[at..at + 4].try_into().unwrap()) as usize;
        let mut content = stream[at + 8..at + 8 + len].to_vec();
        at += 8 + len;
        if content[0] == KIND_ROWS
            && let Some(change) = change.take()
        {
            change(&mut content);
        }
        changed.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        changed.extend(crc32c::crc32c(&content).to_le_bytes());
        changed.extend(content);
    }
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&changed);
    changed.extend(digest);
    changed
}

#[test]
fn rows_that_a_sender_changed_or_sends_again_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, stream) = filled(&dir, 40);
    let (arrived, place) = (
        dir.path().join("arrived.redb"),
        dir.path().join("place.redb"),
    );
    let same = with_rows(&stream, |_| {});
    assert_eq!(same, stream);
    let flipped = with_rows(&stream, |rows| *rows.last_mut().unwrap() ^= 1);
    let twice = with_rows(&stream, |rows| rows.extend_from_within(1..));
    let missing = with_rows(&stream, |rows| rows.truncate(1));
    let cut = with_rows(&stream, |rows| rows.truncate(rows.len() - 1));
    for (damaged, case) in [
        (flipped, "flipped"),
        (twice, "twice"),
        (missing, "missing"),
        (cut, "cut"),
    ] {
        let refused = taken_in(&damaged, &arrived, &place);
        assert!(
            matches!(refused, Err(SnapshotError::Damaged(_))),
            "{case}: {refused:?}"
        );
        assert!(!arrived.exists());
    }
}

#[test]
fn a_snapshot_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, stream) = filled(&dir, 3);
    let settings = &TINY;
    let (arrived, place) = (
        &dir.path().join("arrived.redb"),
        &dir.path().join("place.redb"),
    );
    let arrival = Arrival {
        arrived,
        place,
        settings,
        cluster_id: 0xc2,
    };
    let error = import(&mut stream.as_slice(), &arrival).unwrap_err();
    assert!(matches!(
        error,
        SnapshotError::OtherCluster { found: CLUSTER, .. }
    ));
    assert!(!arrived.exists());
}

#[test]
fn a_failing_sink_fails_the_export() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = filled(&dir, 3);
    assert!(matches!(
        Source::open(&store, CLUSTER).unwrap().export(&mut Full),
        Err(SnapshotError::Io(_))
    ));
}

#[test]
fn a_received_state_takes_the_place_of_the_one_in_use() {
    let from = tempfile::tempdir().unwrap();
    let (theirs, bytes) = filled(&from, 300);
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("store.redb");
    let ours = Store::open(&place, TINY).unwrap();
    ours.apply_blank(LogId { term: 1, index: 0 });
    let (clone, old_view) = (ours.clone(), ours.read());

    let arrived = dir.path().join("arrived.redb");
    let (_, replacement) = taken_in(&bytes, &arrived, &place).unwrap();
    assert_eq!(replacement.applied(), theirs.durable_mark());
    drop(ours.replace(replacement).unwrap());

    assert!(!arrived.exists(), "it was moved");
    assert_eq!(clone.revisions(), theirs.revisions());
    assert_eq!(clone.hash_kv(0).unwrap(), theirs.hash_kv(0).unwrap());
    assert_eq!(
        old_view.revision(),
        1,
        "a view keeps the state it was opened on"
    );
    // The new file is the one that is written from now on, and that a start finds.
    let next = LogId {
        term: 3,
        index: 1_000,
    };
    clone.apply_blank(next);
    clone.checkpoint(LogId::MAX, 1_000).unwrap();
    drop((ours, clone, old_view));
    let again = Store::open(&place, TINY).unwrap();
    assert_eq!(again.durable(), Some(next));
    assert_eq!(again.revisions(), theirs.revisions());
}

/// A disk that checks, when its file is closed, whether the store can be read meanwhile.
#[derive(Clone, Debug, Default)]
struct Witness {
    disk: SimDisk,
    store: Arc<OnceLock<Store>>,
    was_read: Arc<AtomicBool>,
}

impl Medium for Witness {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.clone()))
    }

    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.disk.allocated_bytes()
    }
}

impl StorageBackend for Witness {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        let Some(store) = self.store.get().cloned() else {
            return Ok(());
        };
        let (tell, told) = channel();
        std::thread::spawn(move || tell.send(store.revisions()));
        let read = told.recv_timeout(Duration::from_secs(20));
        self.was_read.store(read.is_ok(), Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn the_store_is_read_while_the_state_that_was_replaced_is_let_go() {
    let from = tempfile::tempdir().unwrap();
    let (_theirs, bytes) = filled(&from, 30);
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("store.redb");
    let witness = Witness::default();
    let ours = Store::open_on(Arc::new(witness.clone()), TINY).unwrap();
    witness.store.set(ours.clone()).unwrap();
    let arrived = dir.path().join("arrived.redb");
    let (_, replacement) = taken_in(&bytes, &arrived, &place).unwrap();
    let former = ours.replace(replacement).unwrap();
    drop(former);
    assert!(witness.was_read.load(Ordering::SeqCst));
}

#[test]
fn a_replacement_that_is_not_used_leaves_no_file() {
    let from = tempfile::tempdir().unwrap();
    let (_theirs, bytes) = filled(&from, 10);
    let dir = tempfile::tempdir().unwrap();
    let arrived = dir.path().join("arrived.redb");
    let place = dir.path().join("store.redb");
    drop(taken_in(&bytes, &arrived, &place).unwrap());
    assert!(!arrived.exists() && !place.exists());
    let (_, replacement) = taken_in(&bytes, &arrived, &place).unwrap();
    let left = replacement.give_up();
    assert!(!arrived.exists() && !place.exists());
    drop(left);
}

#[test]
fn a_source_is_the_state_it_was_opened_on_whatever_is_written_meanwhile() {
    let from = tempfile::tempdir().unwrap();
    let (store, _) = filled(&from, 50);
    let source = Source::open(&store, CLUSTER).unwrap();
    let before = store.durable_mark();
    store.apply_blank(LogId {
        term: 9,
        index: 900,
    });
    store.checkpoint(LogId::MAX, 1_000).unwrap();
    let mut bytes = Vec::new();
    let mark = source.export(&mut bytes).unwrap();
    assert_eq!((&mark.applied, &source.applied()), (&before, &before));
}
