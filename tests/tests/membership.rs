//! Members come and go as separate processes: a cluster grows under load, loses members and
//! replaces them, and a removed member ends.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use althing_api::error::Error;
use althing_api::etcdserverpb as pb;
use althing_tests::binaries::{althingctl, althingd};
use althing_tests::cluster::{Cluster, STEADY};
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::Member;
use althing_tests::wait::until;
use bytes::Bytes;
use tonic::{Code, Status};

async fn put(grpc: &mut Grpc, key: &str) -> Result<(), Status> {
    let request = pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from_static(b"v"),
        ..Default::default()
    };
    let answer: Result<pb::PutResponse, Status> = grpc.unary(path::PUT, &request).await;
    answer.map(drop)
}

async fn count(grpc: &mut Grpc, prefix: &str) -> i64 {
    let request = pb::RangeRequest {
        key: Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: althing_api::range::prefix_end(prefix.as_bytes()),
        count_only: true,
        ..Default::default()
    };
    let answer: pb::RangeResponse = grpc.unary(path::RANGE, &request).await.unwrap();
    answer.count
}

async fn members(grpc: &mut Grpc) -> Vec<pb::Member> {
    listed(grpc).await.unwrap()
}

async fn listed(grpc: &mut Grpc) -> Result<Vec<pb::Member>, Status> {
    let request = pb::MemberListRequest { linearizable: true };
    let answer: pb::MemberListResponse = grpc.unary(path::MEMBER_LIST, &request).await?;
    Ok(answer.members)
}

/// Refusals of a change that has been made already.
const MADE: [Error; 3] = [
    Error::MemberNotFound,
    Error::PeerUrlExists,
    Error::MemberNotLearner,
];

/// Changes the membership as soon as the cluster counts as healthy; returns the members after it,
/// from the answer. A busy member may give up a change that is made nevertheless; then they come
/// from the list of members, in which `is_made` finds the change.
async fn changed<A: prost::Message + Default>(
    member: &Member,
    path: &'static str,
    request: &impl prost::Message,
    members_of: fn(A) -> Vec<pb::Member>,
    is_made: impl Fn(&[pb::Member]) -> bool,
) -> Vec<pb::Member> {
    let (mut after, mut was_given_up) = (None, false);
    let accepted = async || {
        let mut grpc = member.grpc().await;
        match grpc.unary(path, request).await {
            Ok(answer) => after = Some(members_of(answer)),
            Err(status) => {
                let text = status.message();
                assert!(
                    status.code() == Code::Unavailable
                        || text.contains("not enough started")
                        || text.contains("in sync with leader")
                        || (was_given_up && MADE.iter().any(|made| text == made.text())),
                    "{status}"
                );
                was_given_up |= text.starts_with(Error::Timeout.text());
            }
        }
        if after.is_none() && was_given_up {
            let now = listed(&mut grpc).await.ok();
            after = now.filter(|members| is_made(members));
        }
        after.is_some()
    };
    until(accepted, "the change is accepted").await;
    let after = after.unwrap();
    assert!(is_made(&after), "{after:?}");
    after
}

/// Removes a member; returns those that are left.
async fn removed(member: &Member, id: u64) -> Vec<pb::Member> {
    let request = pb::MemberRemoveRequest { id };
    let left = |answer: pb::MemberRemoveResponse| answer.members;
    let is_made = |members: &[pb::Member]| members.iter().all(|member| member.id != id);
    changed(member, path::MEMBER_REMOVE, &request, left, is_made).await
}

/// Adds a member, and finds it among all.
async fn added(member: &Member, request: &pb::MemberAddRequest) -> pb::Member {
    let all = |answer: pb::MemberAddResponse| {
        let id = answer.member.unwrap().id;
        assert!(answer.members.iter().any(|member| member.id == id));
        answer.members
    };
    let is_it = |member: &pb::Member| member.peer_ur_ls == request.peer_ur_ls;
    let is_made = |members: &[pb::Member]| members.iter().any(is_it);
    let members = changed(member, path::MEMBER_ADD, request, all, is_made).await;
    members.into_iter().find(is_it).unwrap()
}

async fn id_of(member: &Member) -> u64 {
    let status: pb::StatusResponse = member
        .grpc()
        .await
        .unary(path::STATUS, &pb::StatusRequest::default())
        .await
        .unwrap();
    status.header.unwrap().member_id
}

