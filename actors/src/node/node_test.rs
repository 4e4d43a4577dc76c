//! A whole node on real files, used as its front ends use it.

use std::io;

use actix::{ActorContext, Context, Handler, Message};
use althing_api::commandpb::Command;
use althing_api::etcdserverpb::{CompactionRequest, PutRequest};
use althing_api::range::KeyRange;
use althing_storage::wal::Background;
use althing_storage::wal::faulty_disk::{FaultyDisk, Operation};
use futures_util::future::join_all;
use tempfile::TempDir;

use althing_storage::entry::LogId;

use super::*;
use crate::applier::Applier;
use crate::raft_node::RaftNode;
use crate::snapshotter::{OpenSnapshot, Receive, Snapshotter};
use crate::store_writer::{Restore, StoreWriter};
use crate::supervisor::Exit;
use crate::testing::{DEADLINE, Loopback, one_member, start_alone};
use crate::wal_writer::WalWriter;
use crate::watch_hub::WatchHub;

#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
struct Die(Exit);

fn die<A: Actor<Context = Context<A>>>(exit: Exit, ctx: &mut Context<A>) {
    match exit {
        Exit::Panicked => panic!("this actor was told to panic"),
        Exit::Stopped => ctx.stop(),
    }
}

impl Handler<Die> for WalWriter {
    type Result = ();

    fn handle(&mut self, Die(exit): Die, ctx: &mut Context<Self>) {
        die(exit, ctx);
    }
}

impl Handler<Die> for Applier {
    type Result = ();

    fn handle(&mut self, Die(exit): Die, ctx: &mut Context<Self>) {
        die(exit, ctx);
    }
}

impl Handler<Die> for StoreWriter {
    type Result = ();

    fn handle(&mut self, Die(exit): Die, ctx: &mut Context<Self>) {
        die(exit, ctx);
    }
}

impl Handler<Die> for WatchHub {
    type Result = ();

    fn handle(&mut self, Die(exit): Die, ctx: &mut Context<Self>) {
        die(exit, ctx);
    }
}

impl Handler<Die> for Snapshotter {
    type Result = ();

    fn handle(&mut self, Die(exit): Die, ctx: &mut Context<Self>) {
        die(exit, ctx);
    }
}

impl Handler<Die> for RaftNode {
    type Result = ();

    fn handle(&mut self, Die(exit): Die, ctx: &mut Context<Self>) {
        die(exit, ctx);
    }
}

async fn running() -> (TempDir, Node, Handles) {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let (node, handles) = start_alone(dir, one_member()).await.unwrap();
    (temp, node, handles)
}

fn put(n: usize) -> Command {
    let put = PutRequest {
        key: format!("key{n}").into(),
        value: "value".into(),
        ..PutRequest::default()
    };
    Command {
        request: Some(command::Request::Put(put)),
    }
}

async fn cause_of_halt(node: &mut Node) -> String {
    tokio::time::timeout(DEADLINE, node.halted())
        .await
        .expect("the node halts")
        .0
}

/// Tries every core actor and both ways to die.
#[actix::test]
async fn the_death_of_a_core_actor_halts_the_node() {
    for exit in [Exit::Panicked, Exit::Stopped] {
        for victim in ["WalWriter", "Applier", "StoreWriter", "RaftNode"] {
            let (_temp, mut node, handles) = running().await;
            let tree = node.tree.as_ref().unwrap();
            match victim {
                "WalWriter" => tree.wal_writer.do_send(Die(exit)),
                "Applier" => tree.state_machine.applier.do_send(Die(exit)),
                "StoreWriter" => tree.store_writer.do_send(Die(exit)),
                _ => node.raft.as_ref().unwrap().node.do_send(Die(exit)),
            }
            assert_eq!(cause_of_halt(&mut node).await, format!("{victim} {exit}"));
            assert_eq!(handles.propose(put(0)).await.unwrap_err(), Error::Stopped);
            assert_eq!(handles.read_index().await, Err(Error::Stopped));
        }
    }
}

#[actix::test]
async fn the_death_of_the_snapshotter_is_made_good() {
    let (_temp, node, handles) = running().await;
    let snapshotter = node
        .tree
        .as_ref()
        .unwrap()
        .state_machine
        .snapshotter
        .clone();
    // The answer to this message is lost with the actor.
    assert!(snapshotter.send(Die(Exit::Panicked)).await.is_err());
    let answered = async {
        while snapshotter.send(OpenSnapshot).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, answered)
        .await
        .expect("a new one answers");
    handles.propose(put(1)).await.unwrap();
    assert_eq!(node.shared.halt.cause(), None);
}

