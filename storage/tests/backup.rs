//! A backup gives the store back as it was, or far ahead; a damaged one does not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_support;

use std::path::{Path, PathBuf};

use althing_api::commandpb::command::Request;
use althing_api::commandpb::{Command, SetAlarm};
use althing_api::etcdserverpb::AlarmType;
use althing_storage::apply::apply;
use althing_storage::backup::{
    Backup, BackupError, BackupFile, Check, Founder, Restored, Restoring, restore,
};
use althing_storage::data_dir::{DataDir, Identity};
use althing_storage::entry::LogId;
use althing_storage::store::{CompactStep, Store};
use althing_storage::wal::{Wal, WalSettings};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use store_support::{Model, TINY, gen_command};

/// The page behind two meta pages, the free list, and a page for each of five buckets.
const FIRST_PAGE_OF_KEYS: usize = 8;

fn filled(dir: &Path, seed: u64, entries: u64) -> Store {
    let store = Store::open(&dir.join("store.redb"), TINY).unwrap();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    for index in 0..entries {
        let command = gen_command::command(&mut rng, model.current());
        let mut txn = store.begin();
        let _ = apply(&mut txn, command.clone());
        txn.commit(LogId { term: 1, index });
        let _ = model.apply(&command);
        if rng.random_ratio(1, 50) {
            store.checkpoint(LogId::MAX, usize::MAX).unwrap();
            store.compact_step(3).unwrap();
        }
    }
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    store
}

fn saved(store: &Store, path: &Path) -> BackupFile {
    let backup = Backup::open(store).unwrap();
    let mut bytes = Vec::new();
    backup.stream(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, backup.bytes() + 32);
    std::fs::write(path, bytes).unwrap();
    let file = BackupFile::open(path).unwrap();
    file.verify(Check::Hash).unwrap();
    file
}

fn restoring(data_dir: PathBuf, bump: u64) -> Restoring {
    let founder = |id| Founder {
        id,
        peer_urls: vec![format!("http://h:{id}")],
    };
    Restoring {
        data_dir,
        wal_dir: None,
        identity: Identity {
            cluster_id: 9,
            member_id: 1,
            name: "one".into(),
        },
        founders: vec![founder(2), founder(1)],
        bump,
        without_auth: false,
    }
}

fn brought_back(file: &BackupFile, dir: &Path, bump: u64) -> (Store, DataDir, Restored) {
    let restoring = restoring(dir.join(format!("restored-{bump}")), bump);
    let restored = restore(file, &restoring, &mut |_| {}).unwrap();
    let dir = DataDir::open(&restoring.data_dir).unwrap();
    (Store::open(&dir.store(), TINY).unwrap(), dir, restored)
}

fn compacted(store: &Store) {
    while store.compact_step(100).unwrap() == CompactStep::More {}
}

#[test]
fn a_store_comes_back_with_its_history_leases_and_hash() {
    for seed in 0..12 {
        println!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path(), seed, 400);
        let file = saved(&store, &dir.path().join("backup.db"));
        let (back, _dir, restored) = brought_back(&file, dir.path(), 0);
        assert_eq!(back.revisions(), store.revisions());
        assert_eq!(restored.revision, store.revisions().current);
        assert_eq!(back.hash_kv(0), store.hash_kv(0));
        let told = file.hash_kv(0).unwrap();
        let expected = store.hash_kv(0).unwrap();
        assert_eq!(told.hash, expected.hash);
        assert_eq!(told.compact_revision, expected.compact_revision);
        for lease in store.leases() {
            let mut same = back.lease(lease.id).unwrap();
            same.generation = lease.generation;
            assert_eq!(same, lease);
            assert_eq!(back.lease_keys(lease.id), store.lease_keys(lease.id));
        }
        assert_eq!(back.lease_count(), store.lease_count());
        // What is left to compact is compacted as it would have been.
        compacted(&store);
        compacted(&back);
        assert_eq!(back.hash_kv(0), store.hash_kv(0));
    }
}

#[test]
fn a_bump_moves_the_revision_and_forgets_the_history_and_keeps_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 3, 300);
    let file = saved(&store, &dir.path().join("backup.db"));
    let (back, _dir, restored) = brought_back(&file, dir.path(), 1_000);
    let current = store.revisions().current;
    assert_eq!(restored.revision, current + 1_000);
    assert_eq!(back.revisions().current, current + 1_000);
    assert_eq!(back.revisions().compacted, current + 1_000);
    assert_eq!(back.key_count(), store.key_count());
}

#[test]
fn a_bump_that_leaves_no_revisions_to_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 3, 20);
    let file = saved(&store, &dir.path().join("backup.db"));
    let target = dir.path().join("bumped");
    for bump in [u64::MAX, i64::MAX as u64, i64::MAX as u64 / 2] {
        let refused = restore(&file, &restoring(target.clone(), bump), &mut |_| {});
        assert!(matches!(refused, Err(BackupError::Revision(_))), "{bump}");
        assert!(!target.exists());
    }
}

