//! What goes into the next commit of the WAL, and when the batch is full. Pure.

/// Limits of one commit.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Payload bytes above which a batch is committed at once.
    pub bytes_max: usize,
    /// Entries above which a batch is committed at once.
    pub entries_max: usize,
}

impl Default for BatchLimits {
    fn default() -> BatchLimits {
        BatchLimits {
            bytes_max: 1024 * 1024,
            entries_max: 1024,
        }
    }
}

/// The entries written since the last commit, and the waiters for it.
#[derive(Debug)]
pub struct Batch<W> {
    limits: BatchLimits,
    bytes: usize,
    entries: usize,
    waiting: Vec<W>,
}

impl<W> Batch<W> {
    /// An empty batch.
    pub fn new(limits: BatchLimits) -> Batch<W> {
        Batch {
            limits,
            bytes: 0,
            entries: 0,
            waiting: Vec::new(),
        }
    }

    /// Adds `entries` with `bytes` of payload; `waiter` is told when they are durable. Returns
    /// whether the batch is full and must be committed now.
    #[must_use]
    pub fn add(&mut self, entries: usize, bytes: usize, waiter: W) -> bool {
        self.entries += entries;
        self.bytes += bytes;
        self.waiting.push(waiter);
        self.entries >= self.limits.entries_max || self.bytes >= self.limits.bytes_max
    }

    /// Payload bytes and entries so far.
    pub fn size(&self) -> (usize, usize) {
        (self.bytes, self.entries)
    }

    /// Ends the batch, and returns its waiters, newest first.
    ///
    /// The order matters. Raft keeps the newest completion as a watermark that includes all older
    /// ones; told the newest first, it wakes once per commit instead of once per append.
    pub fn end(&mut self) -> impl Iterator<Item = W> + use<'_, W> {
        self.entries = 0;
        self.bytes = 0;
        self.waiting.drain(..).rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits {
        bytes_max: 100,
        entries_max: 3,
    };

    #[test]
    fn a_batch_is_full_at_its_entries_or_its_bytes() {
        let mut batch = Batch::new(LIMITS);
        assert!(!batch.add(1, 10, 'a'));
        assert!(!batch.add(1, 10, 'b'));
        assert!(batch.add(1, 10, 'c'), "three entries");
        assert_eq!(batch.size(), (30, 3));

        let mut batch = Batch::new(LIMITS);
        assert!(!batch.add(1, 99, 'a'));
        assert!(batch.add(1, 1, 'b'), "a hundred bytes");
    }

    #[test]
    fn the_newest_waiter_is_told_first_and_nothing_is_left() {
        let mut batch = Batch::new(LIMITS);
        for waiter in ['a', 'b', 'c'] {
            let _ = batch.add(1, 40, waiter);
        }
        assert_eq!(batch.end().collect::<String>(), "cba");
        assert_eq!(batch.size(), (0, 0));
        assert_eq!(batch.end().count(), 0);
    }
}
