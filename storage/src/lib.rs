//! What is on disk: the write-ahead log, the MVCC store and snapshots; and how a command changes
//! them.
//!
//! This crate is deterministic: bytes in, bytes out. It knows no actor, no clock, no socket and no
//! raft library; an entry is an id, a kind and bytes.

#![forbid(unsafe_code)]

pub mod apply;
pub mod backup;
pub mod bbolt;
pub mod data_dir;
pub mod entry;
pub mod error;
pub mod snapshot;
pub mod store;
pub mod wal;
