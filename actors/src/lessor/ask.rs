//! Questions of the workers about leases, answered from the shared clock. Only an entry that takes
//! a checkpoint back crosses a mailbox.

use std::sync::Arc;
use std::time::Duration;

use althing_api::commandpb::{Command, LeaseCheckpoint, LeaseRemaining, command};
use althing_api::error::Error;
use althing_storage::store::LeaseRecord;

use super::clock::{KeptAlive, LeaseClock, LeaseState, LeaseTime};
use crate::peer_link::{Call, lease};
use crate::raft_node::{LiveTuning, Proposer};

/// Pause before this member looks again whether it counts, or asks the one that does again.
const LEAD_POLL: Duration = Duration::from_millis(50);

/// Answers questions about leases. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LeaseKeeper {
    pub(crate) me: u64,
    pub(crate) clock: Arc<LeaseClock>,
    pub(crate) proposer: Proposer,
    pub(crate) tuning: LiveTuning,
}

/// etcd's least time to live: one and a half election timeouts, counted in whole heartbeats, in
/// whole seconds rounded up.
fn ttl_min(heartbeat: Duration, election: Duration) -> i64 {
    let heartbeat = heartbeat.as_millis().max(1);
    let beats = 3 * (election.as_millis() / heartbeat) / 2;
    i64::try_from((beats * heartbeat).div_ceil(1000)).unwrap_or(i64::MAX)
}

impl LeaseKeeper {
    /// The shortest time to live that a lease may have, in seconds.
    pub(crate) fn ttl_min(&self) -> i64 {
        let tuning = self.tuning.get();
        ttl_min(tuning.heartbeat_interval, tuning.election_timeout)
    }

    /// Renews a lease; returns its time to live, or `None` if it does not exist. For an expired
    /// lease this waits until it has ended.
    pub(crate) async fn keep_alive(&self, id: i64) -> Result<Option<i64>, Error> {
        let time = self.ask_who_counts(Call::KeepLease, id).await?;
        Ok(time.map(|time| time.granted))
    }

    /// How long a lease still lives; `None` if it does not exist.
    pub(crate) async fn time_to_live(&self, id: i64) -> Result<Option<LeaseTime>, Error> {
        self.ask_who_counts(Call::LeaseTime, id).await
    }

    /// Asks the leading member, this one or another, until it answers; the caller's timeout bounds
    /// how often. Asking twice does no harm. The end of an expired lease is waited for here: the
    /// leader has but so many places for the calls of another member, and those are for leases
    /// that can be renewed.
    async fn ask_who_counts(&self, call: Call, id: i64) -> Result<Option<LeaseTime>, Error> {
        loop {
            let progress = &self.proposer.progress;
            let asked = progress.term_leader();
            let answer = match self.proposer.links.to(asked.leader) {
                None if call == Call::KeepLease => self.renew_here(id).await,
                None => self.time_here(id).await,
                Some(link) => {
                    let asking = link.call(call, lease::question_out(id));
                    match progress.while_leads(asked, asking).await {
                        Some(Ok(answer)) => {
                            lease::answer_in(answer).unwrap_or(Err(Error::NoLeader))
                        }
                        Some(Err(_)) | None => Err(Error::NoLeader),
                    }
                }
            };
            let ending = match answer {
                Ok(LeaseState::Lives(time)) => return Ok(Some(time)),
                Ok(LeaseState::Unknown) => return Ok(None),
                Ok(LeaseState::Ending(generation)) => Some(generation),
                // That member does not lead any more, or stops.
                Err(Error::NoLeader) => None,
                Err(Error::Stopped) if asked.leader != self.me => None,
                // A refusal would end the stream of all the client's leases.
                Err(Error::TooManyRequests) => None,
                Err(error) => return Err(error),
            };
            let pause = async {
                if let Some(generation) = ending {
                    // The next leader lets it live on.
                    let ended = self.until_ended(id, generation);
                    progress.while_leads(asked, ended).await;
                }
                // Also if it ended: this member may not have heard yet that it was granted.
                tokio::time::sleep(LEAD_POLL).await;
            };
            tokio::select! {
                biased;
                () = self.proposer.proposals.closed() => return Err(Error::Stopped),
                () = pause => {}
            }
        }
    }

