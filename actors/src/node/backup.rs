//! A backup on its way to a client: the store's durable state as one of etcd's snapshot files,
//! followed by its hash, while writes go on.
//!
//! A blocking thread writes into a short channel. While the backup runs, the store's file keeps
//! what it still needs, so a reader that stands still is given up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use althing_api::error::Error;
use althing_storage::backup::{Backup, BackupError};
use althing_storage::store::{CheckpointError, Store};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};

use crate::chunks::{CHUNKS_MAX, Chunked};
use crate::store_writer::{Checkpoint, StoreWriter};

/// Backups under way at once; one more is refused with `TooManyRequests`.
const BACKUPS_MAX: usize = 2;
/// The longest time that a reader may take for one chunk.
const STALL_MAX: Duration = Duration::from_secs(60);
/// The longest wait until the store's file holds what was applied.
const CHECKPOINT_MAX: Duration = Duration::from_secs(10);
/// Pause between two checks whether it does.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(20);

/// The bytes of a backup; the first `file_bytes` are the file, and its hash follows.
#[derive(Debug)]
pub struct BackupStream {
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// File and hash; an error ends it when the store's file cannot be read.
    pub body: mpsc::Receiver<io::Result<Bytes>>,
}

/// What backups need.
#[derive(Clone, Debug)]
pub(crate) struct Backups {
    store: Store,
    store_writer: Addr<StoreWriter>,
    places: Arc<Semaphore>,
}

impl Backups {
    pub(crate) fn new(store: Store, store_writer: Addr<StoreWriter>) -> Backups {
        Backups {
            store,
            store_writer,
            places: Arc::new(Semaphore::new(BACKUPS_MAX)),
        }
    }

    /// Begins a backup of at least all that is applied now.
    pub(crate) async fn begin(&self) -> Result<BackupStream, Error> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Error::TooManyRequests)?;
        self.checkpoint().await?;
        let store = self.store.clone();
        let opened = tokio::task::spawn_blocking(move || Backup::open(&store)).await;
        let backup = opened.map_err(|_| Error::Stopped)?.map_err(|error| {
            tracing::warn!(%error, "a snapshot for a client was not begun");
            match error {
                BackupError::Store(CheckpointError::NoSpace) => Error::NoSpace,
                _ => Error::Corrupt,
            }
        })?;
        Ok(stream(backup, place))
    }

    /// Returns when the store's file holds all that is applied now. The log's own flush may be
    /// behind what a quorum of other members made durable.
    async fn checkpoint(&self) -> Result<(), Error> {
        let wanted = self.store.applied().log_id;
        let end = Instant::now() + CHECKPOINT_MAX;
        loop {
            let durable = self.store_writer.send(Checkpoint).await;
            if durable.map_err(|_| Error::Stopped)? >= wanted {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(Error::Timeout);
            }
            sleep(CHECKPOINT_PAUSE).await;
        }
    }
}

fn stream(backup: Backup, place: OwnedSemaphorePermit) -> BackupStream {
    let file_bytes = backup.bytes();
    let (chunks, body) = mpsc::channel(CHUNKS_MAX);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let began = std::time::Instant::now();
        let mut outlet = Chunked::new(|chunk| send(&runtime, &chunks, chunk));
        match backup.stream(&mut outlet) {
            Ok(()) => tracing::info!(
                bytes = file_bytes,
                took = ?began.elapsed(),
                "sent a snapshot to a client"
            ),
            Err(error) => {
                tracing::warn!(%error, "a snapshot for a client ended early");
                // The reader may be gone, which would be why this failed.
                let _ = chunks.try_send(Err(io::Error::other(error)));
            }
        }
    });
    BackupStream { file_bytes, body }
}

/// Waits for room, but not forever.
fn send(
    runtime: &Handle,
    chunks: &mpsc::Sender<io::Result<Bytes>>,
    chunk: Bytes,
) -> io::Result<()> {
    match runtime.block_on(timeout(STALL_MAX, chunks.send(Ok(chunk)))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
