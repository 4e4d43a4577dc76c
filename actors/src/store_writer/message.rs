//! The messages that StoreWriter takes.

use std::io;

use actix::Message;
use althing_storage::entry::LogId;
use tokio::sync::oneshot;

use crate::snapshotter::Received;

/// A hint that there is work.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Pending;

/// Make as much durable as possible. The answer is how far the store's file is then: everything
/// that was applied and flushed before, unless the disk is full.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<LogId>")]
pub(crate) struct Checkpoint;

/// Put the state of another member in the place of the store. Nothing is applied meanwhile. The
/// answer is `None`, or the state itself if the disk is too full to note what is about to happen:
/// then nothing has happened.
#[derive(Debug, Message)]
#[rtype(result = "io::Result<Option<Received>>")]
pub(crate) struct Restore {
    pub(crate) received: Received,
}

/// Give unused space of the store's file back to the disk. The reply comes when that is done, or
/// says why it was not; nothing else waits for it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Defragment {
    pub(crate) reply: oneshot::Sender<Result<(), String>>,
}

/// To itself: commit what is pending, once nothing else waits.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StepCommit;

/// To itself: copy one window, once nothing else waits.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StepRebuild;

/// To itself: compact one window, once nothing else waits.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StepCompaction;
