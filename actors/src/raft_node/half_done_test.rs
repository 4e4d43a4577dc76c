//! A membership change that its leader began and did not finish.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::WatchReceiver;
use tempfile::TempDir;

use super::*;
use crate::raft_node::types::{Metrics, RaftHandle};
use crate::testing::{Loopback, find, one_of, until};

struct Member {
    dir: TempDir,
    settings: NodeSettings,
    node: Node,
    handles: Handles,
}

async fn launch(network: &Loopback, number: u64) -> Member {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = one_of(number, 3);
    if number > 3 {
        settings.initial_members.clear();
        settings.joins = true;
    }
    settings.raft.heartbeat_interval = Duration::from_millis(50);
    settings.raft.election_timeout = Duration::from_millis(500);
    let transport = network.transport(number);
    let opened = DataDir::open(dir.path()).unwrap();
    let (node, handles) = Node::launch(opened, &settings, transport).await.unwrap();
    network.join(number, handles.inbound().clone());
    Member {
        dir,
        settings,
        node,
        handles,
    }
}

impl Member {
    async fn ready(&self) {
        let ready = self.node.ready(&self.handles, &self.settings);
        ready.await.unwrap();
    }

    fn raft(&self) -> RaftHandle {
        self.node.raft.as_ref().unwrap().raft.clone()
    }

    fn metrics(&self) -> Metrics {
        self.raft().metrics().borrow_watched().clone()
    }
}

#[actix::test]
async fn a_change_that_a_leader_left_half_done_is_finished_by_whoever_leads_next() {
    let network = Loopback::default();
    let mut members = Vec::new();
    for number in 1..=3 {
        members.push(launch(&network, number).await);
    }
    join_all(members.iter().map(Member::ready)).await;
    let leads = |member: &Member| member.handles.leader() == member.settings.member_id;
    let leader = find("a leader", || members.iter().position(leads)).await;
    let learner = MemberChange::Add {
        id: MemberId(4),
        peer_urls: vec!["http://m4:2380".into()],
        is_learner: true,
    };
    let handles = members[leader].handles.clone();
    loop {
        match handles.change_members(learner.clone()).await {
            // The members have not heard one another yet.
            Err(Error::UnhealthyCluster) => tokio::task::yield_now().await,
            changed => break drop(changed.unwrap()),
        }
    }
    members.push(launch(&network, 4).await);
    members[3].ready().await;

    // The second of the two steps is made by the future that is dropped here.
    let raft = members[leader].raft();
    let promotion = openraft::ChangeMembers::AddVoterIds(BTreeSet::from([4]));
    let wait = raft.wait(None);
    let half_done = wait.metrics(
        |metrics| {
            let committed = metrics.committed_membership_config.membership();
            committed.get_joint_config().len() == 2
        },
        "two voter sets",
    );
    tokio::select! {
        biased;
        half = half_done => drop(half.unwrap()),
        _ = raft.change_membership(promotion, true) => panic!("both steps at once"),
    }
    let id = members[leader].settings.member_id.0;
    network.leave(id).await;
    let dead = members.remove(leader);
    drop((raft, handles));
    drop(dead.handles);
    drop(dead.node);
    drop(dead.dir);

    let finished = |member: &Member| {
        let metrics = member.metrics();
        let newest = metrics.membership_config.membership();
        let sets = newest.get_joint_config();
        sets.len() == 1
            && sets[0] == BTreeSet::from([1, 2, 3, 4])
            && metrics.committed_membership_config == metrics.membership_config
    };
    until("one voter set, and the new member in it", || {
        members.iter().all(finished)
    })
    .await;
}
