//! Three members as separate processes: written through any, read from any, and nothing
//! acknowledged is lost, whichever dies.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use althing_api::etcdserverpb as pb;
use althing_tests::binaries::althingd;
use althing_tests::cluster::{Cluster, STEADY};
use althing_tests::grpc::{Grpc, path};
use althing_tests::member::Member;
use althing_tests::wait::until;
use bytes::Bytes;
use tonic::{Code, Status};

async fn put(grpc: &mut Grpc, key: &str, value: &str) -> Result<pb::PutResponse, Status> {
    let request = pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    };
    grpc.unary(path::PUT, &request).await
}

async fn get(grpc: &mut Grpc, key: &str) -> Option<Bytes> {
    let request = pb::RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..Default::default()
    };
    let answer: pb::RangeResponse = grpc.unary(path::RANGE, &request).await.unwrap();
    answer.kvs.first().map(|kv| kv.value.clone())
}

/// How many proposals failed, as a member counts them.
async fn failed_proposals(cluster: &Cluster, position: usize) -> u64 {
    let page = cluster.members()[position].json().get("/metrics").await;
    let page = String::from_utf8(page.unwrap().body.to_vec()).unwrap();
    let name = "etcd_server_proposals_failed_total ";
    let count = page.lines().find_map(|line| line.strip_prefix(name));
    count.unwrap().parse().unwrap()
}

/// Waits until these members know that the one at `position` has run.
async fn until_known(cluster: &Cluster, position: usize, knowers: &[usize]) {
    let id = cluster.ids().await[position];
    for knower in knowers {
        let mut grpc = cluster.grpc(*knower).await;
        let is_known = async || {
            let request = pb::MemberListRequest::default();
            let list: pb::MemberListResponse =
                grpc.unary(path::MEMBER_LIST, &request).await.unwrap();
            let mut members = list.members.iter();
            members.any(|member| member.id == id && !member.client_ur_ls.is_empty())
        };
        until(is_known, "a member's client URLs are known").await;
    }
}