#[actix::test]
async fn the_death_of_the_hub_ends_its_watches_and_new_ones_go_on_where_they_were() {
    let (_temp, node, handles) = running().await;
    handles.propose(put(1)).await.unwrap();
    let key = || KeyRange::One("key1".into());
    for exit in [Exit::Panicked, Exit::Stopped] {
        let mut watch = handles.watch(key(), 2);
        assert_eq!(
            watch.next().await.unwrap()[0]
                .kv
                .as_ref()
                .unwrap()
                .mod_revision,
            2
        );
        let next = watch.next_revision();
        let hub = node.tree.as_ref().unwrap().watch_hub.clone();
        // The answer is lost with the hub.
        let _ = hub.send(Die(exit)).await;
        let end = tokio::time::timeout(DEADLINE, watch.next()).await;
        assert_eq!(
            end.expect("its queue closes").unwrap_err(),
            WatchEnd::Stopped
        );
        // No notice tells of this put: the new hub reads it from the store.
        let applied = handles.propose(put(1)).await.unwrap();
        let resumed = async {
            loop {
                match handles.watch(key(), next).next().await {
                    Ok(events) => return events,
                    Err(end) => assert_eq!(end, WatchEnd::Stopped),
                }
                tokio::task::yield_now().await;
            }
        };
        let events = tokio::time::timeout(DEADLINE, resumed).await;
        let events = events.expect("a new hub serves");
        let last = events.last().unwrap().kv.as_ref().unwrap();
        assert_eq!(last.mod_revision, applied.revision);
    }
    assert_eq!(node.shared.halt.cause(), None);
}

#[actix::test]
async fn what_overflows_the_hubs_mailbox_is_read_from_the_store_even_if_it_is_compacted() {
    let (_temp, node, handles) = running().await;
    let mut watch = handles.watch(KeyRange::From("key".into()), 2);
    handles.propose(put(0)).await.unwrap();
    let mut seen = revisions(&mut watch).await;
    let (release, held) = std::sync::mpsc::channel();
    let hub = node.tree.as_ref().unwrap().watch_hub.clone();
    hub.addr().do_send(Hold(held));
    for n in 1..200 {
        handles.propose(put(n)).await.unwrap();
    }
    let compaction = CompactionRequest {
        revision: 201,
        physical: false,
    };
    let request = Some(command::Request::Compaction(compaction));
    let compacted = handles.propose(Command { request }).await.unwrap();
    assert!(compacted.response.is_ok());
    release.send(()).unwrap();
    while seen.len() < 200 {
        seen.extend(revisions(&mut watch).await);
    }
    assert_eq!(seen, (2..202).collect::<Vec<i64>>());
    let gone = tokio::time::timeout(DEADLINE, handles.compaction_finished(201)).await;
    gone.expect("the hub holds nothing back").unwrap();
}

/// The revisions of the next events.
async fn revisions(watch: &mut KeyWatch) -> Vec<i64> {
    let events = tokio::time::timeout(DEADLINE, watch.next()).await;
    let events = events.expect("every event comes").unwrap();
    let kvs = events.iter().flat_map(|event| &event.kv);
    kvs.map(|kv| kv.mod_revision).collect()
}

/// Keeps the hub busy until the sender sends.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold(std::sync::mpsc::Receiver<()>);

impl Handler<Hold> for WatchHub {
    type Result = ();

    fn handle(&mut self, Hold(held): Hold, _: &mut Context<Self>) {
        held.recv().unwrap();
    }
}

#[actix::test]
async fn an_error_of_the_log_answers_nobody_and_halts_the_node() {
    let temp = tempfile::tempdir().unwrap();
    let settings = one_member();
    let dir = DataDir::open(temp.path()).unwrap();
    let disk = FaultyDisk::default();
    let (wal, recovery) = Wal::open_on(
        Arc::new(disk.clone()),
        &dir.wal(),
        settings.wal.clone(),
        Background::Inline,
    )
    .unwrap();
    let store = Store::open(&dir.store(), settings.store.clone()).unwrap();
    let opened = Opened {
        dir: Arc::new(dir),
        wal,
        recovery,
        store,
        store_settings: settings.store.clone(),
        cluster_id: settings.cluster_id.0,
    };
    let transport = Loopback::default().transport(settings.member_id.0);
    let (mut node, handles) = Node::launch_opened(opened, &settings, transport)
        .await
        .unwrap();
    node.ready(&handles, &settings).await.unwrap();
    handles.propose(put(0)).await.unwrap();

    disk.set_failing(Some((Operation::Sync, io::ErrorKind::Other)));
    assert_eq!(handles.propose(put(1)).await.unwrap_err(), Error::Stopped);
    let cause = cause_of_halt(&mut node).await;
    assert!(cause.starts_with("wal: "), "{cause}");
    assert_eq!(
        handles.store().revisions().current,
        2,
        "what was not durable was not applied"
    );
}

