//! Black-box tests of the built binaries: starts members and real etcds, speaks to them, and
//! compares and records their answers. It sees the wire contract and nothing else of Althing.
//!
//! Every wait here is for a condition with a deadline; every port is free when it is chosen; every
//! directory is temporary; every seed is printed and can be given again.

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
