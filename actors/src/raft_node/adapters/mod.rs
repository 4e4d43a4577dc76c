//! What openraft asks of its surroundings, on our parts: the log on WalWriter, the state machine on
//! the Applier and the Snapshotter, the network on PeerLinks, the runtime on tokio with raft's own
//! clock; and the types and the configuration that openraft is built with.
//!
//! openraft calls this folder. Nothing in it decides what the member does: it translates, keeps
//! order, and says when a thing is durable.

pub(super) mod clock;
pub(super) mod config;
pub(super) mod core_queue;
pub(super) mod entry;
mod full_disk;
pub(super) mod log_store;
pub(super) mod network;
mod runtime;
pub(super) mod state_machine;
pub(crate) mod types;
