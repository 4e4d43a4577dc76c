//! Members come and go, on a network inside one process: an absent member never counts, and a
//! removed one learns that it was removed.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use althing_actors::node::{Handles, MemberChange, MemberStatus, Node, NodeSettings};
use althing_actors::testing::{DEADLINE, Loopback, attempt, find, one_of};
use althing_api::commandpb::{Command, command};
use althing_api::error::{Code, Error};
use althing_api::etcdserverpb::PutRequest;
use althing_api::id::MemberId;
use althing_storage::data_dir::DataDir;
use tempfile::TempDir;

struct World {
    network: Loopback,
    founders: u64,
    dirs: BTreeMap<u64, TempDir>,
    members: BTreeMap<u64, (Node, Handles)>,
}

impl World {
    /// Members 1 to `founders` form the cluster.
    async fn start(founders: u64) -> World {
        let mut world = World {
            network: Loopback::default(),
            founders,
            dirs: BTreeMap::new(),
            members: BTreeMap::new(),
        };
        for number in 1..=founders {
            world.launch(number).await;
        }
        for number in 1..=founders {
            world.ready(number).await;
        }
        world
    }

    fn settings(&self, number: u64) -> NodeSettings {
        let mut settings = one_of(number, self.founders);
        if number > self.founders {
            settings.known_members = std::mem::take(&mut settings.founders);
            settings.joins = true;
        }
        settings.raft.heartbeat_interval = Duration::from_millis(50);
        // Long enough that a busy machine is not taken for a dead leader.
        settings.raft.election_timeout = Duration::from_secs(5);
        settings
    }

    async fn launch(&mut self, number: u64) {
        let dir = self.dirs.entry(number);
        let dir = dir.or_insert_with(|| tempfile::tempdir().unwrap());
        let dir = DataDir::open(dir.path()).unwrap();
        let transport = self.network.transport(number);
        let launched = Node::launch(dir, &self.settings(number), transport).await;
        let (node, handles) = launched.unwrap();
        self.network.join(number, handles.inbound().clone());
        self.members.insert(number, (node, handles));
    }

    async fn ready(&self, number: u64) {
        let (node, handles) = &self.members[&number];
        let settings = self.settings(number);
        let ready = tokio::time::timeout(DEADLINE, node.ready(handles, &settings));
        ready.await.expect("it comes to serve").unwrap();
    }

    async fn begin(&mut self, number: u64) {
        self.launch(number).await;
        self.ready(number).await;
    }

    async fn kill(&mut self, number: u64) {
        self.network.leave(number).await;
        self.members.remove(&number);
    }

    fn handles(&self, number: u64) -> Handles {
        self.members[&number].1.clone()
    }

    /// Waits until `numbers` agree on one of them as their leader.
    async fn leader_of(&self, numbers: &[u64]) -> u64 {
        find("they agree on a leader", || {
            let leader = self.handles(numbers[0]).leader().0;
            let agreed = numbers
                .iter()
                .all(|number| self.handles(*number).leader().0 == leader);
            (numbers.contains(&leader) && agreed).then_some(leader)
        })
        .await
    }

    /// Waits until a member is told that it was removed.
    async fn removed(&self, number: u64) {
        let told = self.members[&number].0.removed();
        let told = tokio::time::timeout(DEADLINE, told);
        told.await.expect("it is told that it was removed");
    }
}

fn added(number: u64, is_learner: bool) -> MemberChange {
    MemberChange::Add {
        id: MemberId(number),
        peer_urls: vec![format!("http://m{number}:2380")],
        is_learner,
    }
}

fn removal(number: u64) -> MemberChange {
    MemberChange::Remove(MemberId(number))
}

/// Makes a change, as soon as the members have heard one another.
async fn change(handles: &Handles, change: MemberChange) -> Result<Vec<MemberStatus>, Error> {
    attempt("the cluster is healthy", async || {
        match handles.change_members(change.clone()).await {
            Err(Error::UnhealthyCluster) => None,
            changed => Some(changed),
        }
    })
    .await
}