    /// Waits until this generation of a lease is not in this member's store.
    async fn until_ended(&self, id: i64, generation: u64) {
        let mut applied = self.proposer.progress.applied_batches();
        loop {
            let lease = self.proposer.store.lease(id);
            if lease.is_none_or(|lease| lease.generation != generation) {
                return;
            }
            let changed = applied.changed().await;
            changed.expect("progress outlives who asks it");
        }
    }

    /// Renews a lease if this member counts. Waits for no lease to end. Errors: `NoLeader` if
    /// another one leads.
    pub(crate) async fn renew_here(&self, id: i64) -> Result<LeaseState, Error> {
        let store = &self.proposer.store;
        let mut caught_up = false;
        loop {
            // A leader that lost its quorum goes on calling itself one, and another may count.
            if self.proposer.progress.leader() != self.me || self.clock.stood_still(&self.proposer)
            {
                self.wait_for_lead().await?;
                continue;
            }
            match self.clock.keep_alive(store, id) {
                KeptAlive::Renewed(ttl) => {
                    self.proposer.metrics.lease.renewed();
                    return Ok(LeaseState::Lives(LeaseTime {
                        granted: ttl,
                        remaining: ttl,
                    }));
                }
                KeptAlive::Unknown if caught_up => return Ok(LeaseState::Unknown),
                KeptAlive::Unknown => {
                    // Another member may have granted it a moment ago.
                    self.proposer.read_index().await?;
                    caught_up = true;
                }
                KeptAlive::Expired(generation) => return Ok(LeaseState::Ending(generation)),
                KeptAlive::Shortened(lease) => self.take_back(&lease).await?,
                KeptAlive::NotLeading => self.wait_for_lead().await?,
            }
        }
    }

    /// How long a lease still lives, if this member counts. Errors: as for `renew_here`.
    pub(crate) async fn time_here(&self, id: i64) -> Result<LeaseState, Error> {
        self.proposer.read_index().await?;
        loop {
            match self.clock.time_of(&self.proposer.store, id) {
                Some(time) => return Ok(time.map_or(LeaseState::Unknown, LeaseState::Lives)),
                None => self.wait_for_lead().await?,
            }
        }
    }

    /// All leases; those that end first come first.
    pub(crate) fn leases(&self) -> Vec<i64> {
        self.clock.by_deadline(&self.proposer.store)
    }

    /// Logs that a lease lives its whole time again, before any client is told so.
    async fn take_back(&self, lease: &LeaseRecord) -> Result<(), Error> {
        let whole = LeaseRemaining {
            id: lease.id,
            remaining_ttl: 0,
            generation: lease.generation,
        };
        let applied = self.proposer.propose(checkpoint(vec![whole], 0)).await?;
        applied.response.map(drop)?;
        // The clock is told too, but perhaps only after the next look.
        self.clock.look_up(&self.proposer.store, &[lease.id]);
        Ok(())
    }

    /// Returns after a pause if this member is the one to count; the caller's timeout bounds how
    /// often it asks again. Errors: `NoLeader` if another member leads, which has to be asked
    /// instead.
    async fn wait_for_lead(&self) -> Result<(), Error> {
        let leader = self.proposer.progress.leader();
        if leader != self.me && leader != 0 {
            return Err(Error::NoLeader);
        }
        tokio::select! {
            biased;
            () = self.proposer.proposals.closed() => Err(Error::Stopped),
            () = tokio::time::sleep(LEAD_POLL) => Ok(()),
        }
    }
}

/// The command that logs what is left of leases, as counted in a term; zero: by any leader.
pub(super) fn checkpoint(leases: Vec<LeaseRemaining>, counted_in_term: u64) -> Command {
    let request = command::Request::LeaseCheckpoint(LeaseCheckpoint {
        leases,
        counted_in_term,
    });
    Command {
        request: Some(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_time_to_live_is_etcds() {
        let table = [
            (100, 1000, 2),
            (100, 1500, 3),
            (10, 100, 1),
            (100, 5000, 8),
            (300, 1000, 2),
        ];
        for (heartbeat, election, expected) in table {
            let millis = Duration::from_millis;
            assert_eq!(ttl_min(millis(heartbeat), millis(election)), expected);
        }
    }
}
