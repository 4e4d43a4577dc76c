//! Shows that watchers see everything once: many watchers over one history that concurrent writers
//! make, while history is compacted, readers stop reading, streams break and the member restarts.
//!
//! ```text
//! writers --changes--> member --events--> readers, each a stream with several checkers
//!    |                   |                   |
//!    | acknowledged      | full reads        | what came, and what may come next
//!    v                   v                   v
//!  Board <---------- historian ---------> History (the truth, one entry for each revision)
//! ```
//! The truth does not come from watching: the historian reads all keys at every revision, and two
//! neighbouring reads tell what the later revision did. What writers were told must agree with it.
//! At the end every key is put and then deleted, so that each watcher has a last event to wait for.
//! A failure is a sentence that says which watcher, which revision and what was wrong.
//!
//! A real etcd (3.7) passes except for two flaws, which `Board::is_etcd` overlooks: progress that
//! was determined before a watcher was created may come after its creation, and while etcd stops,
//! events lack the former record.

pub mod changes;
pub mod checker;
pub mod historian;
pub mod history;
pub mod reader;
pub mod run;
pub mod stream;

#[cfg(test)]
mod checker_test;

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::watch;

use history::History;

/// What all tasks of one run see.
#[derive(Debug)]
pub struct Board {
    /// The member's port.
    pub port: u16,
    /// Whether known flaws of etcd pass.
    pub is_etcd: bool,
    /// The truth so far.
    pub history: History,
    /// The highest revision that a writer was told.
    pub acknowledged: watch::Sender<i64>,
    /// Which start of the member serves; 0 while it is down.
    pub serving: watch::Sender<u64>,
    /// The last revision of the run, once it is known.
    pub last: watch::Sender<Option<i64>>,
    /// The highest revision that a compaction was asked for.
    pub compacting: AtomicI64,
}

impl Board {
    /// The board of a member that serves on `port` and has no history.
    pub fn new(port: u16, is_etcd: bool) -> Board {
        Board {
            port,
            is_etcd,
            history: History::default(),
            acknowledged: watch::Sender::new(1),
            serving: watch::Sender::new(1),
            last: watch::Sender::new(None),
            compacting: AtomicI64::new(0),
        }
    }

    /// Notes that a writer was told a revision.
    pub fn acknowledge(&self, revision: i64) {
        self.acknowledged.send_if_modified(|highest| {
            let is_higher = revision > *highest;
            *highest = revision.max(*highest);
            is_higher
        });
    }

    /// Waits until the member serves; returns which start of it that is.
    pub async fn served(&self) -> u64 {
        let mut serving = self.serving.subscribe();
        let served = serving.wait_for(|start| *start > 0).await;
        *served.expect("the board holds the sender")
    }

    /// Waits until a revision was acknowledged, or the last one of all is known.
    pub async fn reached(&self, revision: i64) {
        let mut acknowledged = self.acknowledged.subscribe();
        let mut last = self.last.subscribe();
        tokio::select! {
            reached = acknowledged.wait_for(|highest| *highest >= revision) => {
                reached.map(|_| ()).expect("the board holds the sender");
            }
            ended = last.wait_for(Option::is_some) => {
                ended.map(|_| ()).expect("the board holds the sender");
            }
        }
    }

    /// The revision below which history may be gone.
    pub fn compacted_perhaps(&self) -> i64 {
        self.compacting.load(Ordering::SeqCst)
    }

    /// Events of revisions up to this one may lack the former record.
    pub fn lacks_old_perhaps(&self) -> i64 {
        if self.is_etcd {
            i64::MAX
        } else {
            self.compacted_perhaps()
        }
    }
}
