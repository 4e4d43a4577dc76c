//! What a node tells about itself and its cluster.

use althing_api::id::{ClusterId, MemberId};

/// A published picture of the node.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct NodeStatus {
    pub member_id: MemberId,
    pub cluster_id: ClusterId,
    pub term: u64,
    /// Zero: none known.
    pub leader: MemberId,
    pub committed_index: u64,
    pub applied_index: u64,
    pub is_learner: bool,
    pub members: Vec<MemberStatus>,
}

/// One member of the current configuration.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct MemberStatus {
    pub id: MemberId,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}
