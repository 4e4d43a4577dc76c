//! Leases of a one-member node under a clock that the test moves: how long each lives, through
//! renewals, kills and restarts, and what of it gets into the log.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use althing_actors::node::{Handles, Node, RaftTuning};
use althing_actors::peer_link::Call;
use althing_actors::testing::{
    DEADLINE, Loopback, ManualClock, find, one_member, one_of, start_alone, until,
};
use althing_api::commandpb::{Command, LeaseGrant, LeaseRevoke, SetAlarm, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::{AlarmType, PutRequest, RangeRequest};
use althing_api::id::MemberId;
use althing_api::peerpb::{LeaseAnswer, LeaseQuestion, lease_answer::Outcome};
use althing_storage::data_dir::DataDir;
use futures_util::future::join_all;
use prost::Message;
use tempfile::TempDir;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn start(path: &Path, clock: &ManualClock) -> (Node, Handles) {
    let mut settings = one_member();
    settings.clock = clock.clock();
    let dir = DataDir::open(path).unwrap();
    let started = tokio::time::timeout(secs(30), start_alone(dir, settings));
    started
        .await
        .expect("a sole member starts at once")
        .unwrap()
}

async fn apply(handles: &Handles, request: command::Request) -> Result<(), Error> {
    let request = Some(request);
    let applied = handles.propose(Command { request }).await.unwrap();
    applied.response.map(drop)
}

async fn grant(handles: &Handles, id: i64, ttl: i64) {
    let lease = LeaseGrant {
        id,
        ttl,
        // A new generation when an id is granted again.
        generation: ttl as u64,
    };
    apply(handles, command::Request::LeaseGrant(lease))
        .await
        .unwrap();
    // Counts the lease from now on, not from when the notice about it arrives.
    assert_eq!(handles.keep_lease_alive(id).await, Ok(Some(ttl)));
}

async fn put(handles: &Handles, key: &'static str, lease: i64) -> Result<(), Error> {
    let put = PutRequest {
        key: key.into(),
        lease,
        ..PutRequest::default()
    };
    apply(handles, command::Request::Put(put)).await
}

fn exists(handles: &Handles, key: &'static str) -> bool {
    let request = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    handles.store().read().range(&request).unwrap().count == 1
}

async fn remaining(handles: &Handles, id: i64) -> i64 {
    handles.lease_time(id).await.unwrap().unwrap().remaining
}

#[actix::test]
async fn renewals_keep_a_lease_without_an_entry_and_the_one_not_renewed_ends_alone() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let (_node, handles) = start(dir.path(), &clock).await;
    for (id, key) in [(1, "kept"), (2, "left")] {
        grant(&handles, id, 10).await;
        put(&handles, key, id).await.unwrap();
    }
    let index = handles.applied_index();
    for _ in 0..100 {
        assert_eq!(handles.keep_lease_alive(1).await, Ok(Some(10)));
    }
    clock.advance(secs(9));
    assert_eq!(remaining(&handles, 2).await, 1);
    assert_eq!(handles.keep_lease_alive(1).await, Ok(Some(10)));
    assert_eq!(handles.applied_index(), index, "nothing was logged");
    assert_eq!(handles.leases(), [2, 1], "the first to end first");

    clock.advance(secs(9));
    // The store is ahead of what is reported as applied.
    until("lease 2 ends", || handles.applied_index() > index).await;
    assert!(handles.store().lease(2).is_none());
    assert!(exists(&handles, "kept") && !exists(&handles, "left"));
    assert_eq!(handles.applied_index(), index + 1, "its end, and no more");
    assert_eq!(handles.keep_lease_alive(2).await, Ok(None));
    assert_eq!(handles.lease_time(2).await, Ok(None));
    assert_eq!(remaining(&handles, 1).await, 1);
}

#[actix::test]
async fn a_renewal_that_comes_too_late_is_answered_when_the_lease_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let (_node, handles) = start(dir.path(), &clock).await;
    grant(&handles, 1, 10).await;
    put(&handles, "k", 1).await.unwrap();
    clock.advance(secs(10));
    let renewed = tokio::time::timeout(secs(60), handles.keep_lease_alive(1)).await;
    assert_eq!(renewed.expect("the lease ends"), Ok(None));
    assert!(!exists(&handles, "k"));
}

