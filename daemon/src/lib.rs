//! What is on the wire: the client and peer endpoints, boot and shutdown.
//!
//! A request is decoded by a front end (`client`: gRPC or the JSON gateway), checked and answered
//! by `rpc`, which asks the node of the actors crate; `boot` starts all of it from a configuration
//! and `shutdown` stops it. Meanwhile `operator` takes over changes of the configuration, as a
//! signal or the `admin` socket asks, and `service` tells systemd how the member fares. `discovery`
//! finds the first members in DNS. `spans` exports traces, in a build with the feature `otel`.
#![forbid(unsafe_code)]

pub mod admin;
pub mod boot;
pub mod client;
pub mod discovery;
pub mod identity;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod operator;
pub mod peer;
mod ports;
mod process_metrics;
mod publisher;
pub mod rpc;
mod service;
pub mod settings;
pub mod shutdown;
pub mod spans;
pub mod systemd;
