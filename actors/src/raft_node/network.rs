//! Adapter: openraft's network. Links to other members come with clustering; until then every
//! other member is honestly unreachable, which raft treats like a member that is down.

use std::future::Future;

use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};

use super::types::{PeerNode, Types};
use crate::snapshotter::SnapshotMark;

/// Makes the client of each other member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network;

/// One other member, which cannot be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoLink {
    member: u64,
}

impl NoLink {
    fn unreachable(self) -> Unreachable<Types> {
        let text = format!("no link to member {:x}: this version has none", self.member);
        Unreachable::new(&AnyError::error(text))
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = NoLink;

    async fn new_client(&mut self, member: u64, _: &PeerNode) -> NoLink {
        NoLink { member }
    }
}

impl RaftNetworkV2<Types> for NoLink {
    type SnapshotData = SnapshotMark;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn vote(
        &mut self,
        _: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    /// The default would grant every pre-vote.
    async fn pre_vote(
        &mut self,
        _: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<Types>,
        _: SnapshotOf<Types, SnapshotMark>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(StreamingError::Unreachable(self.unreachable()))
    }

    async fn transfer_leader(
        &mut self,
        _: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }
}
