//! Members in the store: what they publish, and that a removed member is never forgotten.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_support;

use althing_api::commandpb::{Command, PublishMember, command};
use althing_storage::apply::apply;
use althing_storage::entry::LogId;
use althing_storage::store::Store;
use bytes::Bytes;

use store_support::TINY;

fn at(index: u64) -> LogId {
    LogId { term: 1, index }
}

fn publish(store: &Store, index: u64, member_id: u64, name: &str) {
    let member = PublishMember {
        member_id,
        name: name.to_owned(),
        ..PublishMember::default()
    };
    let request = Some(command::Request::PublishMember(member));
    let mut txn = store.begin();
    apply(&mut txn, Command { request }).unwrap();
    txn.commit(at(index));
}

fn names(store: &Store) -> Vec<String> {
    let members = store.members().into_iter();
    members.map(|member| member.name).collect()
}

#[test]
fn a_removed_member_stays_removed_whatever_it_publishes_and_whenever_the_store_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Store::open(&path, TINY).unwrap();
    publish(&store, 0, 7, "seven");
    publish(&store, 1, 8, "eight");
    store.apply_membership(at(2), Bytes::from_static(b"without 7"), vec![7]);
    publish(&store, 3, 7, "seven again");
    assert_eq!(names(&store), ["eight"]);
    assert!(store.is_removed(7) && !store.is_removed(8));
    // All of it in one transaction of the file, where the order of entries can no longer be seen.
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    drop(store);

    let store = Store::open(&path, TINY).unwrap();
    assert_eq!(names(&store), ["eight"]);
    assert!(store.is_removed(7) && !store.is_removed(8));
    publish(&store, 4, 7, "still here");
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    drop(store);
    assert_eq!(names(&Store::open(&path, TINY).unwrap()), ["eight"]);
}
