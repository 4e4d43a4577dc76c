//! Raft is tuned again while it runs: the last choice is in force, and nothing breaks.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use althing_actors::node::{Handles, Node, RaftTuning};
use althing_actors::testing::{DEADLINE, Loopback, find, one_of, until};
use althing_api::commandpb::{Command, command};
use althing_api::etcdserverpb::PutRequest;
use althing_storage::data_dir::DataDir;
use futures_util::future::join_all;
use tempfile::TempDir;

/// With this, no election comes while a test waits.
const SLOW: RaftTuning = RaftTuning {
    heartbeat_interval: Duration::from_secs(1),
    election_timeout: Duration::from_secs(DEADLINE.as_secs() * 2),
    snapshot_count: 10_000,
    learners_max: 1,
};
/// With this, a busy machine is not taken for a dead leader.
const STEADY: RaftTuning = RaftTuning {
    heartbeat_interval: Duration::from_millis(50),
    election_timeout: Duration::from_secs(2),
    ..SLOW
};
/// With this, an election comes soon, compared with `SLOW`.
const FAST: RaftTuning = RaftTuning {
    heartbeat_interval: Duration::from_millis(100),
    election_timeout: Duration::from_secs(1),
    ..SLOW
};
/// With this, a member waits less than a heartbeat of `SLOW` takes.
const IMPATIENT: RaftTuning = RaftTuning {
    heartbeat_interval: Duration::from_millis(30),
    election_timeout: Duration::from_millis(300),
    ..SLOW
};

struct World {
    network: Loopback,
    members: Vec<(Node, Handles)>,
    _dirs: Vec<TempDir>,
}

impl World {
    async fn start() -> World {
        let network = Loopback::default();
        let dirs: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let (mut members, mut all_settings) = (Vec::new(), Vec::new());
        for number in 1..=3 {
            let mut settings = one_of(number, 3);
            settings.raft = STEADY;
            let dir = DataDir::open(dirs[number as usize - 1].path()).unwrap();
            let launched = Node::launch(dir, &settings, network.transport(number)).await;
            let (node, handles) = launched.unwrap();
            network.join(number, handles.inbound().clone());
            members.push((node, handles));
            all_settings.push(settings);
        }
        let both = members.iter().zip(&all_settings);
        let ready = both.map(|((node, handles), settings)| node.ready(handles, settings));
        let ready = tokio::time::timeout(DEADLINE, join_all(ready)).await;
        for ready in ready.expect("they come to serve") {
            ready.unwrap();
        }
        World {
            network,
            members,
            _dirs: dirs,
        }
    }

    fn retune(&self, tuning: RaftTuning) {
        for (_, handles) in &self.members {
            handles.retune(tuning);
        }
    }

    /// Returns when all members go on with what they were last told: what is sent to a member now
    /// is behind that in its mailbox.
    async fn settle(&self) {
        let pulses = self.members.iter().map(|(_, handles)| handles.pulse());
        for pulse in join_all(pulses).await {
            pulse.unwrap();
        }
    }

    fn handles(&self, number: u64) -> &Handles {
        &self.members[number as usize - 1].1
    }

    /// The member that all of these take for the leader, other than `former`.
    async fn leader(&self, of: &[u64], former: u64) -> u64 {
        find("they agree on a leader", || {
            let leader = self.handles(of[0]).leader().0;
            let agreed = of.iter().all(|n| self.handles(*n).leader().0 == leader);
            (leader != 0 && leader != former && agreed).then_some(leader)
        })
        .await
    }
}

async fn put(handles: &Handles) {
    let put = PutRequest {
        key: "k".into(),
        ..PutRequest::default()
    };
    let request = Some(command::Request::Put(put));
    let proposed = handles.propose(Command { request });
    let proposed = tokio::time::timeout(DEADLINE, proposed).await;
    proposed.expect("in time").unwrap().response.unwrap();
}

#[actix::test]
async fn a_shorter_election_timeout_decides_the_election_that_is_already_waited_for() {
    let world = World::start().await;
    world.retune(SLOW);
    world.settle().await;
    let leader = world.leader(&[1, 2, 3], 0).await;
    let rest: Vec<u64> = (1..=3).filter(|number| *number != leader).collect();
    put(world.handles(rest[0])).await;
    world.network.isolate(leader);
    world.retune(FAST);
    let another = |number: &u64| ![0, leader].contains(&world.handles(*number).leader().0);
    until("one of them sees another leader", || {
        rest.iter().any(another)
    })
    .await;
    world.retune(SLOW);
    world.settle().await;
    // Not earlier: while `FAST` is in force, a busy machine may take a leader for dead.
    let next = world.leader(&rest, leader).await;
    put(world.handles(next)).await;
    world.network.heal(leader);
    assert_eq!(world.leader(&[1, 2, 3], leader).await, next);
}

#[actix::test]
async fn a_member_that_waits_less_than_the_heartbeats_take_deposes_nobody() {
    let world = World::start().await;
    world.retune(SLOW);
    world.settle().await;
    let leader = world.leader(&[1, 2, 3], 0).await;
    let term = world.handles(leader).term();
    let impatient = leader % 3 + 1;
    world.handles(impatient).retune(IMPATIENT);
    // For long enough that it wants to be elected again and again, and is refused.
    let seen = || world.handles(impatient).leader().0;
    until("it misses the leader", || seen() == 0).await;
    until("it hears the leader again", || seen() == leader).await;
    until("it misses the leader again", || seen() == 0).await;
    put(world.handles(impatient)).await;
    assert_eq!(world.handles(leader).leader().0, leader);
    assert_eq!(world.handles(leader).term(), term);
}
