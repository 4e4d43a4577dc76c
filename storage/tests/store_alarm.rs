//! Alarms and the downgrade in the store: what they refuse, and that they are kept.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use althing_api::commandpb::command::Request;
use althing_api::commandpb::{
    Command, LeaseGrant, LeaseRevoke, PutWithTtl, SetAlarm, SetDowngrade,
};
use althing_api::error::Error;
use althing_api::etcdserverpb::*;
use althing_storage::apply::{Response, apply, refusal};
use althing_storage::entry::LogId;
use althing_storage::snapshot::{Arrival, Source, import};
use althing_storage::store::{AlarmRecord, Store, StoreSettings};

const SETTINGS: StoreSettings = StoreSettings {
    record_cache_bytes: 1 << 20,
    page_cache_bytes: 1 << 20,
    pending_bytes_max: 1 << 20,
};

struct World {
    store: Store,
    index: u64,
}

impl World {
    fn new(dir: &tempfile::TempDir) -> World {
        let store = Store::open(&dir.path().join("store.redb"), SETTINGS).unwrap();
        World { store, index: 0 }
    }

    fn apply(&mut self, request: Request) -> Result<Response, Error> {
        self.index += 1;
        let mut txn = self.store.begin();
        let early = refusal(&self.store, &request);
        let request = Some(request);
        let response = apply(&mut txn, Command { request });
        let index = self.index;
        txn.commit(LogId { term: 1, index });
        if let Some(early) = early {
            assert_eq!(response.as_ref().err(), Some(&early), "both say the same");
        }
        response
    }

    fn alarm(&mut self, alarm: AlarmType, member_id: u64, raised: bool) -> Vec<AlarmMember> {
        let request = SetAlarm {
            member_id,
            alarm: alarm as i32,
            raised,
            clears_itself: member_id == 1,
        };
        match self.apply(Request::SetAlarm(request)).unwrap() {
            Response::Alarm(answer) => answer.alarms,
            other => panic!("{other:?}"),
        }
    }
}

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        ..Default::default()
    }
}

fn txn(op: request_op::Request) -> Request {
    let op = RequestOp { request: Some(op) };
    Request::Txn(TxnRequest {
        failure: vec![op],
        ..Default::default()
    })
}

/// Everything that a client may have written, by name.
fn requests() -> Vec<(&'static str, Request)> {
    let grant = |id| LeaseGrant {
        id,
        ttl: 10,
        generation: 1,
    };
    let with_ttl = PutWithTtl {
        put: Some(put("b")),
        lease: Some(grant(8)),
    };
    let delete = DeleteRangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let compaction = CompactionRequest {
        revision: 2,
        physical: false,
    };
    let revoke = LeaseRevoke {
        id: 9,
        generation: 0,
        counted_in_term: 0,
    };
    let delete_op = request_op::Request::RequestDeleteRange(delete.clone());
    vec![
        ("put", Request::Put(put("a"))),
        ("put with ttl", Request::PutWithTtl(with_ttl)),
        ("grant", Request::LeaseGrant(grant(9))),
        ("txn put", txn(request_op::Request::RequestPut(put("a")))),
        ("txn delete", txn(delete_op)),
        ("delete", Request::DeleteRange(delete)),
        ("compaction", Request::Compaction(compaction)),
        ("revoke", Request::LeaseRevoke(revoke)),
    ]
}

#[test]
fn an_active_alarm_refuses_what_etcd_refuses_and_nothing_once_it_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(&dir);
    let adds = ["put", "put with ttl", "grant", "txn put"];
    world.apply(Request::Put(put("a"))).unwrap();
    world.alarm(AlarmType::Nospace, 7, true);
    for (name, request) in requests() {
        let refused = world.apply(request).err() == Some(Error::NoSpace);
        assert_eq!(refused, adds.contains(&name), "{name}");
    }
    world.alarm(AlarmType::Corrupt, 7, true);
    for (name, request) in requests() {
        let outcome = world.apply(request);
        assert_eq!(outcome.err(), Some(Error::Corrupt), "{name}");
    }
    world.alarm(AlarmType::Corrupt, 7, false);
    world.alarm(AlarmType::Nospace, 7, false);
    for (name, request) in requests() {
        let refused = matches!(
            world.apply(request).err(),
            Some(Error::NoSpace | Error::Corrupt)
        );
        assert!(!refused, "{name}");
    }
}

