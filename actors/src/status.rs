//! What a node tells about itself and its cluster.

use althing_api::etcdserverpb::Member;
use althing_api::id::{ClusterId, MemberId};

/// A published picture of the node.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct NodeStatus {
    pub member_id: MemberId,
    pub cluster_id: ClusterId,
    pub term: u64,
    /// The leader's id; zero if none is known.
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

impl From<MemberStatus> for Member {
    fn from(member: MemberStatus) -> Member {
        Member {
            id: member.id.0,
            name: member.name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: member.client_urls,
            is_learner: member.is_learner,
        }
    }
}

impl From<Member> for MemberStatus {
    fn from(member: Member) -> MemberStatus {
        MemberStatus {
            id: MemberId(member.id),
            name: member.name,
            peer_urls: member.peer_ur_ls,
            client_urls: member.client_ur_ls,
            is_learner: member.is_learner,
        }
    }
}
