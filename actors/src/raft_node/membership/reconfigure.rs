//! Membership changes at the leader: one at a time, in a task that goes on even if its caller is
//! gone.
//!
//! ```text
//!  asked ----> finish what a former leader began -> check -> log entries -> applied -> answer
//!  unasked --> finish what a former leader began, or give the vote to one that has caught up
//! ```
//! What is still to be done is in the membership itself: two voter sets, or a member that wants a
//! vote. So the next leader goes on with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context, Handler};
use althing_api::error::Error;
use althing_api::id::MemberId;
use althing_storage::store::Store;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{ChangeMembers as RaftChange, ServerState};
use tokio::time::Instant;

use super::change::{Ask, Change, MemberChange};
use super::members;
use super::roster::{MemberRole, Roster, Standing};
use crate::peer_link::Links;
use crate::progress::Progress;
use crate::raft_node::RaftNode;
use crate::raft_node::lead::hand_over::{self, Follower};
use crate::raft_node::message::{ChangeEnded, ChangeMembers};
use crate::raft_node::types::{
    Membership, Metrics, PeerNode, RaftHandle, StoredMembership, Types, from_raft_log_id,
};

/// Changes that wait for their turn.
const CHANGES_MAX: usize = 64;

/// A member that has answered for this long is connected, as in etcd.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// Changes waiting for their turn, and whether one is under way.
#[derive(Debug, Default)]
pub(in crate::raft_node) struct Changes {
    waiting: VecDeque<ChangeMembers>,
    under_way: bool,
}

/// What the leader does without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Leave two voter sets for the second.
    Finish,
    /// Give a joining member that has caught up its vote.
    Promote(u64),
}

impl RaftNode {
    /// Begins the next change that was asked for, if none is under way.
    pub(in crate::raft_node) fn change_next(&mut self, ctx: &mut Context<Self>) {
        if self.changes.under_way {
            return;
        }
        while let Some(next) = self.changes.waiting.pop_front() {
            let ChangeMembers { change, ask, reply } = next;
            if reply.is_closed() {
                continue;
            }
            let desk = self.desk();
            self.begin(ctx, async move {
                // The caller may have given up.
                let _ = reply.send(desk.change(change, ask).await);
            });
            return;
        }
    }

    /// Does what nobody asks for, if no change is under way. It is looked for now and then, and not
    /// at the end of a change: raft refuses some changes for now, because this leader's own first
    /// entry is not committed yet, and would refuse them at once and without end.
    pub(in crate::raft_node) fn take_up_duty(&mut self, ctx: &mut Context<Self>) {
        if self.changes.under_way {
            return;
        }
        if let Some(duty) = self.duty() {
            let desk = self.desk();
            self.begin(ctx, async move { desk.fulfil(duty).await });
        }
    }

    fn begin(&mut self, ctx: &mut Context<Self>, change: impl Future<Output = ()> + 'static) {
        self.changes.under_way = true;
        let addr = ctx.address();
        actix_rt::spawn(async move {
            change.await;
            addr.do_send(ChangeEnded);
        });
    }

    fn desk(&self) -> Desk {
        let leads_since = self.leads.map_or_else(Instant::now, |(_, since)| since);
        Desk {
            me: self.setup.me,
            raft: self.raft.clone(),
            links: Arc::clone(&self.setup.links),
            progress: Arc::clone(&self.setup.progress),
            store: self.setup.store.clone(),
            election_timeout: self.tuning().election_timeout,
            learners_max: self.tuning().learners_max,
            leads_since,
        }
    }

    fn duty(&self) -> Option<Duty> {
        let membership = self.membership.membership();
        let is_joint = membership.get_joint_config().len() > 1;
        let joining = members::joining(membership);
        if self.leads.is_none() || (!is_joint && joining.is_empty()) {
            return None;
        }
        let metrics = self.raft.metrics().borrow_watched().clone();
        let started = started(&self.setup.store);
        duty(&metrics, self.tuning().election_timeout, &started)
    }
}

/// The members that have told the cluster their name.
fn started(store: &Store) -> BTreeSet<u64> {
    let published = store.members().into_iter();
    let named = published.filter(|record| !record.name.is_empty());
    named.map(|record| record.id).collect()
}

