//! Membership changes that a leader began and did not finish, or whose end it did not tell.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use althing_api::id::MemberId;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use openraft::async_runtime::WatchReceiver;
use tempfile::TempDir;

use super::*;
use crate::peer_link::{
    Call, Knock, LinkError, OpenPipe, Peer, Pipe, SnapshotBytes, change as wire,
};
use crate::raft_node::Change;
use crate::raft_node::types::{Metrics, RaftHandle};
use crate::testing::{DEADLINE, Loopback, attempt, find, one_of, until};

struct Member {
    dir: TempDir,
    settings: NodeSettings,
    node: Node,
    handles: Handles,
}

async fn launch(network: &Loopback, number: u64) -> Member {
    launch_on(network, network.transport(number), number).await
}

async fn launch_on(network: &Loopback, transport: Arc<dyn Transport>, number: u64) -> Member {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = one_of(number, 3);
    if number > 3 {
        settings.founders.clear();
        settings.joins = true;
    }
    settings.raft.heartbeat_interval = Duration::from_millis(50);
    // Long enough that a busy machine is not taken for a dead leader.
    settings.raft.election_timeout = Duration::from_secs(2);
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
        let ready = tokio::time::timeout(DEADLINE, ready).await;
        ready.expect("it comes to serve").unwrap();
    }

    fn raft(&self) -> RaftHandle {
        self.node.raft.as_ref().unwrap().raft.clone()
    }

    fn metrics(&self) -> Metrics {
        self.raft().metrics().borrow_watched().clone()
    }
}

/// A network that, while `forgets` is set, delivers a membership change but answers that its
/// outcome is unknown.
#[derive(Debug)]
struct Forgetful {
    inner: Arc<dyn Transport>,
    forgets: Arc<AtomicBool>,
}

impl Transport for Forgetful {
    fn call(
        &self,
        peer: &Peer,
        call: Call,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        let asked = self.inner.call(peer, call, body);
        let forgets = Arc::clone(&self.forgets);
        async move {
            let answer = asked.await?;
            let is_made = call == Call::ChangeMembers
                && matches!(wire::answer_in(answer.clone()), Ok(Ok(Change::Done { .. })));
            let is_forgotten = is_made && forgets.swap(false, Ordering::Relaxed);
            Ok(if is_forgotten {
                wire::answer_out(Ok(Change::Unsure))
            } else {
                answer
            })
        }
        .boxed()
    }

    fn knock(&self, peer: &Peer) -> BoxFuture<'static, Knock> {
        self.inner.knock(peer)
    }

    fn open(&self, peer: &Peer, pipe: Pipe) -> BoxFuture<'static, Result<OpenPipe, LinkError>> {
        self.inner.open(peer, pipe)
    }

    fn send_snapshot(
        &self,
        peer: &Peer,
        head: Bytes,
        body: SnapshotBytes,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        self.inner.send_snapshot(peer, head, body)
    }
}

#[actix::test]
async fn a_change_of_which_nobody_knew_whether_it_is_made_is_made_once() {
    let network = Loopback::default();
    let forgets = Arc::new(AtomicBool::new(false));
    let mut members = Vec::new();
    for number in 1..=3 {
        let transport = Arc::new(Forgetful {
            inner: network.transport(number),
            forgets: Arc::clone(&forgets),
        });
        members.push(launch_on(&network, transport, number).await);
    }
    join_all(members.iter().map(Member::ready)).await;
    let follows = |member: &Member| {
        let leader = member.handles.leader();
        leader != MemberId(0) && leader != member.settings.member_id
    };
    let id = MemberId(4);
    let urls = |port: u16| vec![format!("http://m4:{port}")];
    let (peer_urls, is_learner) = (urls(1), true);
    let changes = [
        MemberChange::Add {
            id,
            peer_urls,
            is_learner,
        },
        MemberChange::Update {
            id,
            peer_urls: urls(2),
        },
        MemberChange::Remove(id),
    ];
    for change in changes {
        let made = attempt("the members hear one another", async || {
            // Looked up each time: a former follower may lead by now.
            let follower = find("a follower", || members.iter().position(follows)).await;
            forgets.store(true, Ordering::Relaxed);
            let handles = &members[follower].handles;
            match handles.change_members(change.clone()).await {
                Err(Error::UnhealthyCluster) => None,
                made => Some(made),
            }
        })
        .await;
        // If the second request looked like a first one, the leader would refuse to add a member
        // that is there, or to remove one that is not.
        let known = made.unwrap();
        assert!(!forgets.load(Ordering::Relaxed), "an answer was forgotten");
        let four = known.iter().find(|member| member.id == id);
        match change {
            MemberChange::Add { .. } => assert_eq!(four.unwrap().peer_urls, urls(1)),
            MemberChange::Update { .. } => assert_eq!(four.unwrap().peer_urls, urls(2)),
            _ => assert!(four.is_none()),
        }
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
    attempt("the members hear one another", async || {
        match handles.change_members(learner.clone()).await {
            Err(Error::UnhealthyCluster) => None,
            changed => Some(changed.unwrap()),
        }
    })
    .await;
    members.push(launch(&network, 4).await);
    members[3].ready().await;

    // The future that is dropped here would make the second of the two steps.
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
