//! What StoreWriter is told.

use std::io;

use actix::Message;
use althing_storage::entry::LogId;
use tokio::sync::oneshot;

use crate::snapshotter::Received;

/// A hint that there is work.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Pending;

/// Make as much durable as may be. Answers how far the store's file is then: everything applied
/// and flushed before, unless the disk is full.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<LogId>")]
pub(crate) struct Checkpoint;

/// Put the state of another member in the place of the store. Nothing is applied meanwhile. Answers
/// `None`, or the state itself when the disk is too full to note what is about to happen: nothing
/// did.
#[derive(Debug, Message)]
#[rtype(result = "io::Result<Option<Received>>")]
pub(crate) struct Restore {
    pub(crate) received: Received,
}

/// Give unused space of the store's file back to the disk. Answered when that is done, or with why
/// it was not; nobody else waits for it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Defragment {
    pub(crate) reply: oneshot::Sender<Result<(), String>>,
}

/// To itself: what is pending is committed, once nothing else waits.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StepCommit;

/// To itself: one window of the copy, once nothing else waits.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StepRebuild;

/// To itself: one window of physical compaction, once nothing else waits.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StepCompaction;
