//! What StoreWriter is told.

use actix::Message;
use althing_storage::entry::LogId;

/// A hint that there is work.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Pending;

/// Make as much durable as may be. Answers how far the store's file is then: everything applied
/// and flushed before, unless the disk is full.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<LogId>")]
pub(crate) struct Checkpoint;

/// To itself: one window of physical compaction, once nothing else waits.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StepCompaction;
