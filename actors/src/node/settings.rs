//! What a node is started with.

use althing_api::id::{ClusterId, MemberId};
use althing_storage::store::StoreSettings;
use althing_storage::wal::WalSettings;

use crate::lessor::Clock;
use crate::raft_node::RaftTuning;
use crate::upkeep::UpkeepSettings;

/// The settings of a node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The member's name, as published.
    pub name: String,
    /// This member's id.
    pub member_id: MemberId,
    /// The cluster that this member belongs to.
    pub cluster_id: ClusterId,
    /// The URLs where the other members reach this one, as published.
    pub peer_urls: Vec<String>,
    /// Initial voters with their peer URLs; ignored when the data directory holds a log.
    pub founders: Vec<MemberAddress>,
    /// Whether this member joins a cluster that has a configuration already; it comes with the log.
    pub joins: bool,
    /// Members of the cluster that a joining member was told of. While it hears no leader, it asks
    /// them whether it is still a member.
    pub known_members: Vec<MemberAddress>,
    /// The URLs where clients reach this member, as published.
    pub client_urls: Vec<String>,
    /// Raft settings that can change while the member runs.
    pub raft: RaftTuning,
    /// Proposals admitted at once; one more is refused with `TooManyRequests`.
    pub proposals_max: usize,
    /// Free disk bytes below which writes are refused.
    pub disk_reserve_bytes: u64,
    /// What the member does without being asked; can change while it runs.
    pub upkeep: UpkeepSettings,
    /// The clock that leases are counted by.
    pub clock: Clock,
    /// Limits of the log.
    pub wal: WalSettings,
    /// Limits of the store.
    pub store: StoreSettings,
}

/// A member that is known before the log names it.
#[derive(Clone, Debug)]
pub struct MemberAddress {
    /// The member's id.
    pub id: MemberId,
    /// The member's name; empty if only its address is known.
    pub name: String,
    /// The URLs where the other members reach it.
    pub peer_urls: Vec<String>,
}
