//! The gRPC services. One value implements every service: front ends (gRPC, JSON gateway) call the
//! same functions.

use std::sync::Arc;

use althing_actors::node::Handles;
use tonic::Status;

mod auth;
mod cluster;
mod election;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod watch;

/// Every client service of this member. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// The node behind the services.
    pub handles: Handles,
    /// Limits of requests.
    pub limits: Arc<Limits>,
}

/// Limits of requests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest encoded command, in bytes (etcd: 1.5 MiB). The receive limit is 512 KiB more.
    pub request_bytes_max: usize,
    /// Most operations of one txn (etcd: 128).
    pub txn_ops_max: usize,
    /// etcd: 5 s plus twice the election timeout.
    pub request_timeout: std::time::Duration,
    /// Bytes that all running range reads may hold together; more is refused.
    pub read_bytes_max: usize,
}

/// The answer of a call that this version of Althing does not serve.
fn unsupported(call: &str) -> Status {
    Status::unimplemented(format!(
        "{call} is not supported by this version of Althing"
    ))
}