fn newcomer(name: &str) -> Member {
    let mut member = Member::prepare(&althingd(), &STEADY);
    member.call_it(name);
    member
}

/// Puts one key after the other until told to stop, and counts the acknowledged ones.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    async fn on(member: &Member) -> Load {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let mut grpc = member.grpc().await;
        let task = tokio::spawn(async move {
            for n in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                match put(&mut grpc, &format!("load/{n:08}")).await {
                    Ok(()) => _ = counted.fetch_add(1, Ordering::SeqCst),
                    Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
                }
            }
        });
        Load {
            stop,
            acknowledged,
            task,
        }
    }

    /// Waits until more puts were acknowledged.
    async fn goes_on(&self) {
        let before = self.acknowledged.load(Ordering::SeqCst);
        let more = async || self.acknowledged.load(Ordering::SeqCst) > before + 20;
        until(more, "writes are acknowledged").await;
    }

    async fn end(self) -> i64 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        i64::try_from(self.acknowledged.load(Ordering::SeqCst)).unwrap()
    }
}

/// The members that a new one has to start with, as `althingctl member add` prints them; `None`
/// while the cluster cannot grow.
fn initial_cluster(member: &Member, name: &str, peer_url: &str) -> Option<String> {
    let mut command = Command::new(althingctl());
    // Allows for a busy machine.
    command.arg("--command-timeout=60s");
    command.args(["--endpoints", &member.client_url(), "member", "add", name]);
    let output = command.args(["--peer-urls", peer_url]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut lines = printed.lines();
    let line = lines.find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
    line.map(|line| line.trim_matches('"').to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_grows_to_three_and_to_five_under_load_and_all_restart() {
    let first = Member::start(&althingd(), &STEADY);
    let load = Load::on(&first).await;
    let mut all = vec![first];
    for name in ["b", "c", "d"] {
        let mut member = newcomer(name);
        // Any member will do.
        member.join_at(&all[all.len() - 1].client_url());
        member.restart();
        all.push(member);
        load.goes_on().await;
    }
    let mut last = newcomer("e");
    let healthy = async || {
        let mut grpc = all[1].grpc().await;
        let listed = members(&mut grpc).await;
        listed.len() == 4 && listed.iter().all(|member| !member.client_ur_ls.is_empty())
    };
    until(healthy, "four members are started").await;
    let mut entries = None;
    let added = async || {
        entries = initial_cluster(&all[1], "e", &last.peer_url());
        entries.is_some()
    };
    until(added, "the cluster is healthy enough to grow").await;
    last.begin_with(&[entries.unwrap()]);
    last.add_flags(&["--initial-cluster-state", "existing"]);
    last.restart();
    all.push(last);
    load.goes_on().await;
    let written = load.end().await;
    for member in &all {
        let mut grpc = member.grpc().await;
        assert!(count(&mut grpc, "load/").await >= written);
        let listed = members(&mut grpc).await;
        assert_eq!(listed.len(), 5);
        assert!(listed.iter().all(|member| !member.name.is_empty()));
        assert!(listed.iter().all(|member| !member.is_learner));
    }
    // What they were started with no longer matters.
    for member in &mut all {
        member.kill();
    }
    for member in &mut all {
        member.launch();
    }
    for member in &mut all {
        member.wait_until_it_serves();
    }
    let mut grpc = all[4].grpc().await;
    put(&mut grpc, "after").await.unwrap();
    assert!(count(&mut grpc, "load/").await >= written);
    assert_eq!(members(&mut grpc).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_member_is_replaced_and_the_leader_removed_and_both_are_gone_for_good() {
    let mut cluster = Cluster::start(&althingd(), 3, &STEADY);
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    let [dead, other] = cluster.positions_without(&[leader])[..] else {
        unreachable!("three members")
    };
    let dead_id = id_of(cluster.member(dead)).await;
    cluster.member(dead).kill();
    let load = Load::on(cluster.member(leader)).await;
    let left = removed(cluster.member(other), dead_id).await;
    assert_eq!(left.len(), 2);
    let mut substitute = newcomer("new");
    substitute.join_at(&cluster.member(other).client_url());
    substitute.restart();
    load.goes_on().await;
    let written = load.end().await;
    let mut grpc = substitute.grpc().await;
    assert!(count(&mut grpc, "load/").await >= written);

    // It comes back, hears that it was removed, and does not start again.
    let process = cluster.member(dead).launch();
    let told = process.wait_for_line("permanently removed from the cluster");
    told.unwrap();
    assert!(process.wait().success());

    let leader_id = id_of(cluster.member(leader)).await;
    let left = removed(cluster.member(other), leader_id).await;
    assert_eq!(left.len(), 2);
    let goes_on = async || match put(&mut grpc, "without the former leader").await {
        Ok(()) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            false
        }
    };
    until(goes_on, "a write without the former leader").await;
    let process = cluster.member(leader).process();
    process
        .wait_for_line("permanently removed from the cluster")
        .unwrap();
    assert!(process.wait().success(), "an orderly end");
    let request = pb::MemberRemoveRequest { id: leader_id };
    let unknown: Result<pb::MemberRemoveResponse, Status> =
        grpc.unary(path::MEMBER_REMOVE, &request).await;
    let unknown = unknown.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(unknown.message(), "etcdserver: member not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_serves_old_reads_only_until_it_is_promoted() {
    let first = Member::start(&althingd(), &STEADY);
    put(&mut first.grpc().await, "k").await.unwrap();
    let mut learner = newcomer("learner");
    let request = pb::MemberAddRequest {
        peer_ur_ls: vec![learner.peer_url()],
        is_learner: true,
    };
    let added = added(&first, &request).await;
    let id = added.id;
    assert!(added.is_learner);
    learner.begin_with(&[first.entry(), learner.entry()]);
    learner.add_flags(&["--initial-cluster-state", "existing"]);
    learner.restart();
    let mut grpc = learner.grpc().await;
    let refused = put(&mut grpc, "k").await.unwrap_err();
    assert_eq!(
        refused.message(),
        "etcdserver: rpc not supported for learner"
    );
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let old = pb::RangeRequest {
        key: Bytes::from_static(b"k"),
        serializable: true,
        ..Default::default()
    };
    let has_it = async || {
        let answer: pb::RangeResponse = grpc.unary(path::RANGE, &old).await.unwrap();
        answer.count == 1
    };
    until(has_it, "the learner has the key").await;
    let status: pb::StatusResponse = grpc
        .unary(path::STATUS, &pb::StatusRequest::default())
        .await
        .unwrap();
    assert!(status.is_learner);
    // It cannot take a member in, and waiting does not help.
    let mut lost = newcomer("lost");
    lost.join_at(&learner.client_url());
    let process = lost.launch();
    let told = process.wait_for_line("name a client URL of a voter");
    assert!(told.unwrap().contains(&learner.client_url()));
    assert!(!process.wait().success());
    let metrics = learner.json().get("/metrics").await.unwrap();
    assert!(String::from_utf8_lossy(&metrics.body).contains("etcd_server_is_learner 1"));

    let promotion = pb::MemberPromoteRequest { id };
    let all = |answer: pb::MemberPromoteResponse| answer.members;
    let is_made = |members: &[pb::Member]| members.iter().all(|member| !member.is_learner);
    changed(&first, path::MEMBER_PROMOTE, &promotion, all, is_made).await;
    put(&mut grpc, "k").await.unwrap();
    let metrics = first.json().get("/metrics").await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("etcd_server_learner_promote_successes 1"));
    let again: Result<pb::MemberPromoteResponse, Status> =
        grpc.unary(path::MEMBER_PROMOTE, &promotion).await;
    assert_eq!(
        again.unwrap_err().message(),
        "etcdserver: can only promote a learner member"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_was_interrupted_finds_itself_and_one_that_cannot_be_says_why() {
    let first = Member::start(&althingd(), &STEADY);
    let mut second = newcomer("second");
    let request = pb::MemberAddRequest {
        peer_ur_ls: vec![second.peer_url()],
        is_learner: false,
    };
    let added = added(&first, &request).await;
    put(&mut first.grpc().await, "it costs nothing")
        .await
        .unwrap();
    second.join_at(&first.client_url());
    second.restart();
    assert_eq!(id_of(&second).await, added.id);
    assert_eq!(members(&mut second.grpc().await).await.len(), 2);

    second.kill();
    std::fs::remove_dir_all(second.data_dir()).unwrap();
    let process = second.launch();
    process.wait_for_line("has run before").unwrap();
    assert!(!process.wait().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_beside_a_dead_member_names_it_and_goes_on_once_it_is_back() {
    let mut cluster = Cluster::start(&althingd(), 3, &STEADY);
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    let dead = cluster.positions_without(&[leader])[0];
    let id = id_of(cluster.member(dead)).await;
    cluster.member(dead).kill();
    let mut json = cluster.member(leader).json();
    let is_missed = async || {
        let metrics = json.get("/metrics").await.unwrap();
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        let mut active = metrics.lines();
        let of_dead = format!("Remote=\"{id:x}\"}} 0");
        active.any(|line| line.starts_with("etcd_network_active_peers") && line.ends_with(&of_dead))
    };
    until(is_missed, "the leader misses the dead member").await;
    let mut fourth = newcomer("fourth");
    fourth.join_at(&cluster.member(leader).client_url());
    let process = fourth.launch();
    let told = process.wait_for_line(&format!("althingctl member remove {id:x}"));
    let told = told.unwrap();
    assert!(told.contains(&format!("m{dead}")), "{told}");
    assert!(told.contains(&cluster.member(dead).peer_url()), "{told}");
    cluster.restart(&[dead]);
    fourth.wait_until_it_serves();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_moves_is_found_where_it_is_told_to_be() {
    let mut cluster = Cluster::start(&althingd(), 3, &STEADY);
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    let moving = cluster.positions_without(&[leader])[0];
    let id = id_of(cluster.member(moving)).await;
    cluster.member(moving).kill();
    cluster.member(moving).move_peer_port();
    let peer_urls = vec![cluster.member(moving).peer_url()];
    let request = pb::MemberUpdateRequest {
        id,
        peer_ur_ls: peer_urls.clone(),
    };
    let all = |answer: pb::MemberUpdateResponse| answer.members;
    let is_it = |member: &pb::Member| member.id == id && member.peer_ur_ls == peer_urls;
    let is_made = |members: &[pb::Member]| members.iter().any(is_it);
    let asked = cluster.member(leader);
    let updated = changed(asked, path::MEMBER_UPDATE, &request, all, is_made).await;
    assert!(
        updated
            .iter()
            .any(|member| is_it(member) && !member.name.is_empty())
    );
    cluster.restart(&[moving]);
    put(&mut cluster.grpc(moving).await, "k").await.unwrap();
    let bad = pb::MemberUpdateRequest {
        id,
        peer_ur_ls: vec!["nowhere".to_owned()],
    };
    let bad: Result<pb::MemberUpdateResponse, Status> = cluster
        .grpc(moving)
        .await
        .unary(path::MEMBER_UPDATE, &bad)
        .await;
    let bad = bad.unwrap_err();
    assert_eq!(bad.message(), "etcdserver: given member URLs are invalid");
    assert_eq!(bad.code(), Code::InvalidArgument);

    // The next time nobody tells the cluster.
    cluster.member(moving).kill();
    cluster.member(moving).move_peer_port();
    let process = cluster.member(moving).launch();
    let told = process.wait_for_line("at other peer URLs than it advertises");
    assert!(told.unwrap().contains(&peer_urls[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_address_is_updated_is_reached_where_it_still_listens() {
    let mut cluster = Cluster::start(&althingd(), 3, &STEADY);
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    cluster.member(leader).move_peer_port();
    let request = pb::MemberUpdateRequest {
        id: id_of(cluster.member(leader)).await,
        peer_ur_ls: vec![cluster.member(leader).peer_url()],
    };
    let updated: Result<pb::MemberUpdateResponse, Status> = cluster
        .grpc(leader)
        .await
        .unary(path::MEMBER_UPDATE, &request)
        .await;
    updated.unwrap();
    for member in 0..3 {
        let key = format!("before-{member}");
        put(&mut cluster.grpc(member).await, &key).await.unwrap();
    }
    assert_eq!(cluster.leader_of(&[0, 1, 2]).await, leader);
    cluster.member(leader).kill();
    cluster.restart(&[leader]);
    for member in 0..3 {
        let key = format!("after-{member}");
        put(&mut cluster.grpc(member).await, &key).await.unwrap();
    }
}
