//! A whole member in this process, on ports that the system chose, asked over gRPC.
#![allow(clippy::unwrap_used)]

mod bounds;
mod kv;
mod maintenance;
mod process;
mod reads;
mod txn;
mod world;
