//! Which snapshots are on their way to other members, and whether they progress. While one does,
//! the log behind it is kept; a member that takes no bytes must not keep it forever. Pure but for
//! the lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a transfer may stand still, besides as long again as bytes have moved: a member needs
/// less time to index what it got than it took to send.
const STILL_MAX: Duration = Duration::from_secs(30);
/// Transfers to one member with no longer pause between them are attempts of the same transfer.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The transfers to all members. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sendings(Arc<Mutex<BTreeMap<u64, Course>>>);

/// A transfer to one member, in one attempt or several.
#[derive(Debug)]
struct Course {
    under_way: usize,
    began: Instant,
    /// How many bytes it ever got to; `moved` says when.
    furthest: u64,
    moved: Instant,
    /// When the last attempt ended.
    left: Instant,
}

impl Course {
    fn new(now: Instant) -> Course {
        Course {
            under_way: 0,
            began: now,
            furthest: 0,
            moved: now,
            left: now,
        }
    }

    fn begin(&mut self, now: Instant) {
        if self.under_way == 0 && now.duration_since(self.left) > PAUSE_MAX {
            *self = Course::new(now);
        }
        self.under_way += 1;
    }

    /// Bytes that were sent before do not count as progress: a frozen process takes the first bytes
    /// of every attempt.
    fn reach(&mut self, offset: u64, now: Instant) {
        if offset > self.furthest {
            (self.furthest, self.moved) = (offset, now);
        }
    }

    fn end(&mut self, now: Instant) {
        self.under_way -= 1;
        self.left = now;
    }

    fn gets_on(&self, now: Instant) -> bool {
        let patience = STILL_MAX + self.moved.duration_since(self.began);
        self.under_way > 0 && now.duration_since(self.moved) < patience
    }
}

/// One attempt, until it is dropped.
#[derive(Debug)]
pub(crate) struct Sending {
    member: u64,
    all: Sendings,
}

impl Sendings {
    /// Whether a snapshot is progressing.
    pub(crate) fn are_under_way(&self) -> bool {
        let now = Instant::now();
        self.0.lock().values().any(|course| course.gets_on(now))
    }

    pub(super) fn begin(&self, member: u64) -> Sending {
        let now = Instant::now();
        let mut all = self.0.lock();
        let course = all.entry(member).or_insert_with(|| Course::new(now));
        course.begin(now);
        Sending {
            member,
            all: self.clone(),
        }
    }
}

impl Sending {
    /// A callback that is told how many more bytes were sent.
    pub(crate) fn meter(&self) -> impl FnMut(usize) + Send + 'static {
        let (member, all, mut gone) = (self.member, self.all.clone(), 0);
        move |bytes| {
            gone += bytes as u64;
            if let Some(course) = all.0.lock().get_mut(&member) {
                course.reach(gone, Instant::now());
            }
        }
    }

    /// Notes that the member has the snapshot.
    pub(crate) fn arrived(self) {
        let mut all = self.all.0.lock();
        if let Some(course) = all.get_mut(&self.member) {
            let under_way = course.under_way;
            *course = Course::new(Instant::now());
            course.under_way = under_way;
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(course) = self.all.0.lock().get_mut(&self.member) {
            course.end(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_transfer_is_under_way_for_as_long_as_it_gets_on_and_a_while_more() {
        let start = Instant::now();
        let mut course = Course::new(start);
        assert!(!course.gets_on(start), "it did not begin");
        course.begin(start);
        course.reach(100, start + 60 * SECOND);
        assert!(course.gets_on(start + 149 * SECOND), "30 and 60 after 60");
        assert!(!course.gets_on(start + 150 * SECOND));
        course.reach(101, start + 151 * SECOND);
        assert!(course.gets_on(start + 152 * SECOND));
        course.end(start + 153 * SECOND);
        assert!(!course.gets_on(start + 153 * SECOND));
    }

    #[test]
    fn tries_that_come_no_further_are_one_that_stands_still() {
        let start = Instant::now();
        let mut course = Course::new(start);
        for second in 0..60 {
            let now = start + second * SECOND;
            course.begin(now);
            course.reach(50, now);
            assert_eq!(course.gets_on(now), second < 30, "{second}");
            course.end(now);
        }
        let later = start + 80 * SECOND;
        course.begin(later);
        assert!(course.gets_on(later), "another one");
    }
}