async fn put(handles: &Handles, key: &str) -> Result<(), Error> {
    let put = PutRequest {
        key: key.to_owned().into(),
        ..PutRequest::default()
    };
    let request = Some(command::Request::Put(put));
    let proposed = handles.propose(Command { request });
    let proposed = tokio::time::timeout(DEADLINE, proposed).await;
    proposed.unwrap_or(Err(Error::Timeout)).map(drop)
}

fn ids(members: &[MemberStatus]) -> Vec<u64> {
    members.iter().map(|member| member.id.0).collect()
}

/// Waits until `number` has a vote, without which it cannot be handed the lead. It leads
/// afterwards.
async fn until_it_votes(world: &World, number: u64) {
    attempt("the new member has a vote", async || {
        let numbers: Vec<u64> = world.members.keys().copied().collect();
        let leader = world.leader_of(&numbers).await;
        match world.handles(leader).move_leader(MemberId(number)).await {
            Ok(()) => Some(()),
            Err(Error::BadLeaderTransferee | Error::NotLeader | Error::TimeoutLeaderTransfer) => {
                None
            }
            Err(error) => panic!("{error}"),
        }
    })
    .await;
}

#[actix::test]
async fn a_newcomer_that_never_comes_costs_nothing_and_one_that_comes_votes_by_itself() {
    let mut world = World::start(1).await;
    let one = world.handles(1);
    let members = change(&one, added(7, false)).await.unwrap();
    assert_eq!(ids(&members), [1, 7]);
    assert!(
        !members[1].is_learner,
        "it is shown as the voter it will be"
    );
    for n in 0..20 {
        put(&one, &format!("k{n}")).await.unwrap();
    }
    assert_eq!(
        one.change_members(added(8, false)).await.unwrap_err(),
        Error::NotEnoughStartedMembers
    );
    assert_eq!(ids(&change(&one, removal(7)).await.unwrap()), [1]);
    assert_eq!(
        one.change_members(removal(7)).await.unwrap_err(),
        Error::MemberNotFound
    );
    assert_eq!(
        one.change_members(added(7, false)).await.unwrap_err(),
        Error::MemberNotFound,
        "an id is given once"
    );

    change(&one, added(2, false)).await.unwrap();
    world.begin(2).await;
    change(&one, added(3, false)).await.unwrap();
    world.begin(3).await;
    until_it_votes(&world, 2).await;
    until_it_votes(&world, 3).await;
    world.kill(3).await;
    put(&world.handles(2), "two of three").await.unwrap();
    let members = world.handles(2).members();
    assert_eq!(ids(&members), [1, 2, 3]);
    assert!(members.iter().all(|member| !member.name.is_empty()));
}

#[actix::test]
async fn the_wish_for_a_vote_survives_restarts_and_other_leaders() {
    let mut world = World::start(3).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    change(&world.handles(leader), added(4, false))
        .await
        .unwrap();
    world.kill(leader).await;
    let rest: Vec<u64> = (1..=3).filter(|number| *number != leader).collect();
    world.leader_of(&rest).await;
    put(&world.handles(rest[0]), "k").await.unwrap();
    for number in &rest {
        world.kill(*number).await;
    }
    for number in 1..=3 {
        world.launch(number).await;
    }
    for number in 1..=3 {
        world.ready(number).await;
    }
    world.begin(4).await;
    until_it_votes(&world, 4).await;
}

#[actix::test]
async fn the_leader_is_removed_by_its_successor_and_goes() {
    let world = World::start(3).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    let rest: Vec<u64> = (1..=3).filter(|number| *number != leader).collect();
    // The leader answers when asked itself, although the last entry no longer reaches it.
    let asked = world.handles(leader);
    let members = change(&asked, removal(leader)).await.unwrap();
    assert_eq!(ids(&members), rest);
    let successor = world.leader_of(&rest).await;
    put(&world.handles(rest[0]), "k").await.unwrap();
    world.removed(leader).await;

    let last = rest.into_iter().find(|number| *number != successor);
    let last = last.unwrap();
    let members = change(&world.handles(last), removal(last)).await.unwrap();
    assert_eq!(ids(&members), [successor]);
    put(&world.handles(successor), "k").await.unwrap();
    world.removed(last).await;
}

