//! What an operator may say about the upkeep, also while the member runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// What an operator may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpkeepSettings {
    /// Bytes in the store above which what adds is refused; `None`: no limit.
    pub quota_bytes: Option<u64>,
    /// Which history is kept.
    pub auto_compaction: AutoCompaction,
    /// Time between two comparisons of the members' records; zero: never.
    pub corrupt_check_interval: Duration,
    /// Whether a member compares its records with the others' before it serves.
    pub initial_corrupt_check: bool,
}

/// Which history the leader keeps from compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All of it.
    Off,
    /// That of the last time of this length; more than nothing.
    Period(Duration),
    /// So many revisions; more than none.
    Revisions(i64),
}

impl Default for UpkeepSettings {
    fn default() -> UpkeepSettings {
        UpkeepSettings {
            quota_bytes: None,
            auto_compaction: AutoCompaction::Off,
            corrupt_check_interval: Duration::ZERO,
            initial_corrupt_check: true,
        }
    }
}

/// The settings in force. Clones share them, and who reads them reads the newest.
#[derive(Clone, Debug)]
pub struct SharedSettings(Arc<watch::Sender<UpkeepSettings>>);

impl SharedSettings {
    pub(crate) fn new(settings: UpkeepSettings) -> SharedSettings {
        SharedSettings(Arc::new(watch::Sender::new(settings)))
    }

    /// What is in force now.
    pub fn get(&self) -> UpkeepSettings {
        *self.0.borrow()
    }

    /// Puts others in force.
    pub fn set(&self, settings: UpkeepSettings) {
        self.0.send_replace(settings);
    }
}
