//! What front ends may ask of the node.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use althing_api::commandpb::{Command, PublishMember, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::AlarmType;
use althing_api::id::{ClusterId, MemberId};
use althing_api::range::KeyRange;
use althing_storage::apply::Response;
use althing_storage::entry::LogId;
use althing_storage::store::{AlarmRecord, Store};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::backup::{BackupStream, Backups};
use super::key_watch::KeyWatch;
use super::status::{MemberStatus, NodeStatus};
use crate::latest;
use crate::lessor::{LeaseKeeper, LeaseTime};
use crate::peer_link::Peer;
use crate::raft_node::{
    CORE_QUEUE, Inbound, MemberChange, Proposer, PublishedMembership, Pulse, RaftTuning, Retune,
    applied_members,
};
use crate::store_writer::{Defragment, StoreWriter};
use crate::supervisor::ActorRef;
use crate::upkeep::{self, SharedSettings};
use crate::watch_hub::{WatchHub, Watches};

/// What front ends may ask of the node. Cheap to clone, usable from every thread.
#[derive(Clone, Debug)]
pub struct Handles(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) member_id: MemberId,
    pub(crate) cluster_id: ClusterId,
    pub(crate) proposer: Proposer,
    pub(crate) inbound: Inbound,
    pub(crate) leases: LeaseKeeper,
    pub(crate) membership: Arc<PublishedMembership>,
    /// Counts the snapshots that took the place of the store.
    pub(crate) restored: Arc<latest::Sender<u64>>,
    /// The revision below which physical compaction is done.
    pub(crate) compacted: Arc<latest::Sender<i64>>,
    pub(crate) watch_hub: ActorRef<WatchHub>,
    pub(crate) backups: Backups,
    pub(crate) store_writer: Addr<StoreWriter>,
    pub(crate) upkeep: SharedSettings,
    /// Held by the caller that raises an alarm on behalf of all that met its cause.
    pub(crate) raising: tokio::sync::Mutex<()>,
}

/// The outcome of a proposal that was committed and applied.
#[derive(Debug)]
pub struct Applied {
    /// The state machine's answer, or its refusal.
    pub response: Result<Response, Error>,
    /// Where the command stands in the log.
    pub log_id: LogId,
    /// The store's revision after the command.
    pub revision: i64,
}

impl Handles {
    pub(crate) fn new(shared: Shared) -> Handles {
        Handles(Arc::new(shared))
    }

    /// Proposes a command and waits until it is committed and applied here. The proposal goes on
    /// even if the returned future is dropped, so that the caller may set a timeout. Errors:
    /// `TooManyRequests`, `NoSpace`, `NoLeader`, `Stopped`, `TimeoutDueToLeaderFail` (outcome
    /// unknown).
    pub async fn propose(&self, command: Command) -> Result<Applied, Error> {
        self.0.proposer.propose(command).await
    }

    /// Proposes what the member itself needs; a full disk does not stand in its way.
    pub(crate) async fn propose_own(&self, command: Command) -> Result<Applied, Error> {
        self.0.proposer.propose_ungated(&command).await
    }

    /// Returns once a read of the local store is linearizable. A sole voter answers at once.
    /// Errors: `TooManyRequests`, `NoLeader`, `Stopped`, `Timeout`.
    pub async fn read_index(&self) -> Result<(), Error> {
        self.0.proposer.read_index().await
    }

    /// Hands the lead to `to`, and returns when that member leads. Errors: `NotLeader`,
    /// `BadLeaderTransferee` (no voter), `TimeoutLeaderTransfer`, `Stopped`.
    pub async fn move_leader(&self, to: MemberId) -> Result<(), Error> {
        // A leader that lost its quorum does not count, whatever raft says.
        if self.leader() != self.0.member_id {
            return Err(Error::NotLeader);
        }
        self.0.proposer.move_leader(Some(to.0)).await
    }

    /// Hands the lead to the fittest voter; returns at once if this member does not lead or is the
    /// only voter.
    pub async fn step_aside(&self) {
        if self.leader() != self.0.member_id || self.0.proposer.sole_voter.is_alone() {
            return;
        }
        match self.0.proposer.move_leader(None).await {
            Ok(()) => tracing::info!(leader = %self.leader(), "handed the lead over"),
            Err(error) => tracing::warn!(%error, "the lead was not handed over"),
        }
    }

    /// Sets other bounds, for what comes from now on: how many writes, and how many rounds of
    /// reads, may be under way at once, and the free disk bytes below which writes are refused.
    pub fn set_bounds(&self, proposals_max: usize, disk_reserve_bytes: u64) {
        let proposer = &self.0.proposer;
        assert!(
            (proposals_max as u64) <= CORE_QUEUE / 2,
            "admitted proposals must fit the queue of raft's core"
        );
        proposer.proposals.set_max(proposals_max);
        proposer.reads.set_max(proposals_max);
        proposer.gate.set_reserve(disk_reserve_bytes);
    }

