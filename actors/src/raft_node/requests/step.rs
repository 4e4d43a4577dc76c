//! Passes the messages of other members' raft to ours.

use std::sync::Arc;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{Infallible, RaftError};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};

use super::inbound::Refusal;
use crate::peer_link::wire;
use crate::raft_node::lead::heard::Heard;
use crate::raft_node::types::{RaftHandle, RaftVote, Snapshot, Types};

/// A message of another member, decoded.
pub(crate) enum FromPeer {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    HandOver(TransferLeaderRequest<Types>),
    Snapshot { vote: RaftVote, snapshot: Snapshot },
}

/// Lets raft answer `message`. Its first poll hands the message to raft's core, so that messages
/// polled in the order of their arrival reach it in that order.
pub(in crate::raft_node) async fn step(
    raft: RaftHandle,
    message: FromPeer,
    heard: Arc<Heard>,
) -> Result<Bytes, Refusal> {
    match message {
        FromPeer::Append(request) => {
            // Stamped now and not with the answer, which a full disk delays.
            if request.vote >= raft.server_metrics().borrow_watched().vote {
                heard.stamp();
            }
            let answer = raft.append_entries(request).await.map_err(stopped)?;
            Ok(wire::append_answer_out(&answer))
        }
        FromPeer::Vote(request) => {
            let answer = raft.vote(request).await.map_err(stopped)?;
            Ok(wire::vote_answer_out(&answer))
        }
        FromPeer::PreVote(request) => {
            let answer = raft.pre_vote(request).await.map_err(stopped)?;
            Ok(wire::vote_answer_out(&answer))
        }
        FromPeer::HandOver(request) => {
            let answer = raft.handle_transfer_leader(request).await;
            let answer = answer.map_err(|_| Refusal::Stopped)?;
            Ok(wire::hand_over_answer_out(&answer))
        }
        FromPeer::Snapshot { vote, snapshot } => {
            let installed = raft.install_full_snapshot(vote, snapshot).await;
            let answer = installed.map_err(|_| Refusal::Stopped)?;
            Ok(wire::snapshot_answer_out(&answer.vote))
        }
    }
}

/// The only error left is that the core ended.
fn stopped(_: RaftError<Types, Infallible>) -> Refusal {
    Refusal::Stopped
}
