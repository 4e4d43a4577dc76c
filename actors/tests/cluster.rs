//! Three nodes in one process, on a network with cuts.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use althing_actors::node::{Applied, Handles, Node, NodeSettings, StartError};
use althing_actors::testing::{DEADLINE, HangingDisk, Loopback};
use althing_actors::testing::{attempt, find, launch_on, one_of, until};
use althing_api::commandpb::{Command, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::{AlarmType, PutRequest, RangeRequest};
use althing_api::id::MemberId;
use althing_storage::apply::apply;
use althing_storage::data_dir::DataDir;
use althing_storage::entry::LogId;
use althing_storage::store::Store;
use bytes::Bytes;
use futures_util::future::join_all;
use tempfile::TempDir;

struct World {
    network: Loopback,
    dirs: Vec<TempDir>,
    disks: Vec<HangingDisk>,
    members: Vec<Option<(Node, Handles)>>,
    adjust: fn(&mut NodeSettings),
}

fn as_they_are(_: &mut NodeSettings) {}

/// Few enough entries between snapshots that a member that was away needs one.
fn with_a_short_log(settings: &mut NodeSettings) {
    settings.raft.snapshot_count = 50;
}

/// Members are compared while they run, and not before they serve.
fn compared_often(settings: &mut NodeSettings) {
    settings.upkeep.corrupt_check_interval = Duration::from_millis(200);
    settings.upkeep.initial_corrupt_check = false;
}

impl World {
    async fn start(adjust: fn(&mut NodeSettings)) -> World {
        let mut world = World {
            network: Loopback::default(),
            dirs: (0..3).map(|_| tempfile::tempdir().unwrap()).collect(),
            disks: (0..3).map(|_| HangingDisk::default()).collect(),
            members: (0..3).map(|_| None).collect(),
            adjust,
        };
        for number in 1..=3 {
            world.launch(number).await;
        }
        world.all_ready().await;
        world
    }

    fn settings(&self, number: u64) -> NodeSettings {
        let mut settings = one_of(number, 3);
        settings.raft.heartbeat_interval = Duration::from_millis(50);
        // Long enough that a busy machine is not taken for a dead leader.
        settings.raft.election_timeout = Duration::from_secs(5);
        (self.adjust)(&mut settings);
        settings
    }

    async fn launch(&mut self, number: u64) {
        let position = number as usize - 1;
        let settings = self.settings(number);
        let launched = attempt("the former node lets go of its store", async || {
            let dir = DataDir::open(self.dirs[position].path()).unwrap();
            let disk = Arc::new(self.disks[position].clone());
            let transport = self.network.transport(number);
            match launch_on(disk, dir, &settings, transport).await {
                // A thread that hashes the records may outlive the node for a moment.
                Err(error) if error.to_string().contains("lock") => None,
                launched => Some(launched.unwrap()),
            }
        });
        let (node, handles) = launched.await;
        self.network.join(number, handles.inbound().clone());
        self.members[position] = Some((node, handles));
    }

    async fn try_ready(&self, number: u64) -> Result<(), StartError> {
        let (node, handles) = self.members[number as usize - 1].as_ref().unwrap();
        let settings = self.settings(number);
        let ready = tokio::time::timeout(DEADLINE, node.ready(handles, &settings));
        ready.await.expect("it comes to serve, or is refused")
    }

    async fn ready(&self, number: u64) {
        self.try_ready(number).await.unwrap();
    }

    async fn all_ready(&self) {
        join_all((1..=3).map(|number| self.ready(number))).await;
    }

    async fn kill(&mut self, number: u64) {
        self.network.leave(number).await;
        self.members[number as usize - 1] = None;
    }

    fn handles(&self, number: u64) -> Handles {
        let (_, handles) = self.members[number as usize - 1].as_ref().unwrap();
        handles.clone()
    }

    /// The member that all of `numbers` take for the leader.
    async fn leader_of(&self, numbers: &[u64]) -> u64 {
        find("they agree on a leader", || {
            let leader = self.handles(numbers[0]).leader().0;
            let agreed = numbers
                .iter()
                .all(|n| self.handles(*n).leader().0 == leader);
            (leader != 0 && numbers.contains(&leader) && agreed).then_some(leader)
        })
        .await
    }

    fn others(&self, number: u64) -> Vec<u64> {
        (1..=3).filter(|other| *other != number).collect()
    }
}

async fn put(handles: &Handles, key: &str, value: &str) -> Result<Applied, Error> {
    let put = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    };
    let request = Some(command::Request::Put(put));
    let proposed = handles.propose(Command { request });
    let proposed = tokio::time::timeout(DEADLINE, proposed);
    proposed.await.unwrap_or(Err(Error::Timeout))
}

