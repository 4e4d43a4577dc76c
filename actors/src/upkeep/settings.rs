//! Upkeep settings that an operator may choose, also at run time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// What a member does without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpkeepSettings {
    /// Bytes in the store above which commands that add are refused; `None` means no limit.
    pub quota_bytes: Option<u64>,
    /// Which history is kept.
    pub auto_compaction: AutoCompaction,
    /// Time between two comparisons of the members' records; zero means never.
    pub corrupt_check_interval: Duration,
    /// Whether a member compares its records with the others' before it serves.
    pub initial_corrupt_check: bool,
}

/// Which history the leader keeps from compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// The leader compacts nothing.
    Off,
    /// Keeps the history of this span of time, which must not be zero.
    Period(Duration),
    /// Keeps this number of revisions, which must be positive.
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

/// The current settings. Clones share them, and always read the newest.
#[derive(Clone, Debug)]
pub struct SharedSettings(Arc<watch::Sender<UpkeepSettings>>);

impl SharedSettings {
    pub(crate) fn new(settings: UpkeepSettings) -> SharedSettings {
        SharedSettings(Arc::new(watch::Sender::new(settings)))
    }

    /// The current settings.
    pub fn get(&self) -> UpkeepSettings {
        *self.0.borrow()
    }

    /// Puts other settings in force.
    pub fn set(&self, settings: UpkeepSettings) {
        self.0.send_replace(settings);
    }
}
