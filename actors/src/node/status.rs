//! What a node tells about itself and its cluster.

use althing_api::etcdserverpb::Member;
use althing_api::id::{ClusterId, MemberId};

/// A published picture of the node.
#[derive(Clone, Debug, Default)]
pub struct NodeStatus {
    /// This member's id.
    pub member_id: MemberId,
    /// The cluster that this member belongs to.
    pub cluster_id: ClusterId,
    /// The newest term of raft that is known here.
    pub term: u64,
    /// The leader's id; zero if none is known.
    pub leader: MemberId,
    /// The last entry that is known here to be committed.
    pub committed_index: u64,
    /// The last entry that is applied here.
    pub applied_index: u64,
    /// Whether this member is meant to have no vote.
    pub is_learner: bool,
    /// All members of the current configuration.
    pub members: Vec<MemberStatus>,
}

/// One member of the current configuration.
#[derive(Clone, Debug, Default)]
pub struct MemberStatus {
    /// The member's id.
    pub id: MemberId,
    /// The member's name; empty until it has published itself.
    pub name: String,
    /// The URLs where the other members reach it.
    pub peer_urls: Vec<String>,
    /// The URLs where clients reach it; empty until it has published itself.
    pub client_urls: Vec<String>,
    /// Whether the member is meant to have no vote.
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