fn duty(metrics: &Metrics, patience: Duration, started: &BTreeSet<u64>) -> Option<Duty> {
    let newest = &metrics.membership_config;
    // A configuration that is not committed yet is a change under way.
    if metrics.state != ServerState::Leader
        || metrics.committed_membership_config.log_id() != newest.log_id()
    {
        return None;
    }
    if newest.membership().get_joint_config().len() > 1 {
        return Some(Duty::Finish);
    }
    let last = metrics.last_log_index.unwrap_or(0);
    let joining = members::joining(newest.membership()).into_iter();
    // With a vote before that, it could lose its disk and come back as one that never ran.
    let joining = joining.filter(|id| started.contains(id));
    let mut followers = joining.map(|id| Follower::of(metrics, id));
    let ready = followers.find(|follower| follower.is_ready(last, patience));
    ready.map(|follower| Duty::Promote(follower.id))
}

/// What a change needs.
struct Desk {
    me: u64,
    raft: RaftHandle,
    links: Arc<Links>,
    progress: Arc<Progress>,
    store: Store,
    election_timeout: Duration,
    learners_max: usize,
    leads_since: Instant,
}

impl Desk {
    async fn change(&self, change: MemberChange, ask: Ask) -> Result<Change, Error> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        if metrics.state != ServerState::Leader {
            return Ok(Change::Elsewhere);
        }
        let newest = Arc::clone(&metrics.membership_config);
        if newest.membership().get_joint_config().len() > 1 {
            self.commit(finish(), &newest).await?;
            return Ok(Change::Elsewhere);
        }
        if ask == Ask::Again && is_done(&change, newest.membership()) {
            // Not the end of the log: entries behind it may never be committed.
            let Some(id) = newest.log_id().map(from_raft_log_id) else {
                return Ok(Change::Unsure);
            };
            let done = self.done(id.index).await;
            // Another leader may have put its own entry there.
            let applied = self.store.applied().membership.map(|(at, _)| at);
            return Ok(if applied == Some(id) {
                done
            } else {
                Change::Unsure
            });
        }
        let roster = self.roster(&metrics);
        roster.check(&change, |id| self.store.is_removed(id))?;
        if change == MemberChange::Remove(MemberId(self.me)) {
            return self.leave().await;
        }
        let shown = change.to_string();
        let raft_change = raft_change(change, newest.membership())?;
        let Some(index) = self.commit(raft_change, &newest).await? else {
            return Ok(Change::Unsure);
        };
        tracing::info!(change = shown, "changed the membership");
        Ok(self.done(index).await)
    }

    /// A leader does not leave while it leads: its successor removes it.
    async fn leave(&self) -> Result<Change, Error> {
        let (raft, progress) = (self.raft.clone(), Arc::clone(&self.progress));
        hand_over::hand_over(raft, progress, None, self.election_timeout).await?;
        Ok(Change::Elsewhere)
    }

    async fn done(&self, index: u64) -> Change {
        self.progress.until_applied(index).await;
        let members = members::applied_members(&self.store);
        Change::Done { index, members }
    }

    /// Puts a change of `based_on` into the log and waits until it is committed. `None`: this
    /// member does not lead, or the membership is another one by now. Errors: the outcome is
    /// unknown, or there is nothing to change.
    async fn commit(
        &self,
        change: RaftChange<u64, PeerNode>,
        based_on: &StoredMembership,
    ) -> Result<Option<u64>, Error> {
        let unchanged = Precondition::LastMembershipLogId {
            last_membership_log_id: *based_on.log_id(),
        };
        // A voter that is removed does not stay as a learner.
        let retain = false;
        let changed = self.raft.change_membership_if(change, retain, [unchanged]);
        match changed.await {
            Ok(written) => Ok(Some(from_raft_log_id(written.log_id).index)),
            Err(RaftError::APIError(error)) => refused(error),
            Err(RaftError::Fatal(_)) => Err(Error::Stopped),
        }
    }

    /// Fulfils `duty`. A failure is logged, and the next leader tries again.
    async fn fulfil(&self, duty: Duty) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let newest = &metrics.membership_config;
        let change = match duty {
            Duty::Finish => finish(),
            Duty::Promote(id) => RaftChange::AddVoterIds(BTreeSet::from([id])),
        };
        match (self.commit(change, newest).await, duty) {
            (Ok(Some(_)), Duty::Finish) => {
                tracing::info!("finished a membership change of a former leader");
            }
            (Ok(Some(_)), Duty::Promote(id)) => {
                let member_id = format_args!("{id:x}");
                tracing::info!(%member_id, "a new member has caught up and votes from now on");
            }
            (Ok(None), _) => {}
            (Err(error), _) => tracing::warn!(%error, ?duty, "a membership change is not finished"),
        }
    }

    fn roster(&self, metrics: &Metrics) -> Roster {
        let membership = metrics.membership_config.membership();
        let started = started(&self.store);
        let led = self.leads_since.elapsed();
        // A new leader has not talked to the others for long.
        let health = HEALTH_INTERVAL.min(led.saturating_sub(self.election_timeout));
        let now = Instant::now();
        let since = now.checked_sub(health).unwrap_or(now);
        let standing = |(id, node): (&u64, &PeerNode)| Standing {
            id: *id,
            role: role(membership, *id, node),
            peer_urls: node.peer_urls.clone(),
            started: started.contains(id),
            active: *id == self.me || self.links.active_since(&[*id], now) > 0,
            connected: *id == self.me || self.links.active_since(&[*id], since) > 0,
            matched: Follower::of(metrics, *id).matched,
        };
        Roster {
            me: self.me,
            members: membership.nodes().map(standing).collect(),
            last_index: metrics.last_log_index.unwrap_or(0),
            learners_max: self.learners_max,
        }
    }
}