#[actix::test]
async fn another_member_that_renews_an_expired_lease_is_told_at_once_that_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let (_node, handles) = start(dir.path(), &clock).await;
    grant(&handles, 1, 10).await;
    // The members of a cluster marked corrupt end no lease.
    let alarm = SetAlarm {
        member_id: handles.status().member_id.0,
        alarm: AlarmType::Corrupt.into(),
        raised: true,
        clears_itself: false,
    };
    apply(&handles, command::Request::SetAlarm(alarm))
        .await
        .unwrap();
    clock.advance(secs(10));
    let question = LeaseQuestion { id: 1 }.encode_to_vec();
    let asking = handles.inbound().call(Call::KeepLease, question.into());
    let answer = tokio::time::timeout(DEADLINE, asking).await;
    let answer = answer.expect("nothing is waited for").unwrap();
    let outcome = LeaseAnswer::decode(answer).unwrap().outcome;
    assert_eq!(outcome, Some(Outcome::Ending(10)), "of this generation");
}

#[actix::test]
async fn a_lease_that_expired_while_the_member_was_down_lives_its_time_again() {
    let dir = tempfile::tempdir().unwrap();
    let (node, handles) = start(dir.path(), &ManualClock::default()).await;
    grant(&handles, 1, 10).await;
    put(&handles, "k", 1).await.unwrap();
    drop((node, handles));
    // However long it was down, the clients could not have renewed the lease.
    let clock = ManualClock::default();
    let (_node, handles) = start(dir.path(), &clock).await;
    assert_eq!(handles.store().lease_keys(1), ["k"]);
    assert_eq!(
        remaining(&handles, 1).await,
        11,
        "one election timeout more, and a heartbeat"
    );
    clock.advance(secs(10));
    assert_eq!(remaining(&handles, 1).await, 1);
    assert!(exists(&handles, "k"));
    // The extra heartbeat that the former leader may have taken to notice, and a second.
    clock.advance(secs(2));
    until("the key goes", || !exists(&handles, "k")).await;
}

#[actix::test]
async fn what_is_left_of_a_long_lease_survives_a_kill_unless_it_was_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let (node, handles) = start(dir.path(), &clock).await;
    grant(&handles, 1, 300).await;
    grant(&handles, 2, 300).await;
    clock.advance(secs(100));
    let logged = |handles: &Handles, id| handles.store().lease(id).unwrap().remaining;
    until("what is left is logged", || {
        [1, 2].map(|id| logged(&handles, id)) == [200, 200]
    })
    .await;
    assert_eq!(handles.keep_lease_alive(2).await, Ok(Some(300)));
    assert_eq!(logged(&handles, 2), 0, "before the client was told");
    assert_eq!(remaining(&handles, 1).await, 200);
    drop((node, handles));

    let (_node, handles) = start(dir.path(), &ManualClock::default()).await;
    assert_eq!(remaining(&handles, 1).await, 201);
    assert_eq!(remaining(&handles, 2).await, 301);
}

#[actix::test]
async fn a_lease_granted_anew_under_its_id_does_not_inherit_the_old_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let (_node, handles) = start(dir.path(), &clock).await;
    grant(&handles, 1, 10).await;
    clock.advance(secs(9));
    let revoke = |generation, counted_in_term| {
        command::Request::LeaseRevoke(LeaseRevoke {
            id: 1,
            generation,
            counted_in_term,
        })
    };
    let refused = apply(&handles, revoke(78, 0)).await;
    assert_eq!(refused, Err(Error::LeaseNotFound), "of another generation");
    let other = handles.term() + 1;
    let refused = apply(&handles, revoke(0, other)).await;
    assert_eq!(refused, Err(Error::LeaseNotFound), "counted by another");
    apply(&handles, revoke(0, handles.term())).await.unwrap();
    assert_eq!(put(&handles, "k", 1).await, Err(Error::LeaseNotFound));
    grant(&handles, 1, 20).await;
    grant(&handles, 2, 2).await;
    clock.advance(secs(2));
    until("lease 2 ends", || handles.store().lease(2).is_none()).await;
    assert_eq!(remaining(&handles, 1).await, 18);
}

