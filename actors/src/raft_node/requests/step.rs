//! Passes the messages of other members' raft to ours.

use std::sync::Arc;

use actix::{Context, Handler};
use bytes::Bytes;
use futures_util::FutureExt;
use openraft::errors::{Infallible, RaftError};
use openraft::raft::{TransferLeaderRequest, VoteRequest};

use super::inbound::Refusal;
use crate::peer_link::wire::{self, FromLeader};
use crate::raft_node::RaftNode;
use crate::raft_node::lead::heard::Heard;
use crate::raft_node::message::Step;
use crate::raft_node::types::{RaftHandle, RaftVote, Snapshot, Types};

/// A message of another member, decoded.
pub(crate) enum FromPeer {
    Append(FromLeader),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    HandOver(TransferLeaderRequest<Types>),
    Snapshot { vote: RaftVote, snapshot: Snapshot },
}

/// Lets raft answer `message`. Its first poll hands the message to raft's core, so that messages
/// polled in the order of their arrival reach it in that order.
async fn step(raft: RaftHandle, message: FromPeer, heard: Arc<Heard>) -> Result<Bytes, Refusal> {
    match message {
        FromPeer::Append(sent) => {
            // Noted now and not with the answer, which a full disk delays.
            heard.note(&sent);
            let request = sent.request;
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

impl Handler<Step> for RaftNode {
    type Result = ();

    fn handle(&mut self, Step { message, reply }: Step, _: &mut Context<Self>) {
        let (raft, heard) = (self.raft.clone(), Arc::clone(&self.heard));
        let mut answering = Box::pin(async move {
            // The other member may have given up.
            let _ = reply.send(step(raft, message, heard).await);
        });
        // The first poll hands the message to the core; polling here keeps the order of the
        // mailbox.
        let polled = tokio::task::unconstrained(&mut answering).now_or_never();
        if polled.is_none() {
            actix_rt::spawn(answering);
        }
    }
}
