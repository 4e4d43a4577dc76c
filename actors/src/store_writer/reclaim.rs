//! When the store's file is worth copying into a smaller one. Pure.

use std::time::{Duration, Instant};

/// A file whose excess over its content is less than this is left alone.
const WASTE_BYTES_MIN: u64 = 32 << 20;

/// How much larger than expected a file may be, in percent.
const SIZE_PERCENT_MAX: u64 = 130;

/// The pause after an attempt, successful or not.
const PAUSE: Duration = Duration::from_secs(10);

/// What earlier copies showed, and when the last one was attempted.
#[derive(Debug, Default)]
pub(super) struct Reclaim {
    /// The size of a fresh copy: allocated and used bytes.
    fresh: Option<(u64, u64)>,
    last_attempt: Option<Instant>,
    /// A number of free bytes that was too small for the last copy.
    too_few: u64,
}

impl Reclaim {
    /// Starts with what an earlier run of the member learnt.
    pub(super) fn knowing(fresh: Option<(u64, u64)>) -> Reclaim {
        Reclaim {
            fresh,
            ..Reclaim::default()
        }
    }

    /// Notes that a copy begins.
    pub(super) fn begins(&mut self, now: Instant) {
        self.last_attempt = Some(now);
    }

    /// Notes that a copy replaced the file and takes `allocated` bytes for `used` ones.
    pub(super) fn finished(&mut self, now: Instant, allocated: u64, used: u64) {
        self.fresh = Some((allocated, used));
        self.last_attempt = Some(now);
        self.too_few = 0;
    }

    /// Notes that a copy which began with `free` free bytes would have taken the disk's reserve.
    pub(super) fn ran_out(&mut self, free: u64) {
        self.too_few = free;
    }

    /// Whether a file of `allocated` bytes, `used` of them in use, should be copied. The disk must
    /// have room for both until the copy is whole: `free` bytes are free, and `reserve` of them
    /// must not be used.
    pub(super) fn is_due(&self, now: Instant, sizes: Sizes, free: u64, reserve: u64) -> bool {
        let Sizes { allocated, used } = sizes;
        let rests = self.last_attempt.is_some_and(|last| now < last + PAUSE);
        // Small rows take more than their bytes; only a copy shows how much more.
        let expected = match self.fresh {
            Some((size, of)) if of > 0 && size > of => scaled(used, size, of),
            _ => used,
        };
        let is_wasteful = allocated > scaled(expected, SIZE_PERCENT_MAX, 100)
            && allocated - expected.min(allocated) > WASTE_BYTES_MIN;
        let needed = scaled(expected, SIZE_PERCENT_MAX, 100).saturating_add(reserve);
        is_wasteful && !rests && free > needed.max(self.too_few)
    }
}

/// The size of the store's file, and how much of it is in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) allocated: u64,
    pub(super) used: u64,
}

/// `value * numerator / denominator`, or the maximum if that is too large.
fn scaled(value: u64, numerator: u64, denominator: u64) -> u64 {
    let product = u128::from(value) * u128::from(numerator) / u128::from(denominator);
    u64::try_from(product).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn sizes(allocated: u64, used: u64) -> Sizes {
        Sizes {
            allocated: allocated * MIB,
            used: used * MIB,
        }
    }

    #[test]
    fn a_file_is_copied_when_much_of_it_is_unused_and_the_disk_has_room_for_the_copy() {
        let (reclaim, now) = (Reclaim::default(), Instant::now());
        let due = |allocated, used, free| {
            reclaim.is_due(now, sizes(allocated, used), free * MIB, 64 * MIB)
        };
        assert!(due(2000, 1000, 2000));
        assert!(!due(1250, 1000, 2000), "little is unused");
        assert!(!due(40, 10, 2000), "it is small");
        assert!(!due(2000, 1000, 1100), "the copy would fill the disk");
    }

    #[test]
    fn what_a_fresh_copy_takes_is_not_waste_and_attempts_are_rare() {
        let (mut reclaim, now) = (Reclaim::default(), Instant::now());
        reclaim.begins(now);
        assert!(!reclaim.is_due(now, sizes(2000, 1000), u64::MAX, 0));
        reclaim.finished(now, 1500 * MIB, 1000 * MIB);
        let later = now + PAUSE;
        assert!(!reclaim.is_due(later, sizes(1800, 1000), u64::MAX, 0));
        assert!(reclaim.is_due(later, sizes(2000, 1000), u64::MAX, 0));
        let mut next = Reclaim::knowing(Some((1500 * MIB, 1000 * MIB)));
        assert!(!next.is_due(later, sizes(1800, 1000), u64::MAX, 0));
        assert!(next.is_due(later, sizes(2000, 1000), 2000 * MIB, 0));
        next.ran_out(2000 * MIB);
        assert!(!next.is_due(later, sizes(2000, 1000), 2000 * MIB, 0));
        assert!(next.is_due(later, sizes(2000, 1000), 2001 * MIB, 0));
    }
}