fn local(handles: &Handles, key: &str) -> Option<Bytes> {
    let range = RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    };
    let found = handles.store().read().range(&range).unwrap();
    found.kvs.first().map(|kv| kv.value.clone())
}

async fn get(handles: &Handles, key: &str) -> Option<Bytes> {
    let read = tokio::time::timeout(DEADLINE, handles.read_index());
    read.await.expect("a leader answers").unwrap();
    local(handles, key)
}

#[actix::test]
async fn a_write_through_any_member_is_read_from_every_member() {
    let world = World::start(as_they_are).await;
    world.leader_of(&[1, 2, 3]).await;
    for number in 1..=3 {
        let key = format!("k{number}");
        let applied = put(&world.handles(number), &key, "v").await.unwrap();
        assert!(applied.response.is_ok());
        assert_eq!(
            local(&world.handles(number), &key).unwrap(),
            "v",
            "the member that answered has it"
        );
        for reader in 1..=3 {
            let value = get(&world.handles(reader), &key).await;
            assert_eq!(value.unwrap(), "v", "written by {number}, read by {reader}");
        }
    }
    let members = world.handles(1).status().members;
    assert_eq!(members.len(), 3);
    assert!(members.iter().all(|member| !member.name.is_empty()));
    assert!(members.iter().all(|member| !member.client_urls.is_empty()));
}

#[actix::test]
async fn a_leader_cut_off_takes_no_writes_and_comes_back_as_a_follower() {
    let world = World::start(as_they_are).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    put(&world.handles(leader), "before", "v").await.unwrap();
    world.network.isolate(leader);

    let cut_off = world.handles(leader);
    until("it sees that it leads nobody", || cut_off.leader().0 == 0).await;
    let patience = Duration::from_millis(300);
    let write = tokio::time::timeout(patience, cut_off.propose(Command::default())).await;
    assert!(write.is_err(), "nobody confirms it");
    let read = tokio::time::timeout(patience, cut_off.read_index()).await;
    assert!(read.is_err(), "a read might be old");

    let rest = world.others(leader);
    let successor = world.leader_of(&rest).await;
    for number in &rest {
        put(&world.handles(*number), "during", "v").await.unwrap();
    }
    assert_eq!(local(&cut_off, "during"), None);

    world.network.heal(leader);
    assert_eq!(get(&cut_off, "during").await.unwrap(), "v");
    put(&cut_off, "after", "v").await.unwrap();
    assert_eq!(
        world.leader_of(&[1, 2, 3]).await,
        successor,
        "it is not disturbed"
    );
}

#[actix::test]
async fn a_follower_cut_off_does_not_disturb_the_others() {
    let world = World::start(as_they_are).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    let cut_off = world.others(leader)[0];
    let term = world.handles(leader).term();
    world.network.isolate(cut_off);
    until("it has lost the leader", || {
        world.handles(cut_off).leader().0 == 0
    })
    .await;
    for n in 0..20 {
        let key = format!("k{n}");
        put(&world.handles(leader), &key, "v").await.unwrap();
    }
    world.network.heal(cut_off);
    assert_eq!(get(&world.handles(cut_off), "k19").await.unwrap(), "v");
    assert_eq!(
        world.handles(leader).term(),
        term,
        "its pre-votes raised no term"
    );
    assert_eq!(world.leader_of(&[1, 2, 3]).await, leader);
}

#[actix::test]
async fn what_was_acknowledged_survives_the_death_of_the_leader_and_of_all() {
    let mut world = World::start(as_they_are).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    let follower = world.handles(world.others(leader)[0]);
    let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    for outcome in join_all(keys.iter().map(|key| put(&follower, key, "v"))).await {
        outcome.unwrap();
    }
    drop(follower);
    world.kill(leader).await;
    let rest = world.others(leader);
    world.leader_of(&rest).await;
    for key in &keys {
        let value = get(&world.handles(rest[1]), key).await;
        assert_eq!(value.unwrap(), "v", "{key}");
    }
    for number in rest {
        world.kill(number).await;
    }
    for number in 1..=3 {
        world.launch(number).await;
    }
    world.all_ready().await;
    for key in &keys {
        let value = get(&world.handles(leader), key).await;
        assert_eq!(value.unwrap(), "v", "{key}");
    }
}

async fn write_a_thousand(handles: &Handles) {
    for round in 0..20 {
        let puts: Vec<_> = (0..50).map(|n| format!("r{round}-{n}")).collect();
        for outcome in join_all(puts.iter().map(|key| put(handles, key, "v"))).await {
            outcome.unwrap();
        }
    }
}

