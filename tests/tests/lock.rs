//! Locks and elections as a client of the two services sees them.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use althing_api::etcdserverpb as pb;
use althing_api::v3electionpb::election_client::ElectionClient;
use althing_api::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use althing_api::v3lockpb::lock_client::LockClient;
use althing_api::v3lockpb::{LockRequest, UnlockRequest};
use althing_tests::binaries::althingd;
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::Member;
use althing_tests::wait::until;
use bytes::Bytes;
use pb::lease_client::LeaseClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// A member and a connection for each service.
struct World {
    member: Member,
    kv: Grpc,
    lease: LeaseClient<Channel>,
    lock: LockClient<Channel>,
    election: ElectionClient<Channel>,
}

impl World {
    async fn new() -> World {
        let member = Member::start(&althingd(), &[]);
        let url = format!("http://127.0.0.1:{}", member.client_port());
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        World {
            kv: member.grpc().await,
            member,
            lease: LeaseClient::new(channel.clone()),
            lock: LockClient::new(channel.clone()),
            election: ElectionClient::new(channel),
        }
    }

    async fn grant(&mut self) -> i64 {
        let request = pb::LeaseGrantRequest { ttl: 600, id: 0 };
        self.lease
            .lease_grant(request)
            .await
            .unwrap()
            .into_inner()
            .id
    }

    async fn revoke(&mut self, id: i64) {
        let request = pb::LeaseRevokeRequest { id };
        self.lease.lease_revoke(request).await.unwrap();
    }

    /// Keys from `prefix` on, oldest first.
    async fn keys(&mut self, prefix: &str) -> Vec<Bytes> {
        let request = pb::RangeRequest {
            key: prefix.to_owned().into(),
            range_end: althing_api::range::prefix_end(prefix.as_bytes()),
            sort_target: pb::range_request::SortTarget::Create.into(),
            sort_order: pb::range_request::SortOrder::Ascend.into(),
            ..pb::RangeRequest::default()
        };
        let answer: pb::RangeResponse = self.kv.unary(path::RANGE, &request).await.unwrap();
        answer.kvs.into_iter().map(|kv| kv.key).collect()
    }

    /// Waits until `length` keys are in the queue.
    async fn queue_of(&mut self, prefix: &str, length: usize) {
        let reached = async || self.keys(prefix).await.len() == length;
        until(reached, "a queue of that length").await;
    }
}

fn lock_request(name: &str, lease: i64) -> LockRequest {
    LockRequest {
        name: name.to_owned().into(),
        lease,
    }
}

fn campaign_request(name: &str, lease: i64, value: &str) -> CampaignRequest {
    CampaignRequest {
        name: name.to_owned().into(),
        lease,
        value: value.to_owned().into(),
    }
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, text: &str) {
    let status = answer.expect_err("a refusal was expected");
    assert_eq!((status.code(), status.message()), (Code::Unknown, text));
}

#[tokio::test]
async fn a_lock_passes_on_in_the_order_of_the_queue_with_growing_create_revisions() {
    let mut world = World::new().await;
    let leases = [
        world.grant().await,
        world.grant().await,
        world.grant().await,
    ];
    let first = world.lock.lock(lock_request("l", leases[0])).await.unwrap();
    let first = first.into_inner();
    assert_eq!(first.key, format!("l/{:x}", leases[0]));
    let mut waiting = Vec::new();
    for (place, lease) in leases[1..].iter().enumerate() {
        let mut client = world.lock.clone();
        let request = lock_request("l", *lease);
        waiting.push(tokio::spawn(async move { client.lock(request).await }));
        world.queue_of("l/", place + 2).await;
    }
    let mut held = first;
    for (task, lease) in waiting.into_iter().zip(&leases[1..]) {
        assert!(!task.is_finished(), "two hold the lock");
        let unlock = UnlockRequest { key: held.key };
        world.lock.unlock(unlock).await.unwrap();
        let next = task.await.unwrap().unwrap().into_inner();
        assert_eq!(next.key, format!("l/{lease:x}"));
        assert!(next.header.unwrap().revision > held.header.unwrap().revision);
        held = next;
    }
}

