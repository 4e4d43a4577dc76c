//! Where the log and the state machine are, readable from every thread without a message.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::latest;

/// Who leads in a term; leader 0: none is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TermLeader {
    pub(crate) term: u64,
    pub(crate) leader: u64,
}

/// Published by the log store, the Applier and RaftNode; read by everybody.
///
/// Indexes are stored plus one, so that zero means "none": the first entry has index 0.
#[derive(Debug)]
pub(crate) struct Progress {
    committed_next: AtomicU64,
    applied_next: AtomicU64,
    /// Follows `applied_next`, for tasks that wait; updated once per batch.
    applied_batches: latest::Sender<u64>,
    term: AtomicU64,
    leader: AtomicU64,
    leader_changes: AtomicU64,
    /// Follows `term` and `leader`, for tasks that wait for a leader.
    leaders: latest::Sender<TermLeader>,
    led_since: Mutex<Option<Instant>>,
    /// When RaftNode last saw who leads.
    seen: Mutex<Option<Instant>>,
    /// The term in which this member leads unheard by a quorum; zero: none.
    unheard_in: AtomicU64,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            committed_next: AtomicU64::new(0),
            applied_next: AtomicU64::new(0),
            applied_batches: latest::Sender::new(0),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
            leaders: latest::Sender::new(TermLeader::default()),
            led_since: Mutex::new(None),
            seen: Mutex::new(None),
            unheard_in: AtomicU64::new(0),
        }
    }
}

impl Progress {
    pub(crate) fn commit(&self, index: u64) {
        self.committed_next.fetch_max(index + 1, Ordering::Relaxed);
    }

    /// Everything up to `index` is visible in the store.
    pub(crate) fn apply(&self, index: u64) {
        self.applied_next.fetch_max(index + 1, Ordering::Release);
    }

    /// Wakes the tasks that wait for what was applied.
    pub(crate) fn applied_a_batch(&self) {
        let applied = self.applied_next.load(Ordering::Acquire);
        self.applied_batches.send_if_modified(|next| {
            let advanced = applied > *next;
            *next = applied.max(*next);
            advanced
        });
    }