#[actix::test]
async fn a_member_that_lags_beyond_the_log_catches_up_by_snapshot() {
    let mut world = World::start(with_a_short_log).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    let late = world.others(leader)[0];
    put(&world.handles(leader), "old", "v").await.unwrap();
    // When the log is purged, and how much of it, is up to the leader: the member stays away until
    // it needs a snapshot.
    let deadline = Instant::now() + DEADLINE;
    let (theirs, ours) = loop {
        world.kill(late).await;
        write_a_thousand(&world.handles(leader)).await;
        world.launch(late).await;
        world.ready(late).await;
        let ours = world.handles(late);
        if ours.snapshots_taken_over() > 0 {
            break (world.handles(leader), ours);
        }
        assert!(Instant::now() < deadline, "it never needed a snapshot");
    };
    assert_eq!(get(&ours, "r19-49").await.unwrap(), "v");
    assert_eq!(get(&ours, "old").await.unwrap(), "v");
    assert_eq!(
        theirs.store().hash_kv(0).unwrap(),
        ours.store().hash_kv(0).unwrap()
    );
    put(&ours, "afterwards", "v").await.unwrap();

    // The snapshot is durable, and a log that begins behind it is not damaged.
    let settings = ours.status();
    drop((theirs, ours));
    world.kill(late).await;
    world.launch(late).await;
    world.ready(late).await;
    assert_eq!(get(&world.handles(late), "afterwards").await.unwrap(), "v");
    assert_eq!(
        world.handles(late).status().members.len(),
        settings.members.len()
    );
}

#[actix::test]
async fn the_lead_moves_where_it_is_sent_and_only_to_voters() {
    let world = World::start(as_they_are).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    let [first, second] = world.others(leader)[..] else {
        unreachable!("three members")
    };
    let handles = world.handles(leader);
    let to_nobody = handles.move_leader(MemberId(99)).await;
    assert_eq!(to_nobody, Err(Error::BadLeaderTransferee));
    let by_another = world.handles(first).move_leader(MemberId(second)).await;
    assert_eq!(by_another, Err(Error::NotLeader));
    let to_itself = handles.move_leader(MemberId(leader)).await;
    assert_eq!(to_itself, Ok(()), "it leads");
    assert_eq!(handles.move_leader(MemberId(first)).await, Ok(()));
    assert_eq!(world.leader_of(&[1, 2, 3]).await, first);
    world.handles(first).step_aside().await;
    assert_ne!(world.leader_of(&[1, 2, 3]).await, first);
    put(&handles, "k", "v").await.unwrap();
}

#[actix::test]
async fn messages_of_another_cluster_or_for_another_member_are_refused() {
    let world = World::start(as_they_are).await;
    let status = world.handles(1).status();
    let inbound = world.handles(1).inbound().clone();
    assert!(
        inbound
            .admit(status.cluster_id, MemberId(2), MemberId(1))
            .is_ok()
    );
    let foreign = inbound.admit(althing_api::id::ClusterId(7), MemberId(2), MemberId(1));
    let text = foreign.unwrap_err().to_string();
    assert!(text.contains("cluster ID mismatch"), "{text}");
    let other = inbound.admit(status.cluster_id, MemberId(1), MemberId(2));
    assert!(other.unwrap_err().to_string().contains("for member 2"));
    for call in [
        althing_actors::peer_link::Call::Heartbeat,
        althing_actors::peer_link::Call::Vote,
        althing_actors::peer_link::Call::HandOver,
    ] {
        let nonsense = Bytes::from_static(b"\xff\xff\xff");
        assert!(inbound.call(call, nonsense).await.is_err());
    }
    put(&world.handles(2), "k", "v").await.unwrap();
}

/// Kills a member and writes a key into its store, behind raft's back.
async fn kill_and_corrupt(world: &mut World, number: u64) {
    let store = world.handles(number).store().clone();
    until("a checkpoint", || store.durable().is_some()).await;
    drop(store);
    world.kill(number).await;
    let dir = DataDir::open(world.dirs[number as usize - 1].path()).unwrap();
    let (path, settings) = (dir.store(), world.settings(number).store);
    let opened = || Store::open(&path, settings.clone()).ok();
    let store = find("the former node lets go of its store", opened).await;
    let place = store.applied().log_id.unwrap();
    let put = PutRequest {
        key: "alien".into(),
        ..PutRequest::default()
    };
    let request = Some(command::Request::Put(put));
    let mut txn = store.begin();
    apply(&mut txn, Command { request }).unwrap();
    txn.commit(place);
    store.checkpoint(LogId::MAX, usize::MAX).unwrap();
}

