//! What a leading member does: it proves its lead, and has the time of leases counted.

use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context, Handler};
use althing_api::error::Error;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use crate::raft_node::RaftNode;
use crate::raft_node::message::LeadConfirmed;
use crate::raft_node::requests::read_index;
use crate::raft_node::types::ServerMetrics;

/// Pause between two attempts to prove a lead that is being handed over.
const PROOF_INTERVAL: Duration = Duration::from_millis(100);

fn leads_in(metrics: &ServerMetrics, term: u64) -> bool {
    metrics.state == ServerState::Leader && metrics.vote.leader_id.term == term
}

impl RaftNode {
    /// Has the time of leases counted while this member leads and a quorum hears it.
    pub(in crate::raft_node) fn count_leases(
        &mut self,
        metrics: &ServerMetrics,
        ctx: &mut Context<Self>,
    ) {
        let Some((term, since)) = self.leads else {
            self.proven_term = None;
            self.setup.lead.lost();
            return;
        };
        let is_heard = self.setup.progress.leader() == self.setup.me;
        let led = since.elapsed();
        let ago = self.quorum_heard().map_or(led, |ago| ago.min(led));
        self.setup.lead.quorum_hears(is_heard, ago);
        // The term is new or the membership changed; otherwise the proof is under way or holds.
        if self.proven_term != Some(term)
            || (self.leads_alone(metrics) && !self.setup.sole_voter.is_alone())
        {
            self.proven_term = Some(term);
            self.prove_lead(term, ctx);
        }
    }

    /// Finds out whether this member leads in `term` and an entry of that term is applied.
    fn prove_lead(&self, term: u64, ctx: &mut Context<Self>) {
        let raft = self.raft.clone();
        let progress = Arc::clone(&self.setup.progress);
        let addr = ctx.address();
        actix_rt::spawn(async move {
            loop {
                match read_index::here(&raft).await {
                    Ok(index) => {
                        progress.until_applied(index).await;
                        return addr.do_send(LeadConfirmed { term });
                    }
                    // A new leader has not heard its quorum yet.
                    Err(Error::Timeout) => {}
                    // The lead is being handed over, which may fail.
                    Err(_) if leads_in(&raft.server_metrics().borrow_watched(), term) => {
                        tokio::time::sleep(PROOF_INTERVAL).await;
                    }
                    Err(_) => return,
                }
            }
        });
    }
}

impl Handler<LeadConfirmed> for RaftNode {
    type Result = ();

    fn handle(&mut self, LeadConfirmed { term }: LeadConfirmed, _: &mut Context<Self>) {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        if leads_in(&metrics, term) {
            self.setup
                .sole_voter
                .confirm(&metrics.committed_membership_config);
            self.setup.lead.won(term);
        }
    }
}