/// Three members on one network, under one clock.
async fn three(network: &Loopback, clock: &ManualClock) -> Vec<(Node, Handles, TempDir)> {
    let mut members = Vec::new();
    let mut all_settings = Vec::new();
    for number in 1..=3 {
        let mut settings = one_of(number, 3);
        settings.clock = clock.clock();
        settings.raft.election_timeout = secs(5);
        let directory = tempfile::tempdir().unwrap();
        let dir = DataDir::open(directory.path()).unwrap();
        let launched = Node::launch(dir, &settings, network.transport(number)).await;
        let (node, handles) = launched.unwrap();
        network.join(number, handles.inbound().clone());
        members.push((node, handles, directory));
        all_settings.push(settings);
    }
    let both = members.iter().zip(&all_settings);
    let ready = both.map(|((node, handles, _), settings)| node.ready(handles, settings));
    let ready = tokio::time::timeout(DEADLINE, join_all(ready)).await;
    let ready: Result<Vec<()>, _> = ready.expect("they serve").into_iter().collect();
    ready.unwrap();
    members
}

/// The leader, once all agree on it.
async fn leader_of(members: &[(Node, Handles, TempDir)]) -> MemberId {
    let leader = find("they agree", || {
        let leaders: Vec<MemberId> = members.iter().map(|one| one.1.leader()).collect();
        let leader = leaders[0];
        (leader != MemberId(0) && leaders.iter().all(|one| *one == leader)).then_some(leader)
    });
    leader.await
}

#[actix::test]
async fn a_renewal_that_comes_too_late_is_answered_when_the_member_asked_knows_of_the_end() {
    let (network, clock) = (Loopback::default(), ManualClock::default());
    let members = three(&network, &clock).await;
    let id = leader_of(&members).await;
    let leader = &members[id.0 as usize - 1].1;
    grant(leader, 1, 10).await;
    put(leader, "k", 1).await.unwrap();
    let follower = members.iter().find(|one| one.1.status().member_id != id);
    let follower = &follower.unwrap().1;
    assert_eq!(follower.keep_lease_alive(1).await, Ok(Some(10)));
    clock.advance(secs(10));
    let renewed = tokio::time::timeout(DEADLINE, follower.keep_lease_alive(1)).await;
    assert_eq!(renewed.expect("the lease ends"), Ok(None));
    assert!(leader.store().lease(1).is_none() && !exists(leader, "k"));
}

#[actix::test]
async fn no_lease_ends_for_the_time_in_which_no_quorum_heard_the_leader() {
    let (network, clock) = (Loopback::default(), ManualClock::default());
    let members = three(&network, &clock).await;
    let id = leader_of(&members).await;
    let leader = &members[id.0 as usize - 1].1;
    grant(leader, 1, 60).await;
    put(leader, "k", 1).await.unwrap();
    grant(leader, 2, 3).await;
    let term = leader.term();
    // It soon finds out that nobody hears it, while the others wait for it.
    for (_, handles, _) in &members {
        let is_leader = handles.status().member_id == id;
        let patience = if is_leader { 1 } else { 300 };
        handles.retune(RaftTuning {
            election_timeout: secs(patience),
            ..one_member().raft
        });
        handles.pulse().await.unwrap();
    }
    network.isolate(id.0);
    until("it is heard by nobody", || leader.leader() == MemberId(0)).await;
    clock.advance(secs(100));
    network.heal(id.0);
    until("it is heard again", || leader.leader() == id).await;
    assert_eq!(leader.term(), term, "nobody else led");
    let renewed = tokio::time::timeout(DEADLINE, leader.keep_lease_alive(2)).await;
    assert_eq!(renewed.expect("it counts again"), Ok(Some(3)));
    clock.advance(secs(30));
    until("the shorter one ends", || leader.store().lease(2).is_none()).await;
    // Behind all that had to be logged when it was heard again.
    put(leader, "later", 0).await.unwrap();
    assert!(exists(leader, "k"));
    assert_eq!(leader.keep_lease_alive(1).await, Ok(Some(60)));
}