#[tokio::test]
async fn the_holder_of_a_lock_gets_it_again_under_the_same_lease() {
    let mut world = World::new().await;
    let lease = world.grant().await;
    let once = world.lock.lock(lock_request("l", lease)).await.unwrap();
    let again = world.lock.lock(lock_request("l", lease)).await.unwrap();
    assert_eq!(once.into_inner().key, again.into_inner().key);
    assert_eq!(world.keys("l/").await.len(), 1);
}

#[tokio::test]
async fn the_end_of_a_lease_passes_its_lock_on() {
    let mut world = World::new().await;
    let (held, wanted) = (world.grant().await, world.grant().await);
    world.lock.lock(lock_request("l", held)).await.unwrap();
    let mut client = world.lock.clone();
    let waiting = tokio::spawn(async move { client.lock(lock_request("l", wanted)).await });
    world.queue_of("l/", 2).await;
    world.revoke(held).await;
    let key = waiting.await.unwrap().unwrap().into_inner().key;
    assert_eq!(key, format!("l/{wanted:x}"));
}

#[tokio::test]
async fn a_waiter_whose_own_lease_ends_is_told_when_its_turn_comes() {
    let mut world = World::new().await;
    let (held, wanted) = (world.grant().await, world.grant().await);
    let key = world.lock.lock(lock_request("l", held)).await.unwrap();
    let mut client = world.lock.clone();
    let waiting = tokio::spawn(async move { client.lock(lock_request("l", wanted)).await });
    world.queue_of("l/", 2).await;
    world.revoke(wanted).await;
    let key = key.into_inner().key;
    world.lock.unlock(UnlockRequest { key }).await.unwrap();
    assert_refused(waiting.await.unwrap(), "mutex: session is expired");
}

#[tokio::test]
async fn a_waiter_that_goes_away_leaves_the_queue() {
    let mut world = World::new().await;
    let (held, wanted) = (world.grant().await, world.grant().await);
    world.lock.lock(lock_request("l", held)).await.unwrap();
    let mut client = world.lock.clone();
    let waiting = tokio::spawn(async move { client.lock(lock_request("l", wanted)).await });
    world.queue_of("l/", 2).await;
    waiting.abort();
    world.queue_of("l/", 1).await;

    let mut request = Request::new(lock_request("l", wanted));
    request.set_timeout(Duration::from_millis(200));
    let refusal = world.lock.lock(request).await.unwrap_err();
    assert!(
        matches!(refusal.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{refusal}"
    );
    world.queue_of("l/", 1).await;
}

#[tokio::test]
async fn a_waiter_over_json_that_closes_its_connection_leaves_the_queue() {
    let mut world = World::new().await;
    let (held, wanted) = (world.grant().await, world.grant().await);
    world.lock.lock(lock_request("l", held)).await.unwrap();
    let mut client = world.member.json();
    let body = format!("{{\"name\":\"bA==\",\"lease\":{wanted}}}");
    let waiting = tokio::spawn(async move { client.post("/v3/lock/lock", body).await });
    world.queue_of("l/", 2).await;
    waiting.abort();
    world.queue_of("l/", 1).await;
}

#[tokio::test]
async fn a_lock_without_a_lease_gets_one_of_60_seconds() {
    let mut world = World::new().await;
    let key = world
        .lock
        .lock(lock_request("l", 0))
        .await
        .unwrap()
        .into_inner()
        .key;
    let text = String::from_utf8(key.to_vec()).unwrap();
    let lease = i64::from_str_radix(text.strip_prefix("l/").unwrap(), 16).unwrap();
    let request = pb::LeaseTimeToLiveRequest {
        id: lease,
        keys: true,
    };
    let answer = world
        .lease
        .lease_time_to_live(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.granted_ttl, answer.keys), (60, vec![key]));
}

#[tokio::test]
async fn refusals_carry_code_unknown_and_the_text_of_their_cause() {
    let mut world = World::new().await;
    let answer = world.lock.lock(lock_request("l", 404)).await;
    assert_refused(answer, "etcdserver: requested lease not found");
    let answer = world.lock.unlock(UnlockRequest::default()).await;
    assert_refused(answer, "etcdserver: key is not provided");
    let request = LeaderRequest { name: "e".into() };
    let answer = world.election.leader(request).await;
    assert_refused(answer, "election: no leader");
    let answer = world.election.resign(ResignRequest::default()).await;
    assert_refused(answer, "\"leader\" field must be provided");
}

