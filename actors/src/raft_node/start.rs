//! Starts openraft and RaftNode on the raft thread, in an order in which nothing is missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use openraft::errors::{InitializeError, RaftError};
use tokio::sync::oneshot;

use super::adapters::clock;
use super::adapters::config::config;
use super::adapters::network::Network;
use super::lead::sole_voter::is_sole_voter;
use super::types::{PeerNode, RaftHandle, Types};
use super::{LogStore, RaftNode, RaftNodeSetup, StateMachine};
use crate::arbiters::Thread;
use crate::peer_link::Links;
use openraft::Raft;

/// What raft is built from.
pub(crate) struct RaftSetup {
    pub(crate) cluster_name: String,
    pub(crate) log_store: LogStore,
    pub(crate) state_machine: StateMachine,
    pub(crate) node: RaftNodeSetup,
    pub(crate) links: Arc<Links>,
    /// The first configuration: each voter's id and peer URLs. Written if the log is empty. Empty
    /// for a joining member, whose log begins with what the leader sends.
    pub(crate) founders: BTreeMap<u64, Vec<String>>,
}

/// A running raft.
pub(crate) struct StartedRaft {
    pub(crate) raft: RaftHandle,
    pub(crate) node: Addr<RaftNode>,
    /// The last entry that the log held before raft ran.
    held: Option<u64>,
}

/// Builds and runs raft on `thread`. Errors, as text: a log and a store that do not fit, settings
/// that raft refuses, or a thread that is gone.
pub(crate) async fn start(thread: &Thread, setup: RaftSetup) -> Result<StartedRaft, String> {
    let (sender, receiver) = oneshot::channel();
    thread.spawn(async move {
        // Nobody waits any more if the start was given up.
        let _ = sender.send(start_here(setup).await);
    });
    receiver
        .await
        .map_err(|_| "the raft thread ended".to_owned())?
}

async fn start_here(setup: RaftSetup) -> Result<StartedRaft, String> {
    let me = setup.node.me;
    let config = config(setup.cluster_name).map_err(|error| error.to_string())?;
    clock::set_election_timeout(setup.node.tuning.get().election_timeout);
    let held = setup.log_store.last_index();
    let network = Network {
        links: setup.links,
        progress: Arc::clone(&setup.node.progress),
    };
    let raft: RaftHandle = Raft::build(me, config, network, setup.log_store, setup.state_machine)
        .await
        .map_err(|error| error.to_string())?;
    // RaftNode listens before the core can say anything.
    let node = RaftNode::new(raft.clone(), setup.node).start();
    raft.run();
    bootstrap(&raft, setup.founders).await?;
    elect_sole_voter(&raft, me).await?;
    Ok(StartedRaft { raft, node, held })
}

/// Writes the first configuration into an empty log.
async fn bootstrap(raft: &RaftHandle, founders: BTreeMap<u64, Vec<String>>) -> Result<(), String> {
    if founders.is_empty() {
        return Ok(());
    }
    let nodes: BTreeMap<u64, PeerNode> = founders
        .into_iter()
        .map(|(id, peer_urls)| {
            let node = PeerNode {
                peer_urls,
                ..PeerNode::default()
            };
            (id, node)
        })
        .collect();
    match raft.initialize(nodes).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Makes a sole voter campaign at once: it need not wait for an election timeout, since there is no
/// leader to hear from.
async fn elect_sole_voter(raft: &RaftHandle, me: u64) -> Result<(), String> {
    let sole = raft
        .with_raft_state(move |state| {
            let membership = state.membership_state.effective().membership().clone();
            is_sole_voter(&membership, me)
        })
        .await
        .map_err(|error| error.to_string())?;
    if sole {
        raft.trigger()
            .elect(false)
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

impl StartedRaft {
    /// Waits until everything that the log could have applied before the start is applied again:
    /// what it held then, and what the leader has of that. openraft's own wait is for the log as it
    /// is now, which under steady writes is always ahead of what is known to be committed.
    pub(crate) async fn recovered(&self) -> Result<(), String> {
        let forever: Option<Duration> = None;
        let held = self.held;
        let wait = self.raft.wait(forever);
        let waited = wait.metrics(
            |metrics| {
                let needed = held.min(metrics.last_log_index);
                let committed = metrics.cluster_committed.map(|id| id.index());
                let applied = metrics.last_applied.map(|id| id.index());
                committed.is_some() && committed >= needed && applied >= needed
            },
            "recovery",
        );
        waited.await.map(drop).map_err(|error| error.to_string())
    }

    /// Stops the core; proposals that are under way are answered `Stopped`.
    pub(crate) async fn stop(&self) {
        // An error here means that the core ended before.
        let _: Result<(), openraft::alias::JoinErrorOf<Types>> = self.raft.shutdown().await;
    }
}