#[test]
fn a_restored_directory_holds_who_it_is_and_a_log_that_begins_behind_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 4, 50);
    let file = saved(&store, &dir.path().join("backup.db"));
    let (back, dir, _) = brought_back(&file, dir.path(), 0);
    assert_eq!(dir.identity().unwrap().unwrap().cluster_id, 9);
    let (_, recovery) = Wal::open(&dir.wal(), WalSettings::default()).unwrap();
    let genesis = LogId { term: 1, index: 1 };
    assert_eq!(recovery.purged, Some(genesis));
    assert_eq!(recovery.last, Some(genesis));
    assert_eq!(recovery.vote.unwrap().voted_for, None);
    assert_eq!(back.applied().log_id, Some(genesis));
    assert_eq!(back.applied().membership.unwrap().0, genesis);
}

#[test]
fn alarms_come_back_but_those_that_a_member_of_the_old_cluster_would_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 8, 30);
    // The order of these ids' bytes differs from that of their numbers.
    let kept = [(AlarmType::Nospace, 1 << 40), (AlarmType::Corrupt, 300)];
    let gone = [(AlarmType::Nospace, 200)];
    for (alarm, member_id) in [&kept[..], &gone].concat() {
        let request = Request::SetAlarm(SetAlarm {
            member_id,
            alarm: alarm as i32,
            raised: true,
            clears_itself: gone.contains(&(alarm, member_id)),
        });
        let mut txn = store.begin();
        let request = Some(request);
        apply(&mut txn, Command { request }).unwrap();
        let index = store.applied().log_id.unwrap().index + 1;
        txn.commit(LogId { term: 1, index });
    }
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    let file = saved(&store, &dir.path().join("backup.db"));
    let (back, _dir, restored) = brought_back(&file, dir.path(), 0);
    let mut alarms = restored.alarms;
    alarms.sort();
    assert_eq!(back.alarms(), alarms);
    let told = alarms.iter().map(|alarm| (alarm.alarm, alarm.member_id));
    assert_eq!(told.collect::<Vec<_>>(), kept);
    assert!(alarms.iter().all(|alarm| !alarm.clears_itself));
}

#[test]
fn a_backup_is_of_one_moment_whatever_is_written_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 5, 200);
    let backup = Backup::open(&store).unwrap();
    let mut before = Vec::new();
    backup.stream(&mut before).unwrap();
    let mut rng = StdRng::seed_from_u64(6);
    for index in 200..300 {
        let command = gen_command::command(&mut rng, store.revisions().current);
        let mut txn = store.begin();
        let _ = apply(&mut txn, command);
        txn.commit(LogId { term: 1, index });
    }
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    compacted(&store);
    let mut after = Vec::new();
    backup.stream(&mut after).unwrap();
    assert!(before == after);
}

#[test]
fn damage_is_found_and_a_directory_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 7, 60);
    let path = dir.path().join("backup.db");
    let file = saved(&store, &path);
    let used = restoring(dir.path().to_path_buf(), 0);
    let refused = restore(&file, &used, &mut |_| {});
    assert!(matches!(refused, Err(BackupError::NotEmpty { .. })));
    let mut bytes = std::fs::read(&path).unwrap();
    let len = bytes.len();
    bytes.truncate(len - 32);
    std::fs::write(&path, &bytes).unwrap();
    let cut = BackupFile::open(&path).unwrap().verify(Check::Hash);
    assert!(matches!(cut, Err(BackupError::HashMissing)));
    bytes.extend_from_slice(&[0; 32]);
    std::fs::write(&path, &bytes).unwrap();
    let changed = BackupFile::open(&path).unwrap().verify(Check::Hash);
    assert!(matches!(changed, Err(BackupError::Hash { .. })));
    // The first page of the keys is damaged: nothing of what was begun may be left.
    bytes[4096 * FIRST_PAGE_OF_KEYS + 8] = 0xff;
    std::fs::write(&path, &bytes).unwrap();
    let target = dir.path().join("broken");
    let broken = BackupFile::open(&path).unwrap();
    let refused = restore(&broken, &restoring(target.clone(), 0), &mut |_| {});
    assert!(matches!(refused, Err(BackupError::File { .. })));
    assert!(!target.exists());
}

#[test]
fn a_failed_restore_leaves_a_directory_that_was_there_and_nothing_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 9, 60);
    let path = dir.path().join("backup.db");
    drop(saved(&store, &path));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 * FIRST_PAGE_OF_KEYS + 8] = 0xff;
    std::fs::write(&path, &bytes).unwrap();
    let broken = BackupFile::open(&path).unwrap();
    let (target, log) = (dir.path().join("mine"), dir.path().join("log"));
    std::fs::create_dir(&target).unwrap();
    let restoring = Restoring {
        wal_dir: Some(log.clone()),
        ..restoring(target.clone(), 0)
    };
    for _ in 0..2 {
        let refused = restore(&broken, &restoring, &mut |_| {});
        assert!(matches!(refused, Err(BackupError::File { .. })));
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
        assert!(!log.exists());
    }
}
