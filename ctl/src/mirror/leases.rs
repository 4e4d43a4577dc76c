//! Leases carried over. Clients renew them at the source; at the destination they are kept alive
//! here until cut-over, and end when they end at the source.
//!
//! A lease has the same id on both sides. Its remaining life begins again at the destination: a
//! lease may live longer than granted, never shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use althing_api::error::Error as ApiError;
use tokio::time::{Instant, sleep};

use super::batch::Change;
use super::writer::passes;
use crate::client::Client;
use crate::failure::Failure;

/// How many renewals fit into a time to live.
const RENEWALS_PER_TTL: u32 = 3;
/// How many leases are renewed by one request.
const RENEWALS_MAX: usize = 1_000;
/// Time between two checks for leases that are due for renewal.
const TICK: Duration = Duration::from_millis(500);
/// Time between two checks of which leases the source still has.
const SURVEY: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
struct Held {
    ttl: Duration,
    renewed: Instant,
}

/// The leases at the destination. Clones share them.
#[derive(Clone)]
pub struct Leases {
    source: Client,
    destination: Client,
    held: Arc<Mutex<BTreeMap<i64, Held>>>,
}

impl Leases {
    /// Begins with no lease carried over.
    pub fn new(source: Client, destination: Client) -> Leases {
        Leases {
            source,
            destination,
            held: Arc::default(),
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut BTreeMap<i64, Held>) -> R) -> R {
        act(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many were carried over and live.
    pub fn count(&self) -> usize {
        self.with(|held| held.len())
    }

    /// Carries over every lease that the source has; returns how many those are.
    ///
    /// # Errors
    /// Those of asking and granting.
    pub async fn carry_all(&mut self) -> Result<usize, Failure> {
        let ids = self.source_ids().await?;
        for id in &ids {
            self.carry(*id).await?;
        }
        Ok(ids.len())
    }

    async fn source_ids(&mut self) -> Result<BTreeSet<i64>, Failure> {
        let answer = self.source.leases().await?;
        Ok(answer.leases.iter().map(|lease| lease.id).collect())
    }

    /// Makes sure that the destination has lease `id`; `false` if the source no longer has it.
    ///
    /// # Errors
    /// Those of asking and granting.
    pub async fn carry(&mut self, id: i64) -> Result<bool, Failure> {
        if self.with(|held| held.contains_key(&id)) {
            return Ok(true);
        }
        let life = self.source.time_to_live(id, false).await?;
        if life.ttl < 0 || life.granted_ttl <= 0 {
            return Ok(false);
        }
        let (renewed, ttl) = loop {
            let asked = Instant::now();
            match self.destination.grant_as(id, life.granted_ttl).await {
                Ok(answer) => break (asked, answer.ttl),
                // An earlier run granted it, and little of it may be left.
                Err(failure) if failure.text == "etcdserver: lease already exists" => {
                    if self.destination.renew(&[id]).await?.is_empty() {
                        break (asked, life.granted_ttl);
                    }
                }
                Err(failure) => {
                    self.destination.go_elsewhere();
                    return Err(failure);
                }
            }
        };
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(1));
        self.with(|held| held.insert(id, Held { ttl, renewed }));
        Ok(true)
    }

    /// Carries over the leases that `changes` name; a change loses its lease if the source no
    /// longer has it: the key's end is on its way.
    ///
    /// # Errors
    /// Those of asking and granting.
    pub async fn carry_for(&mut self, changes: &mut [Change]) -> Result<(), Failure> {
        for change in changes {
            if let Change::Put { lease, .. } = change
                && *lease != 0
                && !self.carry(*lease).await?
            {
                *lease = 0;
            }
        }
        Ok(())
    }

    /// Forgets the leases that `changes` name: they are carried over again when they are next seen.
    pub fn forget(&self, changes: &[Change]) {
        self.with(|held| {
            for change in changes {
                if let Change::Put { lease, .. } = change {
                    held.remove(lease);
                }
            }
        });
    }

    /// Renews what has to be renewed, and ends what the source has ended, until dropped. With
    /// `all`, carries over new leases of the source as well, even without keys.
    ///
    /// # Errors
    /// A refusal that does not pass.
    pub async fn keep(self, all: bool) -> Result<(), Failure> {
        // Concurrently: a source that does not answer must not cost a renewal.
        let (renewing, surveying) = (self.clone(), self);
        tokio::try_join!(renewing.keep_renewed(), surveying.keep_surveyed(all)).map(|_| ())
    }

    async fn keep_renewed(mut self) -> Result<(), Failure> {
        loop {
            sleep(TICK).await;
            self.renew(false).await.or_else(unless_it_passes)?;
        }
    }

    async fn keep_surveyed(mut self, all: bool) -> Result<(), Failure> {
        loop {
            sleep(SURVEY).await;
            self.survey(all).await.or_else(unless_it_passes)?;
        }
    }

    /// Renews the leases that are due, or all of them with `all`.
    ///
    /// # Errors
    /// The destination's refusal.
    pub async fn renew(&mut self, all: bool) -> Result<(), Failure> {
        let now = Instant::now();
        let is_due = |held: &Held| all || now - held.renewed >= held.ttl / RENEWALS_PER_TTL;
        let due: Vec<i64> = self.with(|held| {
            let due = held.iter().filter(|(_, held)| is_due(held));
            due.map(|(id, _)| *id).collect()
        });
        for ids in due.chunks(RENEWALS_MAX) {
            let asked = Instant::now();
            let gone = self.destination.renew(ids).await?;
            self.with(|held| {
                gone.iter().for_each(|id| _ = held.remove(id));
                for id in ids {
                    if let Some(held) = held.get_mut(id) {
                        held.renewed = asked;
                    }
                }
            });
        }
        Ok(())
    }

    /// Ends what the source has ended.
    async fn survey(&mut self, all: bool) -> Result<(), Failure> {
        // Taken before the source is asked: it may not know yet what is carried over meanwhile.
        let before: Vec<i64> = self.with(|held| held.keys().copied().collect());
        let ids = self.source_ids().await?;
        for id in before.into_iter().filter(|id| !ids.contains(id)) {
            // A member that lags lists too few; about a single lease it asks the leader.
            if self.source.time_to_live(id, false).await?.granted_ttl > 0 {
                continue;
            }
            // Forgotten first: a change that comes meanwhile must not be given a lease that ends.
            let held = self.with(|held| held.remove(&id));
            match self.destination.revoke(id).await {
                Err(failure) if failure.text != ApiError::LeaseNotFound.text() => {
                    self.with(|leases| leases.extend(held.map(|held| (id, held))));
                    return Err(failure);
                }
                _ => {}
            }
        }
        if all {
            for id in ids {
                self.carry(id).await?;
            }
        }
        Ok(())
    }
}

/// Lets a failure pass that may pass by itself.
fn unless_it_passes(failure: Failure) -> Result<(), Failure> {
    if passes(&failure) {
        Ok(())
    } else {
        Err(failure)
    }
}
