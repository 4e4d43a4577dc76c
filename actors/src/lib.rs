//! Who does the work: one actor per concern, under a supervisor.
//!
//! An actor is a thin shell; what it decides is in a pure file beside it. Ranks say which actor may
//! wait for which: an actor awaits only actors of a higher rank, so there is no cycle.
//!
//! | rank | actors | thread |
//! |---|---|---|
//! | 0 | ClientSession and its tasks | HTTP workers |
//! | 1 | RaftNode, and openraft's own tasks | raft |
//! | 2 | WalWriter, Applier, StoreWriter | wal, apply, store |
//! | 2 | Lessor, Upkeep, Snapshotter, WatchHub, PeerLink | lease, snap, watch, peer |
//!
//! The Supervisor runs on the main thread and awaits nobody. Requests travel through actors;
//! replies travel straight home (`reply`). [`node`] wires the tree.
//!
//! A folder is an actor, but for `node`, `disk_gate`, `metrics` and `testing`. The files beside
//! them are what actors share: what is published (`progress`, `halt`, `departure`, all with
//! `latest` values), and what all run on (`arbiters`, `ground`).

#![forbid(unsafe_code)]

mod applier;
mod arbiters;
mod chunks;
pub mod client_session;
mod departure;
mod disk_gate;
mod ground;
mod halt;
mod latest;
mod lessor;
pub mod log_limit;
mod metrics;
pub mod node;
pub mod peer_link;
mod progress;
mod raft_node;
mod reply;
mod snapshotter;
mod store_writer;
mod supervisor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod upkeep;
mod wal_writer;
pub mod watch_hub;
