//! Whether a membership change may be made now. Pure; etcd's rules and refusals, in etcd's order.
//!
//! A member that was added as a voter counts as one here from the beginning, as in etcd, although
//! raft lets it vote only once it has caught up.

use althing_api::error::Error;

use super::change::MemberChange;

/// A learner must have this percentage of the leader's log to be promoted.
const READY_PERCENT: u64 = 90;

/// How a member takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberRole {
    Voter,
    /// Added as a voter, without a vote until it has caught up.
    Joining,
    Learner,
}

/// What the leader knows of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) id: u64,
    pub(super) role: MemberRole,
    pub(super) peer_urls: Vec<String>,
    /// Whether it has told the cluster its name.
    pub(super) started: bool,
    /// Whether it answers.
    pub(super) active: bool,
    /// Whether it has answered for long enough to count as connected.
    pub(super) connected: bool,
    /// The last entry that this member is known to have.
    pub(super) matched: Option<u64>,
}

/// What the leader knows of all members.
#[derive(Clone, Debug)]
pub(super) struct Roster {
    pub(super) me: u64,
    pub(super) members: Vec<Standing>,
    pub(super) last_index: u64,
    pub(super) learners_max: usize,
}

impl Roster {
    /// Whether `change` may be made. `was_removed` tells whether an id was a member once.
    pub(super) fn check(
        &self,
        change: &MemberChange,
        was_removed: impl Fn(u64) -> bool,
    ) -> Result<(), Error> {
        match change {
            MemberChange::Add {
                id,
                peer_urls,
                is_learner,
            } => {
                self.may_grow(*is_learner)?;
                if was_removed(id.0) {
                    return Err(Error::MemberNotFound);
                }
                if self.find(id.0).is_some() {
                    return Err(Error::MemberExists);
                }
                self.refuse_known_urls(id.0, peer_urls)?;
                if *is_learner && self.learners() >= self.learners_max {
                    return Err(Error::TooManyLearners);
                }
                Ok(())
            }
            MemberChange::Remove(id) => self.may_shrink(id.0),
            MemberChange::Update { id, peer_urls } => {
                self.find(id.0).ok_or(Error::MemberNotFound)?;
                self.refuse_known_urls(id.0, peer_urls)
            }
            MemberChange::Promote(id) => self.may_promote(id.0),
        }
    }

    fn find(&self, id: u64) -> Option<&Standing> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Members that etcd would count in a quorum.
    fn voters(&self) -> impl Iterator<Item = &Standing> {
        self.members
            .iter()
            .filter(|member| member.role != MemberRole::Learner)
    }

    fn learners(&self) -> usize {
        self.members.len() - self.voters().count()
    }

    fn started(&self) -> usize {
        self.voters().filter(|member| member.started).count()
    }

    fn refuse_known_urls(&self, id: u64, urls: &[String]) -> Result<(), Error> {
        let others = self.members.iter().filter(|member| member.id != id);
        let mut known = others.flat_map(|member| &member.peer_urls);
        if known.any(|url| urls.contains(url)) {
            Err(Error::PeerUrlExists)
        } else {
            Ok(())
        }
    }

    fn may_grow(&self, is_learner: bool) -> Result<(), Error> {
        let (voters, started) = (self.voters().count(), self.started());
        let members = voters + 1;
        // A cluster of one may grow, although its one started member is no quorum of two.
        let is_second = started == 1 && members == 2;
        if !is_learner && !is_second && !is_quorum(started, members) {
            return Err(Error::NotEnoughStartedMembers);
        }
        // As in etcd 3.7; older ones want every voter connected.
        let connected = self.voters().filter(|member| member.connected).count();
        if voters == 1 || is_quorum(connected, members) {
            Ok(())
        } else {
            Err(Error::UnhealthyCluster)
        }
    }

    fn may_shrink(&self, id: u64) -> Result<(), Error> {
        let leaving = self.find(id);
        // They have no vote, so removing them costs nothing.
        if leaving.is_some_and(|member| member.role != MemberRole::Voter) {
            return Ok(());
        }
        let rest = || self.voters().filter(|member| member.id != id);
        let started = rest().filter(|member| member.started).count();
        if !is_quorum(started, rest().count()) {
            return Err(Error::NotEnoughStartedMembers);
        }
        let leaving = leaving.ok_or(Error::MemberNotFound)?;
        if !rest().any(|member| member.role == MemberRole::Voter) {
            // No other member has caught up yet and could take over.
            return Err(Error::UnhealthyCluster);
        }
        // A member that is down is not part of the working quorum.
        if !leaving.active && id != self.me {
            return Ok(());
        }
        let connected = self.voters().filter(|member| member.connected).count();
        let needed = 1 + (self.voters().count() - 1) / 2;
        if connected.saturating_sub(1) < needed {
            Err(Error::UnhealthyCluster)
        } else {
            Ok(())
        }
    }

    fn may_promote(&self, id: u64) -> Result<(), Error> {
        let member = self.find(id).ok_or(Error::MemberNotFound)?;
        let matched = member.matched.unwrap_or(0);
        let is_near = u128::from(matched) * 100 >= u128::from(self.last_index * READY_PERCENT);
        let is_ready = is_near && member.active && member.started;
        if id != self.me && !is_ready {
            return Err(Error::LearnerNotReady);
        }
        let (started, members) = (self.started() + 1, self.voters().count() + 1);
        if !is_quorum(started, members) {
            return Err(Error::NotEnoughStartedMembers);
        }
        match member.role {
            MemberRole::Learner => Ok(()),
            MemberRole::Voter | MemberRole::Joining => Err(Error::MemberNotLearner),
        }
    }
}

fn is_quorum(some: usize, all: usize) -> bool {
    2 * some > all
}

#[cfg(test)]
#[path = "roster_test.rs"]
mod tests;
