//! Why a node could not start.

use std::io;

use althing_api::error::Error;
use althing_storage::error::OpenError;

use crate::halt::HaltCause;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Log and store do not share one history: a file is missing or comes from elsewhere.
    #[error("the log and the store do not fit: {0}")]
    Mismatch(String),
    /// Threads could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// There is neither a log nor a first configuration to begin one with.
    #[error(
        "the first start of this member ended before its cluster was formed; start it with the \
         options of the first start, or name an empty --data-dir"
    )]
    NotFormed,
    /// Raft refused to start.
    #[error("raft: {0}")]
    Raft(String),
    /// The node halted before it had started.
    #[error("halted: {}", .0.0)]
    Halted(HaltCause),
    /// This member's records are not those of the majority.
    #[error(
        "this member holds other records than the majority of its cluster; remove it from the \
         cluster, empty its data directory and let it join again, or start it with \
         --initial-corrupt-check=false to look at it"
    )]
    Differs,
    /// The cluster has removed this member.
    #[error(
        "the member has been permanently removed from the cluster; the data-dir used by this \
         member must be removed"
    )]
    Removed,
    /// The member could not publish itself.
    #[error("cannot publish this member: {0}")]
    Publish(#[source] Error),
}
