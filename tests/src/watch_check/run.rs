//! One run: writers, historian, readers, a compactor and a task that ends the member, together.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use althing_api::etcdserverpb as pb;
use futures_util::future::try_join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Board;
use super::changes::{self, Writer};
use super::checker::Counts;
use super::historian;
use super::reader::{Deeds, Reader};
use crate::grpc::{Grpc, path};
use crate::member::Member;

/// How many revisions a compaction leaves, at least and at most.
const HISTORY_KEPT: std::ops::Range<i64> = 20..1_200;
/// Revisions between compactions, at most.
const COMPACTION_EVERY: i64 = 300;

/// How much of everything a run has.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed that all choices follow from; the timing of the member and the network does not.
    pub seed: u64,
    /// The number of revisions that the writers make.
    pub revisions: i64,
    /// The number of writers.
    pub writers: usize,
    /// The number of readers over gRPC, each with a stream.
    pub grpc_readers: usize,
    /// The number of readers of the gateway, each with a connection.
    pub json_readers: usize,
    /// Watchers of each reader over gRPC; readers of the gateway have two.
    pub watchers: usize,
    /// How often the member is killed or stopped, and started again.
    pub restarts: usize,
    /// Whether the member is a real etcd, with known flaws.
    pub is_etcd: bool,
}

/// What a run showed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// The last revision.
    pub revisions: i64,
    /// The number of answers that agree with the history.
    pub answers: usize,
    /// What all watchers saw.
    pub counts: Counts,
    /// What all readers did.
    pub deeds: Deeds,
}

/// Runs a plan on a member with an empty store.
///
/// # Errors
/// What is wrong; the plan's seed replays a similar run.
pub async fn run(plan: Plan, member: &mut Member) -> Result<Report, String> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let board = Arc::new(Board::new(member.client_port(), plan.is_etcd));
    historian::begin(&board).await?;
    let mut writing = Vec::new();
    for number in 0..plan.writers {
        let (board, random) = (Arc::clone(&board), StdRng::from_rng(&mut random));
        writing.push(spawned(async move {
            let mut writer = Writer::new(number, random);
            writer.write(&board, plan.revisions).await?;
            Ok(writer)
        }));
    }
    let mut reading = Vec::new();
    for number in 0..plan.grpc_readers + plan.json_readers {
        let (board, random) = (Arc::clone(&board), StdRng::from_rng(&mut random));
        let is_json = number >= plan.grpc_readers;
        let watchers = if is_json { 2 } else { plan.watchers };
        reading.push(spawned(async move {
            let mut reader = Reader::new(number, watchers, is_json, random);
            reader.watch(&board).await?;
            Ok(reader)
        }));
    }
    let (of_record, of_compactor) = (Arc::clone(&board), Arc::clone(&board));
    let recording = spawned(async move { historian::record(&of_record).await });
    let chance = StdRng::from_rng(&mut random);
    let compacting = spawned(async move { compact(&of_compactor, chance).await });
    let changing = async {
        let (writers, ()) = tokio::try_join!(
            try_join_all(writing),
            restart(&board, plan, member, &mut random)
        )?;
        let last = changes::finish(&board).await?;
        board.history.wait_for(last).await;
        board.last.send_replace(Some(last));
        Ok((last, writers))
    };
    let ((last, writers), readers, (), ()) =
        tokio::try_join!(changing, try_join_all(reading), recording, compacting)?;
    let mut report = Report {
        revisions: last,
        ..Report::default()
    };
    for writer in &writers {
        report.answers += writer.check(&board.history)?;
    }
    for reader in &readers {
        report.add(reader);
    }
    Ok(report)
}

/// Runs a task beside the others, on any thread; it stops with the caller.
async fn spawned<T: Send + 'static>(
    task: impl Future<Output = Result<T, String>> + Send + 'static,
) -> Result<T, String> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(task);
    let joined = tasks.join_next().await.expect("one task was spawned");
    joined.map_err(|error| error.to_string())?
}

impl Report {
    fn add(&mut self, reader: &Reader) {
        let (counts, deeds) = reader.report();
        self.counts += counts;
        self.deeds.resumed += deeds.resumed;
        self.deeds.paused += deeds.paused;
        self.deeds.cancelled += deeds.cancelled;
        self.deeds.compacted += deeds.compacted;
    }
}

/// Kills or stops the member now and then, and starts it again.
async fn restart(
    board: &Board,
    plan: Plan,
    member: &mut Member,
    random: &mut StdRng,
) -> Result<(), String> {
    let every = plan.revisions / (plan.restarts as i64 + 1);
    for number in 1..=plan.restarts {
        let after = every * number as i64 + random.random_range(0..every / 2);
        let mut acknowledged = board.acknowledged.subscribe();
        let reached = acknowledged.wait_for(|highest| *highest >= after);
        reached
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())?;
        let is_kill = random.random();
        board.serving.send_replace(0);
        tokio::task::block_in_place(|| {
            if is_kill {
                member.kill();
            } else {
                member.stop();
            }
            member.restart();
        });
        board.serving.send_replace(number as u64 + 1);
    }
    Ok(())
}

/// Compacts now and then to a revision that has been read.
async fn compact(board: &Board, mut random: StdRng) -> Result<(), String> {
    loop {
        let after = *board.acknowledged.borrow() + random.random_range(1..COMPACTION_EVERY);
        board.reached(after).await;
        if board.last.borrow().is_some() {
            return Ok(());
        }
        let oldest = board.compacted_perhaps();
        let newest = board.history.known() - random.random_range(HISTORY_KEPT);
        if newest <= oldest.max(1) {
            continue;
        }
        let revision = random.random_range(oldest + 1..=newest);
        board.compacting.store(revision, Ordering::SeqCst);
        board.served().await;
        let Ok(mut client) = Grpc::connect(board.port).await else {
            continue;
        };
        let request = pb::CompactionRequest {
            revision,
            physical: random.random(),
        };
        let answer = client.unary(path::COMPACT, &request).await;
        match answer.map(|_: pb::CompactionResponse| ()) {
            Ok(()) => (),
            // The member went down; whether it compacted is unknown.
            Err(status) if std::error::Error::source(&status).is_some() => (),
            Err(status) => return Err(format!("compaction to {revision}: {status}")),
        }
    }
}