#[actix::test]
async fn a_member_that_is_removed_while_it_is_away_is_told_when_it_comes_back() {
    let mut world = World::start(3).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    let away = 1 + leader % 3;
    world.kill(away).await;
    let handles = world.handles(leader);
    change(&handles, removal(away)).await.unwrap();
    put(&handles, "k").await.unwrap();
    world.launch(away).await;
    world.removed(away).await;

    // A learner is told as well, although it asks nobody for votes.
    change(&handles, added(4, true)).await.unwrap();
    world.begin(4).await;
    world.kill(4).await;
    change(&handles, removal(4)).await.unwrap();
    world.launch(4).await;
    world.removed(4).await;
}

#[actix::test]
async fn who_is_removed_before_it_heard_a_leader_is_told_all_the_same() {
    let mut world = World::start(1).await;
    let one = world.handles(1);
    for is_learner in [false, true] {
        let newcomer = 2 + u64::from(is_learner);
        change(&one, added(newcomer, is_learner)).await.unwrap();
        change(&one, removal(newcomer)).await.unwrap();
        world.launch(newcomer).await;
        world.removed(newcomer).await;
    }
}

#[actix::test]
async fn a_learner_follows_without_a_vote_until_it_is_promoted() {
    let mut world = World::start(1).await;
    let one = world.handles(1);
    let members = change(&one, added(2, true)).await.unwrap();
    assert!(members[1].is_learner);
    assert_eq!(
        one.change_members(added(3, true)).await.unwrap_err(),
        Error::TooManyLearners
    );
    let promotion = MemberChange::Promote(MemberId(2));
    assert_eq!(
        one.change_members(promotion.clone()).await.unwrap_err(),
        Error::LearnerNotReady
    );
    world.begin(2).await;
    assert!(world.handles(2).is_learner());
    assert_eq!(
        one.move_leader(MemberId(2)).await,
        Err(Error::BadLeaderTransferee)
    );
    world.network.isolate(2);
    put(&one, "alone").await.unwrap();
    world.network.heal(2);
    let members = attempt("the learner is ready", async || {
        // When the learner is asked, the leader makes the change.
        match world.handles(2).change_members(promotion.clone()).await {
            Ok(members) => Some(members),
            Err(error) => {
                let may_pass = error == Error::LearnerNotReady || error.code() == Code::Unavailable;
                assert!(may_pass, "{error}");
                None
            }
        }
    })
    .await;
    assert!(!members[1].is_learner);
    until_it_votes(&world, 2).await;
    assert!(!world.handles(2).is_learner());
    assert_eq!(
        world
            .handles(2)
            .change_members(promotion)
            .await
            .unwrap_err(),
        Error::MemberNotLearner
    );
}

#[actix::test]
async fn changes_asked_for_at_once_are_made_one_after_the_other() {
    let world = World::start(3).await;
    world.leader_of(&[1, 2, 3]).await;
    let update = |number: u64| {
        let handles = world.handles(number);
        async move {
            change(
                &handles,
                MemberChange::Update {
                    id: MemberId(number),
                    peer_urls: vec![format!("http://elsewhere{number}:2380")],
                },
            )
            .await
        }
    };
    let (a, b, c) = tokio::join!(update(1), update(2), update(3));
    for changed in [a, b, c] {
        changed.unwrap();
    }
    for number in 1..=3 {
        let handles = world.handles(number);
        handles.read_index().await.unwrap();
        for member in handles.members() {
            let expected = format!("http://elsewhere{}:2380", member.id.0);
            assert_eq!(member.peer_urls, [expected]);
            assert!(!member.client_urls.is_empty(), "what it published stays");
        }
    }
}