#[tokio::test]
async fn a_leader_proclaims_resigns_and_the_next_candidate_leads() {
    let mut world = World::new().await;
    let (one, two) = (world.grant().await, world.grant().await);
    let won = world
        .election
        .campaign(campaign_request("e", one, "first"))
        .await
        .unwrap();
    let leader = won.into_inner().leader.unwrap();
    assert_eq!((&leader.name[..], leader.lease), (&b"e"[..], one));
    let mut client = world.election.clone();
    let request = campaign_request("e", two, "second");
    let waiting = tokio::spawn(async move { client.campaign(request).await });
    world.queue_of("e/", 2).await;

    let proclaim = ProclaimRequest {
        leader: Some(leader.clone()),
        value: "again".into(),
    };
    world.election.proclaim(proclaim.clone()).await.unwrap();
    let told = world
        .election
        .leader(LeaderRequest { name: "e".into() })
        .await
        .unwrap();
    assert_eq!(told.into_inner().kv.unwrap().value, "again");

    let resign = ResignRequest {
        leader: Some(leader),
    };
    world.election.resign(resign.clone()).await.unwrap();
    let leads = waiting.await.unwrap().unwrap().into_inner().leader.unwrap();
    assert_eq!(leads.lease, two);
    let refusal = world.election.proclaim(proclaim).await.unwrap_err();
    assert_eq!(refusal.message(), "election: not leader");
    world
        .election
        .resign(resign)
        .await
        .expect("resigning twice does no harm");
}

#[tokio::test]
async fn a_candidate_that_campaigns_again_changes_its_value_and_keeps_its_place() {
    let mut world = World::new().await;
    let lease = world.grant().await;
    let mut revisions = Vec::new();
    for value in ["a", "b"] {
        let request = campaign_request("e", lease, value);
        let won = world.election.campaign(request).await.unwrap().into_inner();
        revisions.push(won.leader.unwrap().rev);
    }
    assert_eq!(revisions[0], revisions[1]);
    let told = world
        .election
        .leader(LeaderRequest { name: "e".into() })
        .await
        .unwrap();
    assert_eq!(told.into_inner().kv.unwrap().value, "b");
}

#[tokio::test]
async fn a_candidate_that_cannot_change_its_value_has_left_the_queue_when_it_hears_so() {
    let mut world = World::new().await;
    let lease = world.grant().await;
    let first = campaign_request("e", lease, "one");
    let led = world.election.campaign(first).await.unwrap().into_inner();
    let key = led.leader.unwrap().key;
    // The key outlives its lease, with which nothing can be put any more.
    let put = pb::PutRequest {
        key,
        ..pb::PutRequest::default()
    };
    let _: pb::PutResponse = world.kv.unary(path::PUT, &put).await.unwrap();
    world.revoke(lease).await;
    let again = campaign_request("e", lease, "two");
    let refused = world.election.campaign(again).await;
    assert_refused(refused, "etcdserver: requested lease not found");
    assert!(world.keys("e/").await.is_empty());
}

#[tokio::test]
async fn an_observer_waits_for_a_leader_and_is_told_each_value_and_each_successor() {
    let mut world = World::new().await;
    let (one, two) = (world.grant().await, world.grant().await);
    let observed = world
        .election
        .observe(LeaderRequest { name: "e".into() })
        .await
        .unwrap();
    let mut observed = observed.into_inner();
    let won = world
        .election
        .campaign(campaign_request("e", one, "a"))
        .await
        .unwrap();
    let leader: LeaderKey = won.into_inner().leader.unwrap();
    let told = observed.message().await.unwrap().unwrap();
    assert_eq!(told.kv.unwrap().value, "a");

    let proclaim = ProclaimRequest {
        leader: Some(leader.clone()),
        value: "b".into(),
    };
    world.election.proclaim(proclaim).await.unwrap();
    let told = observed.message().await.unwrap().unwrap();
    assert_eq!(told.kv.unwrap().value, "b");

    let resign = ResignRequest {
        leader: Some(leader),
    };
    world.election.resign(resign).await.unwrap();
    world
        .election
        .campaign(campaign_request("e", two, "c"))
        .await
        .unwrap();
    let told = observed.message().await.unwrap().unwrap();
    assert_eq!(told.kv.unwrap().value, "c");
}