    /// Sets the time from which a command that takes longer to apply is counted and logged.
    pub fn set_slow_apply(&self, time: Duration) {
        self.0.proposer.metrics.apply.set_slow(time);
    }

    /// Changes raft's tuning at once; what is under way goes on.
    pub fn retune(&self, tuning: RaftTuning) {
        self.0.proposer.raft_node.do_send(Retune(tuning));
    }

    /// Tells the cluster the URLs where clients reach this member from now on. Errors: those of a
    /// proposal.
    pub async fn publish_client_urls(&self, client_urls: Vec<String>) -> Result<(), Error> {
        let known = self.store().members();
        let Some(me) = known.into_iter().find(|m| m.id == self.0.member_id.0) else {
            return Err(Error::MemberNotFound);
        };
        let request = Some(command::Request::PublishMember(PublishMember {
            member_id: me.id,
            name: me.name,
            peer_urls: me.peer_urls,
            client_urls,
        }));
        let applied = self.propose_own(Command { request }).await?;
        applied.response.map(drop)
    }

    /// Resolves when the raft thread has answered, which shows that it runs, and what it drives
    /// too. Errors: `Stopped`.
    pub async fn pulse(&self) -> Result<(), Error> {
        let beat = self.0.proposer.raft_node.send(Pulse).await;
        beat.map_err(|_| Error::Stopped)
    }

    /// How many voters are in touch with this member, itself included if it is one, and how many
    /// there are: none if it has not heard from its cluster yet.
    pub fn voters_heard(&self) -> (usize, usize) {
        let (now, links) = (Instant::now(), &self.0.proposer.links);
        let active = |others: &[u64]| links.active_since(others, now);
        self.0.membership.voters_heard(self.0.member_id.0, active)
    }

    /// The other members that do not answer, and why.
    pub fn silent_members(&self) -> Vec<(Peer, String)> {
        self.0.proposer.links.silent()
    }

    /// Why a request that began at `start` did not finish in time: `Timeout`, or, judged by the
    /// leader and the links, `TimeoutDueToLeaderFail` or `TimeoutDueToConnectionLost`.
    pub fn why_timed_out(&self, start: std::time::Instant) -> Error {
        let start = Instant::from_std(start);
        let proposer = &self.0.proposer;
        let leader = proposer.progress.leader();
        if leader == 0 {
            return Error::Timeout;
        }
        if proposer
            .progress
            .led_since()
            .is_some_and(|since| since > start)
        {
            return Error::TimeoutDueToLeaderFail;
        }
        let is_connected = if leader == proposer.me {
            self.0.membership.has_quorum(proposer.me, |others| {
                proposer.links.active_since(others, start)
            })
        } else {
            proposer.links.active_since(&[leader], start) > 0
        };
        if is_connected {
            Error::Timeout
        } else {
            Error::TimeoutDueToConnectionLost
        }
    }

    /// The entrance for what other members send.
    pub fn inbound(&self) -> &Inbound {
        &self.0.inbound
    }

    /// The store, for reads.
    pub fn store(&self) -> &Store {
        &self.0.proposer.store
    }

    /// The latest published status.
    pub fn status(&self) -> NodeStatus {
        let progress = &self.0.proposer.progress;
        NodeStatus {
            member_id: self.0.member_id,
            cluster_id: self.0.cluster_id,
            term: progress.term(),
            leader: MemberId(progress.leader()),
            committed_index: progress.committed(),
            applied_index: progress.applied(),
            is_learner: self.is_learner(),
            members: self.members(),
        }
    }

    /// Whether this member is meant to have no vote.
    pub fn is_learner(&self) -> bool {
        self.0.membership.is_learner(self.0.member_id.0)
    }

    /// The members by id, as applied here.
    pub fn members(&self) -> Vec<MemberStatus> {
        applied_members(self.store())
    }

    /// Changes the membership, and returns the members after it. The change goes on even if the
    /// returned future is dropped. Errors: the refusals of etcd's checks, `TooManyRequests`,
    /// `Stopped`, and those that say that the outcome is unknown.
    pub async fn change_members(&self, change: MemberChange) -> Result<Vec<MemberStatus>, Error> {
        let is_promotion = matches!(change, MemberChange::Promote(_));
        // Like etcd, which looks at its connections before it asks the log.
        if matches!(change, MemberChange::Add { .. }) && self.leader() == MemberId(0) {
            let (heard, voters) = self.voters_heard();
            if heard <= voters / 2 {
                return Err(Error::UnhealthyCluster);
            }
        }
        let changed = self.0.proposer.change_members(change).await;
        if is_promotion {
            let outcome = changed.as_ref().map(|_| ()).map_err(|error| *error);
            self.0.proposer.metrics.learner_promoted(outcome);
        }
        changed
    }

    /// Current term without building a whole status; for response headers.
    pub fn term(&self) -> u64 {
        self.0.proposer.progress.term()
    }