#[actix::test]
async fn a_state_that_a_full_disk_cannot_take_over_is_given_back_and_taken_when_there_is_room() {
    let (temp, node, handles) = running().await;
    handles.propose(put(1)).await.unwrap();
    let tree = node.tree.as_ref().unwrap();
    tree.store_writer.send(Checkpoint).await.unwrap();
    let (snapshotter, store_writer) = (&tree.snapshotter, &tree.store_writer);
    let outgoing = snapshotter.send(OpenSnapshot).await.unwrap().unwrap();
    let body = outgoing.stream(|_| ());
    let received = snapshotter.send(Receive { body }).await.unwrap().unwrap();
    let applied = received.applied().clone();
    // Writing there fails with a full disk.
    let note = temp.path().join("member/snap/replacing.tmp");
    std::os::unix::fs::symlink("/dev/full", &note).unwrap();
    let restored = store_writer.send(Restore { received }).await.unwrap();
    let received = restored.unwrap().expect("it is given back");
    assert_eq!(received.applied(), &applied);
    std::fs::remove_file(&note).unwrap();
    let restored = store_writer.send(Restore { received }).await.unwrap();
    assert!(restored.unwrap().is_none(), "it is in its place");
    assert_eq!(handles.store().durable_mark(), applied);
    assert_eq!(node.shared.halt.cause(), None);
}

#[test]
fn what_arrived_and_was_not_used_is_gone_before_the_store_is_opened() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let arrival = dir.arrival(3);
    std::fs::write(&arrival, "it may fill the disk").unwrap();
    std::fs::write(dir.store(), "no store, so it does not open").unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let settings = one_member();
    let background = Background::Inline;
    let log = Wal::open_on(disk, &dir.wal(), settings.wal.clone(), background).unwrap();
    assert!(open_beside(log, dir, &settings).is_err());
    assert!(!arrival.exists());
}

#[actix::test]
async fn the_log_is_purged_behind_snapshots() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let mut settings = one_member();
    settings.raft.snapshot_count = u64::MAX;
    let mut tuning = settings.raft;
    let (node, handles) = start_alone(dir, settings).await.unwrap();
    let log = node.tree.as_ref().unwrap().log_store.clone();
    let puts = join_all((0..1_000).map(|n| handles.propose(put(n)))).await;
    assert!(puts.iter().all(Result::is_ok));
    assert_eq!(log.purged(), None, "nothing is to be purged");
    tuning.snapshot_count = 500;
    handles.retune(tuning);
    let deadline = std::time::Instant::now() + DEADLINE * 3;
    let mut purged = None;
    while purged.is_none() {
        assert!(std::time::Instant::now() < deadline, "nothing was purged");
        let puts = join_all((0..1_000).map(|n| handles.propose(put(n)))).await;
        assert!(puts.iter().all(Result::is_ok));
        purged = log.purged();
    }
    let revision = handles.store().revisions().current;
    drop((node, handles, log));

    let dir = DataDir::open(temp.path()).unwrap();
    let (_node, handles) = start_alone(dir, one_member()).await.unwrap();
    assert_eq!(handles.store().revisions().current, revision);
}

#[test]
fn a_log_and_a_store_that_do_not_fit_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let store = Store::open(&dir.store(), one_member().store).unwrap();
    let at = |index| Some(LogId { term: 1, index });
    let recovery = |purged, last| Recovery {
        purged,
        last,
        ..Recovery::default()
    };
    check(&recovery(None, at(5)), &store, None).unwrap();
    check(&recovery(at(3), at(5)), &store, None).unwrap_err();
    store.apply_blank(LogId { term: 1, index: 4 });
    store.checkpoint(LogId::MAX, 1).unwrap();
    check(&recovery(at(4), at(4)), &store, None).unwrap();
    check(&recovery(at(5), at(5)), &store, None).unwrap_err();
    check(&recovery(None, at(3)), &store, None).unwrap_err();
    check(&recovery(None, at(3)), &store, at(4)).unwrap();
}
