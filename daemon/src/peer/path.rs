//! The names that both ends of the peer protocol share.

use althing_actors::peer_link::{Call, Pipe};

/// The cluster that a request belongs to, in hex; etcd's peers name it so too.
pub(super) const CLUSTER_HEADER: &str = "x-etcd-cluster-id";
/// The member that sends it, in hex.
pub(super) const FROM_HEADER: &str = "x-server-from";
/// The process that sends it: a number that it has drawn at its start, in hex.
pub(super) const PROCESS_HEADER: &str = "althing-process";
/// The member that it is for, in hex.
pub(super) const TO_HEADER: &str = "x-raft-to";

/// The snapshot that a request is about: a number that the sender has drawn, in hex.
pub(super) const TRANSFER_HEADER: &str = "althing-transfer";
/// The offset of the first byte of the snapshot that a request brings, in hex.
pub(super) const OFFSET_HEADER: &str = "althing-offset";

/// The largest body of a call and of its answer.
pub(super) const CALL_BYTES_MAX: usize = 64 << 10;

pub(super) const CALLS: [Call; 9] = [
    Call::Heartbeat,
    Call::Vote,
    Call::PreVote,
    Call::HandOver,
    Call::ReadIndex,
    Call::KeepLease,
    Call::LeaseTime,
    Call::ChangeMembers,
    Call::Hash,
];

pub(super) const PIPES: [Pipe; 2] = [Pipe::Append, Pipe::Propose];

pub(super) const SNAPSHOT: &str = "/althing/v1/snapshot";

pub(super) fn of_call(call: Call) -> &'static str {
    match call {
        Call::Heartbeat => "/althing/v1/heartbeat",
        Call::Vote => "/althing/v1/vote",
        Call::PreVote => "/althing/v1/pre-vote",
        Call::HandOver => "/althing/v1/hand-over",
        Call::ReadIndex => "/althing/v1/read-index",
        Call::KeepLease => "/althing/v1/keep-lease",
        Call::LeaseTime => "/althing/v1/lease-time",
        Call::ChangeMembers => "/althing/v1/change-members",
        Call::Hash => "/althing/v1/hash",
    }
}

pub(super) fn of_pipe(pipe: Pipe) -> &'static str {
    match pipe {
        Pipe::Append => "/althing/v1/append",
        Pipe::Propose => "/althing/v1/propose",
    }
}
