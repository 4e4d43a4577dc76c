//! What the WAL can still write without new disk space. Code that admits writes needs this: an
//! entry for which there is no room must not be begun, because it could not be finished before
//! there is.

use super::batch::OVERHEAD_BYTES;
use super::prepare::Shared;
use std::fmt;
use std::sync::Arc;

/// The room of the log at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes left in the segment being written.
    pub room_bytes: u64,
    /// Whole segments that are ready behind that one.
    pub ready_segments: u64,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Whether no segment is ready and the last attempt to make one found no space. It turns false
    /// by itself. (If false, a missing segment is still being made.)
    pub exhausted: bool,
    /// Whether the log cannot be written any more; its next flush fails.
    pub failed: bool,
}

impl Space {
    /// Bytes of records that certainly fit, in whatever order and batches they come, if none of
    /// them is larger than `record_bytes_max`: a record never spans segments, so the end of each
    /// segment but the last may stay unused by almost one record.
    pub fn certain_bytes(&self, record_bytes_max: u64) -> u64 {
        let segment = self.segment_bytes.saturating_sub(OVERHEAD_BYTES);
        match self.ready_segments {
            0 => self.room_bytes,
            ready => {
                let used_up_to_a_record = |bytes: u64| bytes.saturating_sub(record_bytes_max);
                used_up_to_a_record(self.room_bytes)
                    + (ready - 1) * used_up_to_a_record(segment)
                    + segment
            }
        }
    }
}

/// Shows the space of a log to any thread. Clones look at the same log.
#[derive(Clone, Debug)]
pub struct LogSpace(Arc<Shared>);

/// Called when the space of the log may have grown, or is found to be exhausted.
pub(super) struct Watcher(Box<dyn Fn() + Send + Sync>);

impl LogSpace {
    pub(super) fn new(shared: Arc<Shared>) -> LogSpace {
        LogSpace(shared)
    }

    /// The current space. Entries that were given to the WAL and are not flushed are not
    /// subtracted.
    pub fn now(&self) -> Space {
        self.0.space()
    }

    /// Asks for a further segment at once, if none is ready.
    pub fn want(&self) {
        self.0.want();
    }

    /// Calls `watcher` from now on, on a thread of the WAL, after each attempt to make a segment
    /// ready. It must be quick. Only the first watcher of a log counts.
    pub fn watch(&self, watcher: impl Fn() + Send + Sync + 'static) {
        self.0.watch(Watcher(Box::new(watcher)));
    }
}

impl Watcher {
    pub(super) fn tell(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(room_bytes: u64, ready_segments: u64) -> Space {
        Space {
            room_bytes,
            ready_segments,
            segment_bytes: 1000 + OVERHEAD_BYTES,
            exhausted: false,
            failed: false,
        }
    }

    /// The least number of bytes that fits if records of these sizes are placed as the WAL places
    /// them.
    fn placed(space: &Space, sizes: &[u64]) -> bool {
        let (mut room, mut ready) = (space.room_bytes, space.ready_segments);
        for size in sizes {
            if *size > room {
                if ready == 0 {
                    return false;
                }
                ready -= 1;
                room = space.segment_bytes - OVERHEAD_BYTES;
            }
            room -= size;
        }
        true
    }

    #[test]
    fn what_certainly_fits_fits_in_every_order() {
        for room in [0, 5, 100, 299, 300, 301, 1000] {
            for ready in 0..3 {
                let space = space(room, ready);
                for sizes in [[300, 1, 299], [299, 300, 1], [7, 7, 7], [100, 300, 50]] {
                    let certain = space.certain_bytes(300);
                    let mut sum = 0;
                    let fitting = sizes.iter().cycle().copied();
                    let fitting: Vec<u64> = fitting
                        .take_while(|size| {
                            sum += size;
                            sum <= certain
                        })
                        .collect();
                    assert!(placed(&space, &fitting), "{space:?} {sizes:?} {certain}");
                }
            }
        }
    }

    #[test]
    fn the_end_of_each_segment_but_the_last_may_stay_unused() {
        assert_eq!(space(400, 0).certain_bytes(300), 400);
        assert_eq!(space(400, 1).certain_bytes(300), 100 + 1000);
        assert_eq!(space(200, 2).certain_bytes(300), 700 + 1000);
    }
}