#[test]
fn an_alarm_is_listed_once_for_each_member_and_kind_and_answers_as_etcd_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(&dir);
    let nospace = |member_id| AlarmMember {
        member_id,
        alarm: AlarmType::Nospace as i32,
    };
    assert_eq!(world.alarm(AlarmType::Nospace, 2, true), [nospace(2)]);
    assert_eq!(
        world.alarm(AlarmType::Nospace, 2, true),
        [nospace(2)],
        "again"
    );
    assert_eq!(world.alarm(AlarmType::None, 3, true), []);
    assert_eq!(world.alarm(AlarmType::Corrupt, 2, false), [], "not active");
    world.alarm(AlarmType::Nospace, 1, true);
    let listed: Vec<AlarmMember> = world.store.alarms().into_iter().map(Into::into).collect();
    assert_eq!(listed, [nospace(1), nospace(2)]);
    assert_eq!(world.alarm(AlarmType::Nospace, 1, false), [nospace(1)]);
    // One member's alarm less: all still refuse as before.
    let refused = world.apply(Request::Put(put("a")));
    assert_eq!(refused.err(), Some(Error::NoSpace));
}

#[test]
fn an_alarm_that_only_a_removed_member_would_end_ends_with_its_membership() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(&dir);
    world.alarm(AlarmType::Nospace, 1, true);
    world.alarm(AlarmType::Corrupt, 2, true);
    let id = LogId { term: 1, index: 3 };
    world.store.apply_membership(id, "".into(), vec![1, 2]);
    let by_hand = AlarmRecord {
        alarm: AlarmType::Corrupt,
        member_id: 2,
        clears_itself: false,
    };
    assert_eq!(world.store.alarms(), [by_hand]);
    world.store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    drop(world);
    let store = Store::open(&dir.path().join("store.redb"), SETTINGS).unwrap();
    assert_eq!(store.alarms(), [by_hand]);
}

#[test]
fn alarms_and_a_downgrade_survive_a_restart_and_travel_with_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(&dir);
    world.alarm(AlarmType::Nospace, 1, true);
    world.alarm(AlarmType::Corrupt, 5, true);
    world.alarm(AlarmType::Corrupt, 4, true);
    world.store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    world.alarm(AlarmType::Corrupt, 5, false);
    let target = "3.6.0".to_owned();
    let began = SetDowngrade {
        target: target.clone(),
    };
    world.apply(Request::SetDowngrade(began)).unwrap();
    world.store.checkpoint(LogId::MAX, usize::MAX).unwrap();
    let expected = [
        (AlarmType::Nospace, 1, true),
        (AlarmType::Corrupt, 4, false),
    ];
    let expected = expected.map(|(alarm, member_id, clears_itself)| AlarmRecord {
        alarm,
        member_id,
        clears_itself,
    });
    let mut stream = Vec::new();
    Source::open(&world.store, 1)
        .unwrap()
        .export(&mut stream)
        .unwrap();
    let received = dir.path().join("received.redb");
    let arrival = Arrival {
        arrived: &dir.path().join("arrived.redb"),
        place: &received,
        settings: &SETTINGS,
        cluster_id: 1,
    };
    let (_, replacement) = import(&mut stream.as_slice(), &arrival).unwrap();
    let store = Store::open(&received, SETTINGS).unwrap();
    drop(store.replace(replacement).unwrap());
    drop(store);
    let hash = world.store.hash().unwrap();
    drop(world);
    for file in [dir.path().join("store.redb"), received] {
        let store = Store::open(&file, SETTINGS).unwrap();
        assert_eq!(store.alarms(), expected);
        assert_eq!(store.downgrade_target().as_ref(), Some(&target));
        assert_eq!(store.hash().unwrap(), hash);
        let cancel = SetDowngrade::default();
        let mut world = World { store, index: 100 };
        world.apply(Request::SetDowngrade(cancel)).unwrap();
        world.store.checkpoint(LogId::MAX, usize::MAX).unwrap();
        drop(world);
        let store = Store::open(&file, SETTINGS).unwrap();
        assert_eq!(store.downgrade_target(), None);
    }
}
