//! Black-box tests of the built binaries: what starts members and real etcds, what speaks to them,
//! and what compares and records their answers. It sees the wire contract and nothing else of ours.
//!
//! Every wait here is for a condition with a deadline; every port is free at the time of asking;
//! every directory is temporary; every seed is printed and can be given again.

#![forbid(unsafe_code)]

pub mod binaries;
pub mod cluster;
pub mod differential;
pub mod faults;
pub mod grpc;
pub mod hasty_source;
pub mod json;
pub mod ledger;
pub mod linear;
pub mod load;
pub mod member;
pub mod name_server;
pub mod process;
pub mod small_disk;
pub mod variable;
pub mod wait;
pub mod watch_check;
pub mod writers;
