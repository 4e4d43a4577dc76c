//! When StoreWriter commits, and how much. Pure.

use std::time::Duration;

/// When, and how much.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointPace {
    /// Time between two looks at the pending records.
    pub interval: Duration,
    /// Records of one commit, about.
    pub records_max: usize,
    /// Revisions of one window of compaction.
    pub compact_revisions_max: usize,
}

impl Default for CheckpointPace {
    fn default() -> CheckpointPace {
        CheckpointPace {
            interval: Duration::from_millis(200),
            records_max: 2_000,
            compact_revisions_max: 2_000,
        }
    }
}

/// What the last commit left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on at once.
    Commit,
    /// What is left waits for the log to be flushed: try again at the next tick.
    WaitForLog,
    /// Nothing is left: there is time for compaction.
    Compact,
}

/// What to do after a commit that left `remaining` records and did (`progressed`) or did not move
/// the durable mark.
pub fn next(remaining: usize, progressed: bool) -> Next {
    match (remaining, progressed) {
        (0, _) => Next::Compact,
        (_, true) => Next::Commit,
        (_, false) => Next::WaitForLog,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_go_on_while_they_move_the_mark_and_compaction_comes_last() {
        let table = [
            (0, true, Next::Compact),
            (0, false, Next::Compact),
            (1, true, Next::Commit),
            (1, false, Next::WaitForLog),
        ];
        for (remaining, progressed, expected) in table {
            assert_eq!(next(remaining, progressed), expected, "{remaining} {progressed}");
        }
    }
}