/// Whether an earlier attempt, whose outcome was unknown, made `change`: judged by the newest
/// membership of the log, which may not be applied yet.
fn is_done(change: &MemberChange, membership: &Membership) -> bool {
    match change {
        MemberChange::Add { id, .. } => membership.get_node(&id.0).is_some(),
        MemberChange::Remove(id) => membership.get_node(&id.0).is_none(),
        MemberChange::Update { id, peer_urls } => {
            let node = membership.get_node(&id.0);
            node.is_some_and(|node| node.peer_urls == *peer_urls)
        }
        MemberChange::Promote(id) => membership.voter_ids().any(|voter| voter == id.0),
    }
}

fn role(membership: &Membership, id: u64, node: &PeerNode) -> MemberRole {
    match membership.voter_ids().any(|voter| voter == id) {
        true => MemberRole::Voter,
        false if node.wants_vote => MemberRole::Joining,
        false => MemberRole::Learner,
    }
}

/// Ends a change: of two voter sets only the second stays.
fn finish() -> RaftChange<u64, PeerNode> {
    RaftChange::AddVoterIds(BTreeSet::new())
}

fn raft_change(
    change: MemberChange,
    membership: &Membership,
) -> Result<RaftChange<u64, PeerNode>, Error> {
    Ok(match change {
        MemberChange::Add {
            id,
            peer_urls,
            is_learner,
        } => {
            let wants_vote = !is_learner;
            let node = PeerNode {
                peer_urls,
                wants_vote,
            };
            RaftChange::AddNodes(BTreeMap::from([(id.0, node)]))
        }
        MemberChange::Remove(id) => {
            let id = BTreeSet::from([id.0]);
            if membership.voter_ids().any(|voter| id.contains(&voter)) {
                RaftChange::RemoveVoters(id)
            } else {
                RaftChange::RemoveNodes(id)
            }
        }
        MemberChange::Update { id, peer_urls } => {
            let known = membership.get_node(&id.0).ok_or(Error::MemberNotFound)?;
            let node = PeerNode {
                peer_urls,
                ..known.clone()
            };
            RaftChange::SetNodes(BTreeMap::from([(id.0, node)]))
        }
        MemberChange::Promote(id) => RaftChange::AddVoterIds(BTreeSet::from([id.0])),
    })
}

fn refused(error: ClientWriteError<Types>) -> Result<Option<u64>, Error> {
    match error {
        ClientWriteError::ForwardToLeader(_) | ClientWriteError::PreconditionFailed(_) => Ok(None),
        // The entry was replaced by another leader's, which may yet have committed ours elsewhere.
        ClientWriteError::LogEntryDiscarded(_) => Err(Error::TimeoutDueToLeaderFail),
        ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        ) => Ok(None),
        ClientWriteError::ChangeMembershipError(error) => {
            tracing::warn!(%error, "raft refuses a membership change");
            Err(Error::UnhealthyCluster)
        }
    }
}

impl Handler<ChangeMembers> for RaftNode {
    type Result = ();

    fn handle(&mut self, message: ChangeMembers, ctx: &mut Context<Self>) {
        if self.changes.waiting.len() >= CHANGES_MAX {
            let _ = message.reply.send(Err(Error::TooManyRequests));
            return;
        }
        self.changes.waiting.push_back(message);
        self.change_next(ctx);
    }
}

impl Handler<ChangeEnded> for RaftNode {
    type Result = ();

    fn handle(&mut self, _: ChangeEnded, ctx: &mut Context<Self>) {
        self.changes.under_way = false;
        self.change_next(ctx);
    }
}
