//! When StoreWriter commits, and how much at once. Pure.

use std::time::Duration;

/// How often, and how much.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointPace {
    /// Time between two looks at the pending records.
    pub interval: Duration,
    /// Records in one commit, roughly.
    pub records_max: usize,
    /// Revisions in one window of compaction.
    pub compact_revisions_max: usize,
    /// Windows of compaction after each commit, at most.
    pub compact_windows_max: usize,
}

impl Default for CheckpointPace {
    fn default() -> CheckpointPace {
        CheckpointPace {
            interval: Duration::from_millis(200),
            records_max: 2_000,
            compact_revisions_max: 2_000,
            compact_windows_max: 2,
        }
    }
}

/// What to do after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on at once.
    Commit,
    /// The rest waits for the log to be flushed: try again at the next tick.
    WaitForLog,
    /// Nothing is left: there is time for compaction.
    Compact,
}

/// What to do after a commit that moved the durable mark or not (`progressed`), and left it behind
/// what was applied when it began or not (`behind`).
pub fn next(behind: bool, progressed: bool) -> Next {
    match (behind, progressed) {
        (false, _) => Next::Compact,
        (true, true) => Next::Commit,
        (true, false) => Next::WaitForLog,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_go_on_while_they_move_the_mark_and_compaction_comes_last() {
        let table = [
            (false, true, Next::Compact),
            (false, false, Next::Compact),
            (true, true, Next::Commit),
            (true, false, Next::WaitForLog),
        ];
        for (behind, progressed, expected) in table {
            assert_eq!(next(behind, progressed), expected, "{behind} {progressed}");
        }
    }
}