    /// Current leader; zero when none is known.
    pub fn leader(&self) -> MemberId {
        MemberId(self.0.proposer.progress.leader())
    }

    /// Index of the last entry applied here; zero if nothing was applied.
    pub fn applied_index(&self) -> u64 {
        self.0.proposer.progress.applied()
    }

    /// How many snapshots of other members took the place of the store. Anything derived from the
    /// store has to be derived again when this changes.
    pub fn snapshots_taken_over(&self) -> u64 {
        *self.0.restored.borrow()
    }

    /// Renews a lease and returns its time to live in seconds, or `None` if it does not exist. For
    /// an expired lease this waits until it has ended; where too much is under way, until there is
    /// room. Errors: `Stopped`, and those of a proposal.
    pub async fn keep_lease_alive(&self, id: i64) -> Result<Option<i64>, Error> {
        self.0.leases.keep_alive(id).await
    }

    /// How long a lease still lives, or `None` if it does not exist. Waits and errors: as for
    /// [`Handles::keep_lease_alive`].
    pub async fn lease_time(&self, id: i64) -> Result<Option<LeaseTime>, Error> {
        self.0.leases.time_to_live(id).await
    }

    /// All leases known here; those that end first come first.
    pub fn leases(&self) -> Vec<i64> {
        self.0.leases.leases()
    }

    /// The shortest time to live that a lease may have, in seconds.
    pub fn lease_ttl_min(&self) -> i64 {
        self.0.leases.ttl_min()
    }

    /// The settings of what the member does without being asked.
    pub fn upkeep(&self) -> &SharedSettings {
        &self.0.upkeep
    }

    /// Whether the quota has no room for what a command may add to the store.
    pub fn is_above_quota(&self, request: &command::Request) -> bool {
        let quota = self.0.upkeep.get().quota_bytes;
        upkeep::exceeds(quota, self.store().used_bytes(), upkeep::cost(request))
    }

    /// Raises this member's alarm for a used-up quota, unless it is raised already, or only the
    /// refused command was too large and there is room for smaller ones. Errors: those of a
    /// proposal.
    pub async fn raise_no_space(&self) -> Result<(), Error> {
        let used_bytes = self.store().used_bytes();
        if upkeep::has_room(self.0.upkeep.get().quota_bytes, used_bytes) {
            return Ok(());
        }
        let _turn = self.0.raising.lock().await;
        let (alarm, me) = (AlarmType::Nospace, self.0.member_id.0);
        let alarms = self.store().alarms();
        let is_raised = |record: &AlarmRecord| record.alarm == alarm && record.member_id == me;
        if alarms.iter().any(is_raised) {
            return Ok(());
        }
        upkeep::tell_of_no_space(used_bytes);
        let command = upkeep::set_alarm(me, alarm, true);
        self.propose_own(command).await?.response.map(drop)
    }

    /// Copies the store's file into a smaller one while everything else goes on. Returns when that
    /// is done. Errors: why it was given up.
    pub async fn defragment(&self) -> Result<(), String> {
        let (reply, done) = oneshot::channel();
        self.0.store_writer.do_send(Defragment { reply });
        let stopped = || Err("this member stops".to_owned());
        done.await.unwrap_or_else(|_| stopped())
    }

    /// Resolves when physical compaction of everything below `revision` is done. Errors: `Stopped`.
    pub async fn compaction_finished(&self, revision: i64) -> Result<(), Error> {
        let mut compacted = self.0.compacted.subscribe();
        let stopped = self.0.proposer.proposals.closed();
        tokio::select! {
            biased;
            finished = compacted.wait_for(|finished| *finished >= revision) => {
                finished.map(drop).map_err(|_| Error::Stopped)
            }
            () = stopped => Err(Error::Stopped),
        }
    }

    /// Begins a backup of at least all that is applied here: one of etcd's snapshot files and its
    /// hash. Errors: `TooManyRequests`, `Stopped`; `Timeout` and `NoSpace` if the store's file
    /// cannot take what is applied, `Corrupt` if it cannot be read.
    pub async fn backup(&self) -> Result<BackupStream, Error> {
        self.0.backups.begin().await
    }

    /// Watches the keys of `range` from `start_revision` on; zero means from the next change on.
    pub fn watch(&self, range: KeyRange, start_revision: i64) -> KeyWatch {
        let next = match start_revision {
            0 => self.store().revisions().current + 1,
            start => start,
        };
        KeyWatch::new(self.watches(), range, next)
    }

    /// A stream of watchers that share one bounded queue.
    pub fn watches(&self) -> Watches {
        let metrics = &self.0.proposer.metrics.watch;
        Watches::open(self.0.watch_hub.addr(), metrics)
    }

    /// The hub of all watches, for tests that end it.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn watch_hub(&self) -> &ActorRef<WatchHub> {
        &self.0.watch_hub
    }

    /// The registry where the actors register etcd's metrics.
    pub fn metrics(&self) -> prometheus::Registry {
        self.0.proposer.metrics.registry().clone()
    }
}