#[actix::test]
async fn a_member_with_other_records_is_found_and_the_cluster_takes_no_more_writes() {
    let mut world = World::start(compared_often).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    put(&world.handles(leader), "k", "v").await.unwrap();
    let odd = world.others(leader)[0];
    kill_and_corrupt(&mut world, odd).await;
    world.launch(odd).await;
    world.ready(odd).await;
    let id = world.handles(odd).status().member_id.0;
    for number in 1..=3 {
        let handles = world.handles(number);
        let alarm = find("the alarm", || handles.store().alarms().first().copied()).await;
        assert_eq!((alarm.alarm, alarm.member_id), (AlarmType::Corrupt, id));
    }
    let refused = put(&world.handles(leader), "k", "w").await.unwrap();
    assert_eq!(refused.response.unwrap_err(), Error::Corrupt);
}

#[actix::test]
async fn a_member_with_other_records_does_not_come_to_serve() {
    let mut world = World::start(as_they_are).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    put(&world.handles(leader), "k", "v").await.unwrap();
    let odd = world.others(leader)[0];
    kill_and_corrupt(&mut world, odd).await;
    let refused = attempt("the records are compared in time", async || {
        world.launch(odd).await;
        let refused = world.try_ready(odd).await.err();
        // On a busy machine the hashes may come too late, and then the member serves.
        if refused.is_none() {
            world.kill(odd).await;
        }
        refused
    })
    .await;
    assert!(matches!(refused, StartError::Differs), "{refused}");
}

/// The value of a counter in the member's metrics.
fn counted(handles: &Handles, name: &str) -> f64 {
    let families = handles.metrics().gather();
    let family = families.iter().find(|family| family.name() == name);
    family.unwrap().get_metric()[0].get_counter().get_value()
}

#[actix::test]
async fn a_leader_that_dies_is_replaced_long_before_the_election_timeout() {
    let mut world = World::start(as_they_are).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    put(&world.handles(leader), "k", "v").await.unwrap();
    let rest = world.others(leader);
    let mut timing = world.settings(leader).raft;
    timing.election_timeout = DEADLINE;
    (1..=3).for_each(|number| world.handles(number).retune(timing));
    let start = Instant::now();
    world.kill(leader).await;
    put(&world.handles(rest[0]), "k", "w").await.unwrap();
    let took = start.elapsed();
    // An election is never waited for less than half of the time-out.
    assert!(took < timing.election_timeout / 2, "{took:?}");
    assert_ne!(world.leader_of(&rest).await, leader);
    let seen = |number: &u64| {
        let handles = world.handles(*number);
        counted(&handles, "althing_leader_deaths_seen_total")
    };
    assert_eq!(rest.iter().map(seen).sum::<f64>(), 2.0, "both looked");
}

#[actix::test]
async fn a_leader_whose_connections_break_but_who_lives_goes_on_leading() {
    let world = World::start(as_they_are).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    put(&world.handles(leader), "k", "v").await.unwrap();
    let term = world.handles(leader).term();
    world.network.isolate(leader);
    until("they knock in vain", || world.network.knocks() >= 2).await;
    world.network.heal(leader);
    // One of them alone does not knock this often.
    until("both knock again and again", || {
        world.network.knocks() >= 12
    })
    .await;
    put(&world.handles(leader), "k", "w").await.unwrap();
    assert_eq!(world.leader_of(&[1, 2, 3]).await, leader);
    assert_eq!(world.handles(leader).term(), term);
}

#[actix::test]
async fn a_leader_whose_disk_hangs_hands_over_and_comes_back_as_a_follower() {
    let world = World::start(as_they_are).await;
    let leader = world.leader_of(&[1, 2, 3]).await;
    put(&world.handles(leader), "before", "v").await.unwrap();
    let disk = &world.disks[leader as usize - 1];
    disk.hang();
    // The disk shows that it hangs only when something is on its way there.
    let hung = world.handles(leader);
    let late = tokio::spawn(async move { put(&hung, "late", "v").await });
    let rest = world.others(leader);
    assert_ne!(world.leader_of(&rest).await, leader);
    let meanwhile = put(&world.handles(rest[0]), "meanwhile", "v").await;
    meanwhile.unwrap();
    // Repeated, if a hand-over takes long.
    let name = "althing_disk_stall_hand_overs_total";
    assert!(counted(&world.handles(leader), name) >= 1.0);
    disk.release();
    // The others committed it, or its outcome is unknown.
    let _ = late.await.unwrap();
    let value = get(&world.handles(leader), "meanwhile").await;
    assert_eq!(value.unwrap(), "v");
}