/// Puts until one is acknowledged; while a leader is looked for, a put may fail.
async fn put_at_last(cluster: &Cluster, position: usize, key: &str) {
    let mut grpc = cluster.grpc(position).await;
    let acknowledged = async || match put(&mut grpc, key, "v").await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            false
        }
    };
    until(acknowledged, "a put is acknowledged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_on_any_member_is_read_from_every_member() {
    let cluster = Cluster::start(&althingd(), 3, &STEADY);
    for writer in 0..3 {
        let key = format!("k{writer}");
        let header = put(&mut cluster.grpc(writer).await, &key, "v")
            .await
            .unwrap();
        assert_eq!(header.header.unwrap().revision, 2 + writer as i64);
        for reader in 0..3 {
            let value = get(&mut cluster.grpc(reader).await, &key).await;
            assert_eq!(
                value.unwrap(),
                "v",
                "written by {writer}, read from {reader}"
            );
        }
    }
    let statuses = [
        cluster.status(0).await,
        cluster.status(1).await,
        cluster.status(2).await,
    ];
    for status in &statuses {
        assert_eq!(status.leader, statuses[0].leader);
        assert_eq!(status.raft_term, statuses[0].raft_term);
        assert!(status.errors.is_empty() && status.raft_index > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_leader_is_killed_and_when_all_restart() {
    let mut cluster = Cluster::start(&althingd(), 3, &STEADY);
    let mut keys = Vec::new();
    for round in 0..3 {
        let leader = cluster.leader_of(&[0, 1, 2]).await;
        for n in 0..20 {
            let key = format!("r{round}-{n}");
            put(&mut cluster.grpc(n % 3).await, &key, "v")
                .await
                .unwrap();
            keys.push(key);
        }
        cluster.member(leader).kill();
        let rest = cluster.positions_without(&[leader]);
        put_at_last(&cluster, rest[0], &format!("without{round}")).await;
        keys.push(format!("without{round}"));
        assert_ne!(cluster.leader_of(&rest).await, leader);
        cluster.restart(&[leader]);
    }
    for position in 0..3 {
        cluster.member(position).kill();
    }
    cluster.restart(&[0, 1, 2]);
    for position in 0..3 {
        let mut grpc = cluster.grpc(position).await;
        for key in &keys {
            assert_eq!(
                get(&mut grpc, key).await.unwrap(),
                "v",
                "{key} on {position}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_is_replaced_long_before_the_election_timeout() {
    let mut cluster = Cluster::start(&althingd(), 3, &["--election-timeout", "20000"]);
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    let rest = cluster.positions_without(&[leader]);
    let start = Instant::now();
    cluster.member(leader).kill();
    put_at_last(&cluster, rest[0], "k").await;
    let took = start.elapsed();
    // An election is never waited for less than half of the time-out.
    assert!(took < Duration::from_secs(10), "{took:?}");
    let noticed = cluster.member(rest[0]).process();
    let line = noticed.wait_for_line("nobody listens at its address");
    line.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_go_on_while_three_are_there_and_agree_afterwards() {
    let mut cluster = Cluster::start(&althingd(), 5, &STEADY);
    put_at_last(&cluster, 0, "all").await;
    let leader = cluster.leader_of(&[0, 1, 2, 3, 4]).await;
    let follower = cluster.positions_without(&[leader])[0];
    cluster.member(leader).kill();
    cluster.member(follower).kill();
    let rest = cluster.positions_without(&[leader, follower]);
    put_at_last(&cluster, rest[0], "three").await;
    cluster.leader_of(&rest).await;
    cluster.restart(&[leader, follower]);
    for position in 0..5 {
        let mut grpc = cluster.grpc(position).await;
        for key in ["all", "three"] {
            let value = get(&mut grpc, key).await;
            assert_eq!(value.unwrap(), "v", "{key} on {position}");
        }
    }
    cluster.leader_of(&[0, 1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_writes_and_reads_fail_as_with_etcd_and_old_data_is_served() {
    let flags = ["--election-timeout", "2000"];
    let mut cluster = Cluster::start(&althingd(), 3, &flags);
    put(&mut cluster.grpc(0).await, "k", "v").await.unwrap();
    get(&mut cluster.grpc(2).await, "k").await.unwrap();
    let before = failed_proposals(&cluster, 2).await;
    cluster.member(0).kill();
    cluster.member(1).kill();
    // Otherwise the put might fail at once, with the connection to a leader that was just killed.
    let is_missed = async || cluster.status(2).await.leader == 0;
    until(is_missed, "the leader is missed").await;
    let mut grpc = cluster.grpc(2).await;
    let refused = put(&mut grpc, "k", "w").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused
            .message()
            .starts_with("etcdserver: request timed out"),
        "{refused}"
    );
    // Its caller stopped waiting, which is a failure like any other.
    assert_eq!(failed_proposals(&cluster, 2).await, before + 1);
    let request = pb::RangeRequest {
        key: Bytes::from_static(b"k"),
        serializable: true,
        ..Default::default()
    };
    let answer: pb::RangeResponse = grpc.unary(path::RANGE, &request).await.unwrap();
    assert_eq!(answer.kvs[0].value, "v");
    let status = cluster.status(2).await;
    assert_eq!(status.leader, 0);
    assert_eq!(status.errors, ["etcdserver: no leader"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_still_hears_a_leader_without_its_quorum_says_that_there_is_none() {
    let mut cluster = Cluster::start(&althingd(), 5, &[]);
    put_at_last(&cluster, 0, "k").await;
    let leader = cluster.leader_of(&[0, 1, 2, 3, 4]).await;
    let others = cluster.positions_without(&[leader]);
    let (follower, lost) = (others[0], &others[1..]);
    for position in lost {
        cluster.member(*position).kill();
    }
    for position in [leader, follower] {
        let is_missed = async || cluster.status(position).await.leader == 0;
        until(is_missed, "the leader is missed").await;
    }
    // It waits for longer than raft of a leader without a quorum is quiet between its probes.
    let refused = put(&mut cluster.grpc(follower).await, "k", "w").await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    let printed = cluster.member(follower).process().printed();
    let (_, since) = printed.rsplit_once("lost the leader").unwrap();
    assert!(!since.contains("leader changed"), "{since}");
    cluster.restart(lost);
    cluster.leader_of(&[0, 1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_in_order_hands_its_lead_over() {
    let mut cluster = Cluster::start(&althingd(), 3, &STEADY);
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    let term = cluster.status(leader).await.raft_term;
    let (status, printed) = cluster.member(leader).stop();
    assert!(status.success(), "{printed}");
    assert!(!printed.contains("was not handed over"), "{printed}");
    let rest = cluster.positions_without(&[leader]);
    let successor = cluster.leader_of(&rest).await;
    put(&mut cluster.grpc(rest[0]).await, "k", "v")
        .await
        .unwrap();
    assert_eq!(
        cluster.status(successor).await.raft_term,
        term + 1,
        "one election"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_data_does_not_begin_again_as_if_it_had_never_voted() {
    let mut cluster = Cluster::start(&althingd(), 3, &STEADY);
    // Each of them must be able to tell.
    until_known(&cluster, 1, &[0, 2]).await;
    cluster.member(1).kill();
    let dir = cluster.member(1).data_dir().to_path_buf();
    let refused = |cluster: &mut Cluster| {
        let process = cluster.member(1).launch();
        let refusal = process.wait_for_line("already been bootstrapped").unwrap();
        assert!(refusal.contains("cannot start"), "{refusal}");
        assert!(!process.wait().success());
    };
    // Its identity may still be there.
    std::fs::remove_dir_all(dir.join("member/wal")).unwrap();
    std::fs::remove_file(dir.join("member/store.redb")).unwrap();
    refused(&mut cluster);
    std::fs::remove_dir_all(dir).unwrap();
    refused(&mut cluster);
    // Nor does it start when told that the cluster runs already.
    let existing = ["--initial-cluster-state", "existing"];
    cluster.member(1).add_flags(&existing);
    let process = cluster.member(1).launch();
    process.wait_for_line("already been bootstrapped").unwrap();
    assert!(!process.wait().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_data_directory_is_an_older_copy_is_sent_what_it_lost_and_named() {
    let mut cluster = Cluster::start(&althingd(), 3, &STEADY);
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    let follower = cluster.positions_without(&[leader])[0];
    cluster.member(follower).stop();
    let data = cluster.members()[follower].data_dir().to_owned();
    let copy = tempfile::tempdir().unwrap();
    copy_all(&data, copy.path());
    cluster.restart(&[follower]);
    let mut grpc = cluster.grpc(leader).await;
    for number in 0..3 {
        put(&mut grpc, &format!("k{number}"), "v").await.unwrap();
    }
    let mut of_follower = cluster.grpc(follower).await;
    assert!(get(&mut of_follower, "k2").await.is_some(), "it has all");
    cluster.member(follower).kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy_all(copy.path(), &data);
    cluster.restart(&[follower]);
    let mut of_follower = cluster.grpc(follower).await;
    assert!(
        get(&mut of_follower, "k2").await.is_some(),
        "it has all again"
    );
    let told = cluster.member(leader).process();
    told.wait_for_line("the log of a member went back").unwrap();
}

/// Copies a directory and all in it.
fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy_all(&entry.path(), &target),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), target).unwrap()),
            // A socket.
            _ => {}
        }
    }
}

#[test]
fn a_list_that_does_not_name_the_member_or_its_url_is_refused_by_name() {
    let mut member = Member::prepare(&althingd(), &[]);
    member.begin_with(&["other=http://127.0.0.1:1".to_owned()]);
    let refused = member.launch().wait_for_line("does not name this member");
    refused.unwrap();
    let mut member = Member::prepare(&althingd(), &[]);
    member.begin_with(&["default=http://127.0.0.1:1".to_owned()]);
    let refused = member.launch().wait_for_line("the URLs http://127.0.0.1:1");
    refused.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_waits_for_its_cluster_says_who_does_not_answer_and_why() {
    let mut members: Vec<Member> = Vec::new();
    for name in ["m0", "m1", "m2", "m3", "m4"] {
        let mut member = Member::prepare(&althingd(), &[]);
        member.call_it(name);
        members.push(member);
    }
    let entries: Vec<String> = members.iter().map(Member::entry).collect();
    for member in &mut members {
        member.begin_with(&entries);
    }
    // On another machine, with the options of the first.
    let mut twin = Member::prepare(&althingd(), &[]);
    twin.call_it("m0");
    twin.stand_behind(members[0].peer_port());
    twin.begin_with(&entries);
    members[2].add_flags(&["--initial-cluster-token", "another"]);
    for member in &mut members[..3] {
        member.launch();
    }
    twin.launch();
    let down = members[3].peer_url();
    let is_told = async || {
        let printed = members[0].process().printed();
        let says = |line: &str| {
            let texts = ["waiting for 3 of 5 members; 2 answer", "m3", down.as_str()];
            let causes = ["cluster ID mismatch", "Connection refused"];
            texts.iter().chain(&causes).all(|text| line.contains(text))
        };
        printed.lines().any(says)
    };
    until(is_told, "who does not answer and why").await;
    let hears_both = members[1].process();
    let told = hears_both.wait_for_line("two processes run as this member");
    told.unwrap();
}
