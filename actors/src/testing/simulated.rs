//! Entry points of simulations: a thread that is a world of its own, and a node that lives there.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use althing_storage::data_dir::DataDir;
use althing_storage::wal::{Background, Disk, LogTail, Recovery, Wal};

use crate::ground;
use crate::node::{Handles, Node, NodeSettings, StartError, open_beside};
use crate::peer_link::Transport;
use crate::raft_node::membership;

/// Makes this thread a simulation: nodes launched on it start no threads, and what chance decides
/// follows from `seed`. It needs a runtime with a paused clock, and a `LocalSet` for each node.
pub fn simulate(seed: u64) {
    ground::simulate(seed);
}

/// Lets simulated time pass, while the nodes run.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A node of a simulation.
#[derive(Debug)]
pub struct Simulated {
    /// The node.
    pub node: Node,
    /// What clients and other members use.
    pub handles: Handles,
    /// The content of its log, for checks.
    pub log: LogTail,
}

/// Launches a node whose log is on `disk`; `found` is shown what the log holds before the node acts
/// on it. Errors: those of [`Node::launch`].
pub async fn launch_simulated(
    disk: Arc<dyn Disk>,
    dir: &Path,
    settings: &NodeSettings,
    transport: Arc<dyn Transport>,
    found: impl FnOnce(&Recovery),
) -> Result<Simulated, StartError> {
    let dir = DataDir::open(dir)?;
    let settings_of_log = settings.wal.clone();
    let log = Wal::open_on(disk, &dir.wal(), settings_of_log, Background::Inline)?;
    found(&log.1);
    let opened = open_beside(log, dir, settings)?;
    let log = opened.wal.tail();
    let (node, handles) = Node::launch_opened(opened, settings, transport).await?;
    Ok(Simulated { node, handles, log })
}

/// The voter sets in the payload of a membership entry: two while one gives way to the other.
///
/// # Panics
/// If `payload` is not a membership.
pub fn voter_sets(payload: &[u8]) -> Vec<BTreeSet<u64>> {
    let membership = membership::decode(payload).expect("written by a member");
    membership.get_joint_config().clone()
}
