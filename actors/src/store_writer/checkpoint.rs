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

/// What to do after a commit that did (`progressed`) or did not move the durable mark and left it
/// behind (`behind`) what was applied when it began.
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
