//! What is on the wire.
#![forbid(unsafe_code)]
pub mod client;
pub mod peer;
pub mod rpc;
