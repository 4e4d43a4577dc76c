//! Looking at a store's file finds what a start finds, and leaves the file as it was.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use althing_api::commandpb::{Command, command};
use althing_api::etcdserverpb::PutRequest;
use redb::StorageBackend;

use super::*;
use crate::apply::apply;
use crate::entry::LogId;

const SETTINGS: StoreSettings = StoreSettings {
    record_cache_bytes: 0,
    page_cache_bytes: 1 << 20,
    pending_bytes_max: 1 << 20,
};

fn filled(path: &Path, keys: u64) {
    let store = Store::open(path, SETTINGS).unwrap();
    for index in 1..=keys {
        let request = PutRequest {
            key: index.to_be_bytes().to_vec().into(),
            value: vec![7; 100].into(),
            ..PutRequest::default()
        };
        let mut txn = store.begin();
        let request = Some(command::Request::Put(request));
        apply(&mut txn, Command { request }).unwrap();
        txn.commit(LogId { term: 1, index });
    }
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
}

#[test]
fn what_is_looked_at_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    assert!(Store::look(&path).unwrap().is_none());
    assert!(!path.exists());
    filled(&path, 500);
    let before = std::fs::read(&path).unwrap();
    let store = Store::look(&path).unwrap().unwrap();
    assert_eq!(store.key_count(), 500);
    assert_eq!(store.durable().unwrap().index, 500);
    drop(store);
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn damage_is_found_as_a_start_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    std::fs::write(&path, vec![3; 10_000]).unwrap();
    let looked = Store::look(&path).unwrap_err().to_string();
    assert_eq!(
        looked,
        Store::open(&path, SETTINGS).unwrap_err().to_string()
    );
}

#[test]
fn what_is_written_over_a_file_is_read_back_and_not_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let original: Vec<u8> = (0..20_000).map(|number| (number % 251) as u8).collect();
    std::fs::write(&path, &original).unwrap();
    let overlay = Overlay::over(&path).unwrap();
    let mut expected = original.clone();
    let read = |overlay: &Overlay| {
        let mut bytes = vec![1; overlay.len().unwrap() as usize];
        overlay.read(0, &mut bytes).unwrap();
        bytes
    };
    for (offset, bytes) in [(4_090, 20), (0, 1), (8_192, 4_096), (19_999, 1)] {
        overlay.write(offset as u64, &vec![9; bytes]).unwrap();
        expected[offset..offset + bytes].fill(9);
        assert!(read(&overlay) == expected);
    }
    for len in [4_100, 30_000, 5_000, 0, 9_000] {
        overlay.set_len(len as u64).unwrap();
        expected.resize(len, 0);
        assert!(read(&overlay) == expected, "{len}");
    }
    assert!(overlay.write(8_999, &[1, 2]).is_err());
    assert!(overlay.read(8_999, &mut [0, 0]).is_err());
    assert!(std::fs::read(&path).unwrap() == original);
}
