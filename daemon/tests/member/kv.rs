//! Put, DeleteRange and Compact.

use althing_api::error::Error;
use althing_api::etcdserverpb::*;

use super::world::{assert_refused, between, delete, get, put, shown, with_member};

#[test]
fn the_first_put_makes_revision_two_and_its_header_names_cluster_member_and_term() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        let before = kv.range(get("a")).await.unwrap().into_inner();
        assert_eq!(before.header.unwrap().revision, 1);
        let answer = kv.put(put("a", "1")).await.unwrap().into_inner();
        let header = answer.header.unwrap();
        let status = member.running().handles().status();
        assert_eq!(header.cluster_id, status.cluster_id.0);
        assert_eq!(header.member_id, 0x8e9e_05c5_2164_694d);
        assert_eq!((header.revision, header.raft_term), (2, status.term));
        assert!(header.raft_term > 0);
        let found = kv.range(get("a")).await.unwrap().into_inner();
        let one = &found.kvs[0];
        assert_eq!(
            (one.create_revision, one.mod_revision, one.version),
            (2, 2, 1)
        );
        assert_eq!(
            (shown(&found.kvs), found.count, found.more),
            ("a=1".into(), 1, false)
        );
    });
}

#[test]
fn a_put_may_keep_the_value_and_give_back_the_former_one() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        let keep = PutRequest {
            ignore_value: true,
            prev_kv: true,
            ..put("a", "")
        };
        assert_refused(kv.put(keep.clone()).await, Error::KeyNotFound);
        kv.put(put("a", "1")).await.unwrap();
        let kept = kv.put(keep).await.unwrap().into_inner();
        assert_eq!(shown(&[kept.prev_kv.unwrap()]), "a=1");
        let found = kv.range(get("a")).await.unwrap().into_inner();
        assert_eq!((shown(&found.kvs), found.kvs[0].version), ("a=1".into(), 2));
    });
}

#[test]
fn a_put_is_refused_for_what_is_wrong_with_it_and_changes_nothing() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        assert_refused(kv.put(put("", "1")).await, Error::EmptyKey);
        let leased = PutRequest {
            lease: 7,
            ..put("a", "1")
        };
        assert_refused(kv.put(leased.clone()).await, Error::LeaseNotFound);
        let both = PutRequest {
            ignore_lease: true,
            ..leased
        };
        assert_refused(kv.put(both).await, Error::LeaseProvided);
        let large = put("a", &"v".repeat(1_572_864));
        assert_refused(kv.put(large).await, Error::RequestTooLarge);
        let found = kv.range(get("a")).await.unwrap().into_inner();
        assert_eq!((found.count, found.header.unwrap().revision), (0, 1));
    });
}

#[test]
fn a_deletion_tells_how_many_keys_it_took_and_none_makes_no_revision() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        for key in ["a", "b", "c"] {
            kv.put(put(key, key)).await.unwrap();
        }
        let request = DeleteRangeRequest {
            prev_kv: true,
            ..delete("a", "c")
        };
        let first = kv.delete_range(request.clone()).await.unwrap().into_inner();
        assert_eq!(
            (first.deleted, shown(&first.prev_kvs)),
            (2, "a=a b=b".into())
        );
        assert_eq!(first.header.unwrap().revision, 5);
        let second = kv.delete_range(request).await.unwrap().into_inner();
        assert_eq!((second.deleted, second.header.unwrap().revision), (0, 5));
        assert_refused(kv.delete_range(delete("", "c")).await, Error::EmptyKey);
        let left = kv.range(between("a", "\0")).await.unwrap().into_inner();
        assert_eq!(shown(&left.kvs), "c=c");
    });
}

#[test]
fn what_was_compacted_cannot_be_read_and_the_compacted_revision_can() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        for value in ["1", "2", "3"] {
            kv.put(put("a", value)).await.unwrap();
        }
        let compact = |revision, physical| CompactionRequest { revision, physical };
        assert_refused(kv.compact(compact(5, false)).await, Error::FutureRevision);
        let done = kv.compact(compact(3, true)).await.unwrap().into_inner();
        assert_eq!(done.header.unwrap().revision, 4);
        assert_refused(kv.compact(compact(3, true)).await, Error::Compacted);
        let at = |revision| RangeRequest {
            revision,
            ..get("a")
        };
        assert_refused(kv.range(at(2)).await, Error::Compacted);
        assert_refused(kv.range(at(5)).await, Error::FutureRevision);
        let kept = kv.range(at(3)).await.unwrap().into_inner();
        assert_eq!(shown(&kept.kvs), "a=2");
        assert_eq!(kept.header.unwrap().revision, 4);
    });
}
