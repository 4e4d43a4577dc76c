//! When the leader compacts by itself, and at which revision: etcd's rules. Pure.
//!
//! By time: the revision is noted ten times a period (one longer than an hour counts as an hour
//! here), and the one noted a whole period ago is compacted at, once a period, or once an hour. By
//! revisions: every five minutes, the given number of revisions behind the current one.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::settings::AutoCompaction;

/// The longest time between two compactions by time.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Looks within that time.
const LOOKS: u32 = 10;
/// The time between two compactions by revisions.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// What one policy has to remember. Followers remember too, so that the next leader goes on.
#[derive(Debug)]
pub(super) struct AutoCompactor {
    policy: AutoCompaction,
    next_look: Instant,
    /// Revisions noted, the newest last; used by time only.
    noted: VecDeque<i64>,
    /// The revision of the last compaction that succeeded.
    last: Option<i64>,
    last_success: Instant,
    /// The time between two compactions; at first the whole period.
    between: Duration,
}

impl AutoCompactor {
    pub(super) fn new(policy: AutoCompaction, now: Instant, revision: i64) -> AutoCompactor {
        let between = match policy {
            AutoCompaction::Period(period) => period,
            AutoCompaction::Off | AutoCompaction::Revisions(_) => Duration::ZERO,
        };
        AutoCompactor {
            policy,
            next_look: now + pause(policy),
            noted: VecDeque::from([revision]),
            last: None,
            last_success: now,
            between,
        }
    }

    pub(super) fn policy(&self) -> AutoCompaction {
        self.policy
    }

    /// The revision to compact at now, if any; `revision` is the current one.
    pub(super) fn due(&mut self, now: Instant, revision: i64, leads: bool) -> Option<i64> {
        if now < self.next_look {
            return None;
        }
        self.next_look = now + pause(self.policy);
        match self.policy {
            AutoCompaction::Off => None,
            AutoCompaction::Period(period) => self.due_by_time(now, revision, leads, period),
            AutoCompaction::Revisions(kept) => {
                let target = revision - kept;
                (leads && target > 0 && self.last != Some(target)).then_some(target)
            }
        }
    }

    fn due_by_time(
        &mut self,
        now: Instant,
        revision: i64,
        leads: bool,
        period: Duration,
    ) -> Option<i64> {
        let oldest = self.noted.front().copied();
        self.noted.push_back(revision);
        while self.noted.len() > noted_max(period) {
            self.noted.pop_front();
        }
        let rested = now.saturating_duration_since(self.last_success) >= self.between;
        let target = oldest.filter(|target| leads && rested && self.last != Some(*target))?;
        self.between = period.min(INTERVAL_MAX);
        Some(target)
    }

    /// Notes that the store was compacted at `revision`, now or earlier.
    pub(super) fn succeeded(&mut self, now: Instant, revision: i64) {
        self.last = Some(revision);
        self.last_success = now;
    }
}

/// The time between two looks.
fn pause(policy: AutoCompaction) -> Duration {
    match policy {
        AutoCompaction::Period(period) => period.min(INTERVAL_MAX) / LOOKS,
        AutoCompaction::Off | AutoCompaction::Revisions(_) => REVISION_INTERVAL,
    }
}

/// How many revisions to note, so that the oldest is a whole period old.
fn noted_max(period: Duration) -> usize {
    let pause = (period.min(INTERVAL_MAX) / LOOKS).max(Duration::from_nanos(1));
    let looks = period.as_nanos() / pause.as_nanos();
    usize::try_from(looks)
        .unwrap_or(usize::MAX)
        .saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Runs `minutes` with one revision a minute, and returns when it compacts and at which
    /// revision.
    fn run(policy: AutoCompaction, minutes: u32, leads: impl Fn(u32) -> bool) -> Vec<(u32, i64)> {
        let start = Instant::now();
        let mut compactor = AutoCompactor::new(policy, start, 1);
        let mut compactions = Vec::new();
        for minute in 1..=minutes {
            let (now, revision) = (start + minute * MINUTE, i64::from(minute) + 1);
            if let Some(target) = compactor.due(now, revision, leads(minute)) {
                compactor.succeeded(now, target);
                compactions.push((minute, target));
            }
        }
        compactions
    }

    #[test]
    fn a_short_period_is_kept_and_compacted_once_a_period() {
        let policy = AutoCompaction::Period(10 * MINUTE);
        let compactions = run(policy, 30, |_| true);
        // As in etcd, the oldest note is one look older than the period.
        assert_eq!(compactions, [(10, 1), (20, 10), (30, 20)]);
    }

    #[test]
    fn a_long_period_is_kept_and_compacted_once_an_hour() {
        let policy = AutoCompaction::Period(180 * MINUTE);
        let compactions = run(policy, 310, |_| true);
        // Looks are six minutes apart.
        assert_eq!(compactions, [(180, 1), (240, 55), (300, 115)]);
    }

    #[test]
    fn a_number_of_revisions_is_kept_and_compacted_every_five_minutes() {
        let policy = AutoCompaction::Revisions(8);
        let compactions = run(policy, 20, |_| true);
        assert_eq!(compactions, [(10, 3), (15, 8), (20, 13)]);
    }

    #[test]
    fn a_follower_does_not_compact_and_knows_the_revisions_when_it_leads() {
        let policy = AutoCompaction::Period(10 * MINUTE);
        let compactions = run(policy, 26, |minute| minute > 25);
        assert_eq!(compactions, [(26, 16)]);
        assert!(run(AutoCompaction::Off, 1000, |_| true).is_empty());
    }

    #[test]
    fn a_revision_is_compacted_at_once() {
        let start = Instant::now();
        let mut compactor = AutoCompactor::new(AutoCompaction::Revisions(1), start, 1);
        let later = |looks: u32| start + looks * REVISION_INTERVAL;
        assert_eq!(compactor.due(later(1), 5, true), Some(4));
        assert_eq!(
            compactor.due(later(2), 5, true),
            Some(4),
            "the first one failed"
        );
        compactor.succeeded(later(2), 4);
        assert_eq!(compactor.due(later(3), 5, true), None);
    }
}