    /// Notes term and leader (0: none known). Returns whether the leader changed.
    pub(crate) fn lead(&self, term: u64, leader: u64) -> bool {
        self.term.store(term, Ordering::Relaxed);
        *self.seen.lock() = Some(Instant::now());
        let changed = self.leader.swap(leader, Ordering::Relaxed) != leader;
        if changed && leader != 0 {
            self.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
        if changed {
            *self.led_since.lock() = (leader != 0).then(Instant::now);
        }
        self.leaders.send_if_modified(|known| {
            let former = std::mem::replace(known, TermLeader { term, leader });
            *known != former
        });
        changed
    }

    /// Notes the term in which this member leads without being heard by a quorum, if it does.
    pub(crate) fn lead_unheard(&self, term: Option<u64>) {
        self.unheard_in.store(term.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether this member, which leads in `term`, counts as no leader, since no quorum hears it.
    /// Not known of a lead that RaftNode has not seen yet, which counts.
    pub(crate) fn is_unheard_in(&self, term: u64) -> bool {
        self.unheard_in.load(Ordering::Relaxed) == term
    }

    /// Zero when nothing was committed.
    pub(crate) fn committed(&self) -> u64 {
        self.committed_next
            .load(Ordering::Relaxed)
            .saturating_sub(1)
    }

    /// Zero when nothing was applied.
    pub(crate) fn applied(&self) -> u64 {
        self.applied_next.load(Ordering::Acquire).saturating_sub(1)
    }

    /// Whether the entry at `index` is applied.
    pub(crate) fn has_applied(&self, index: u64) -> bool {
        self.applied_next.load(Ordering::Acquire) > index
    }

    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub(crate) fn leader(&self) -> u64 {
        self.leader.load(Ordering::Relaxed)
    }

    pub(crate) fn term_leader(&self) -> TermLeader {
        *self.leaders.borrow()
    }

    /// Since when the current leader is known; `None` if there is no leader.
    pub(crate) fn led_since(&self) -> Option<Instant> {
        *self.led_since.lock()
    }

    /// Whether RaftNode saw who leads within this time. It looks with each heartbeat, so an older
    /// view is from before the process stood still.
    pub(crate) fn is_seen_within(&self, span: Duration) -> bool {
        self.seen.lock().is_some_and(|seen| seen.elapsed() <= span)
    }

    pub(crate) fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }

    /// Waits until `wanted` accepts the leader; zero stands for none.
    pub(crate) async fn until_leader(&self, wanted: impl Fn(u64) -> bool) {
        let mut receiver = self.leaders.subscribe();
        receiver
            .wait_for(|known| wanted(known.leader))
            .await
            .map(drop)
            .expect("self holds the sender, so the channel is open");
    }

    /// The result of `asking` the leader; `None` if another leads first, if the same one leads in
    /// another term, or if none is known. The network itself takes seconds to tell that a member
    /// is cut off.
    pub(crate) async fn while_leads<T>(
        &self,
        asked: TermLeader,
        asking: impl Future<Output = T>,
    ) -> Option<T> {
        let mut receiver = self.leaders.subscribe();
        tokio::select! {
            biased;
            answer = asking => Some(answer),
            _ = receiver.wait_for(|known| *known != asked) => None,
        }
    }

    /// Follows the batches that were applied.
    pub(crate) fn applied_batches(&self) -> latest::Receiver<u64> {
        self.applied_batches.subscribe()
    }

    /// Waits until the entry at `index` is applied.
    pub(crate) async fn until_applied(&self, index: u64) {
        let mut receiver = self.applied_batches.subscribe();
        receiver
            .wait_for(|next| *next > index)
            .await
            .map(drop)
            .expect("self holds the sender, so the channel is open");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn waiting_for_an_applied_index_ends_when_it_is_applied() {
        let progress = Progress::default();
        progress.apply(3);
        progress.applied_a_batch();
        progress.until_applied(3).await;
        let later = async {
            progress.apply(5);
            progress.applied_a_batch();
        };
        tokio::join!(progress.until_applied(5), later);
        progress.apply(4);
        assert_eq!(progress.applied(), 5, "it never goes back");
    }

    #[actix::test]
    async fn a_leader_that_is_none_any_more_is_not_waited_for() {
        let progress = Progress::default();
        progress.lead(1, 7);
        let first = progress.term_leader();
        assert_eq!(progress.while_leads(first, async { 5 }).await, Some(5));
        let endless = || progress.while_leads(first, std::future::pending::<()>());
        let replaced = async { progress.lead(2, 8) };
        assert_eq!(tokio::join!(endless(), replaced).0, None);
        progress.lead(3, 7);
        assert_eq!(
            endless().await,
            None,
            "it leads again, and may have lost what it told"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_of_the_leader_ages() {
        let (progress, span) = (Progress::default(), Duration::from_millis(300));
        assert!(!progress.is_seen_within(span), "nobody looked yet");
        progress.lead(1, 7);
        assert!(progress.is_seen_within(span));
        tokio::time::advance(span + Duration::from_millis(1)).await;
        assert!(!progress.is_seen_within(span));
        progress.lead(1, 7);
        assert!(progress.is_seen_within(span));
    }

    #[test]
    fn a_lead_that_is_new_counts_until_it_is_seen_to_be_unheard() {
        let progress = Progress::default();
        assert!(!progress.is_unheard_in(3));
        progress.lead_unheard(Some(3));
        assert!(progress.is_unheard_in(3) && !progress.is_unheard_in(4));
        progress.lead_unheard(None);
        assert!(!progress.is_unheard_in(3));
    }

    #[test]
    fn losing_the_leader_is_no_change_that_counts_and_finding_one_is() {
        let progress = Progress::default();
        assert!(progress.lead(1, 7));
        assert!(!progress.lead(1, 7));
        assert!(progress.lead(2, 0));
        assert!(progress.lead(2, 8));
        assert_eq!(progress.leader_changes(), 2);
        assert_eq!((progress.term(), progress.leader()), (2, 8));
    }
}
