//! A snapshot on its way in, over one connection or several: what arrived before one broke is not
//! sent again. One is on its way at a time.
//!
//! ```text
//!  POST from 0 --> fed to the node --end--> the node's answer
//!    '-- cut, or GET --> kept for a while --POST from where it is--> fed on
//!                          '-- nobody goes on --> given up
//!  another begins --> given up: the former sender has lost it, or leads no more
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use althing_actors::node::Refusal;
use althing_actors::peer_link::SnapshotBytes;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinHandle;

use super::frame::Frames;
use super::raft::WayIn;

/// Chunks between the connection and the node.
const CHUNKS_MAX: usize = 4;
/// Bytes that are handed over together: what arrives is in smaller pieces, and each hand-over wakes
/// a thread.
const CHUNK_BYTES: usize = 256 << 10;
/// Memory for them, and for what the last piece brings beyond.
const CHUNK_ROOM_BYTES: usize = CHUNK_BYTES + (64 << 10);
/// A cut transfer is kept this long at least, and twice as long at most.
const KEPT: Duration = Duration::from_secs(10);

const BUSY: Refusal = Refusal::Busy("another snapshot is on its way in");
const UNKNOWN: Refusal = Refusal::Busy("no such snapshot is on its way in");

/// The snapshot that is on its way in, if there is one. Clones share it.
#[derive(Clone, Default)]
pub(super) struct SnapshotIn(Arc<parking_lot::Mutex<Option<Arc<Transfer>>>>);

struct Transfer {
    id: u64,
    /// Tells the connection that feeds it to stop: another one goes on with it.
    gives_way: Notify,
    /// Locked by the connection that feeds it.
    arriving: Mutex<Arriving>,
}

struct Arriving {
    /// Bytes that came, those of `gathered` included.
    received: u64,
    gathered: BytesMut,
    /// `None` once all have come, or no more may.
    to: Option<mpsc::Sender<io::Result<Bytes>>>,
    /// `None` once its answer was taken.
    taking: Option<JoinHandle<Result<Bytes, Refusal>>>,
}

impl Arriving {
    /// Feeds what `body` brings, to its end. This is cancel safe. Error: the body is cut; the
    /// transfer can be continued.
    async fn feed(&mut self, body: &mut web::Payload) -> Result<(), Refusal> {
        let Some(to) = &self.to else { return Ok(()) };
        loop {
            let arrived = body.next().await.transpose().map_err(|_| cut())?;
            if let Some(bytes) = &arrived {
                if self.gathered.is_empty() {
                    self.gathered.reserve(CHUNK_ROOM_BYTES);
                }
                self.gathered.extend_from_slice(bytes);
                self.received += bytes.len() as u64;
            }
            if arrived.is_none() || self.gathered.len() >= CHUNK_BYTES {
                match to.reserve().await {
                    Ok(room) => room.send(Ok(self.gathered.split().freeze())),
                    // The node has given up: its answer says why.
                    Err(_) => return Ok(()),
                }
            }
            if arrived.is_none() {
                return Ok(());
            }
        }
    }

    /// Ends the input, and waits for the node's answer.
    async fn end(&mut self) -> Result<Bytes, Refusal> {
        self.to = None;
        let Some(taking) = &mut self.taking else {
            return Err(UNKNOWN);
        };
        let taken = taking.await;
        self.taking = None;
        taken.unwrap_or(Err(Refusal::Stopped))
    }
}

impl SnapshotIn {
    /// How many bytes of a transfer have arrived; the connection that feeds it stops. Error: no
    /// transfer has this id.
    pub(super) async fn arrived(&self, id: u64) -> Result<u64, Refusal> {
        let transfer = self.find(id).ok_or(UNKNOWN)?;
        transfer.gives_way.notify_waiters();
        Ok(transfer.arriving.lock().await.received)
    }

    /// Takes in what `body` brings: the head, then transfer `id` from `offset` on. Returns the
    /// node's answer. Errors: the node's; a body that is cut; an offset other than the transfer's;
    /// another transfer that is under way.
    pub(super) async fn receive(
        &self,
        way_in: &impl WayIn,
        id: u64,
        offset: u64,
        mut body: web::Payload,
    ) -> Result<Bytes, Refusal> {
        let (head, rest) = read_head(&mut body).await?;
        let transfer = match self.find(id) {
            Some(transfer) => transfer,
            None if offset == 0 => self.begin(way_in, id, head).await?,
            None => return Err(UNKNOWN),
        };
        let Ok(mut arriving) = transfer.arriving.try_lock() else {
            return Err(BUSY);
        };
        if arriving.received != offset {
            let text = format!("{} bytes have arrived, not {offset}", arriving.received);
            return Err(Refusal::Malformed(text));
        }
        arriving.received += rest.len() as u64;
        arriving.gathered.extend_from_slice(&rest);
        let arriving = async {
            arriving.feed(&mut body).await?;
            let answer = arriving.end().await;
            self.forget(&transfer);
            answer
        };
        tokio::select! {
            answer = arriving => answer,
            () = transfer.gives_way.notified() => Err(cut()),
        }
    }

    fn find(&self, id: u64) -> Option<Arc<Transfer>> {
        self.0.lock().clone().filter(|transfer| transfer.id == id)
    }

    fn forget(&self, transfer: &Arc<Transfer>) {
        let mut current = self.0.lock();
        if current
            .as_ref()
            .is_some_and(|one| Arc::ptr_eq(one, transfer))
        {
            *current = None;
        }
    }

    /// Begins a transfer in the place of the former one.
    async fn begin(
        &self,
        way_in: &impl WayIn,
        id: u64,
        head: Bytes,
    ) -> Result<Arc<Transfer>, Refusal> {
        let former = self.0.lock().clone();
        if let Some(former) = former {
            former.gives_way.notify_waiters();
            let mut arriving = former.arriving.lock().await;
            // Its file is gone when this has ended.
            let _ = arriving.end().await;
            self.forget(&former);
        }
        let mut current = self.0.lock();
        if current.is_some() {
            return Err(BUSY);
        }
        let (to, chunks): (_, SnapshotBytes) = mpsc::channel(CHUNKS_MAX);
        let transfer = Arc::new(Transfer {
            id,
            gives_way: Notify::new(),
            arriving: Mutex::new(Arriving {
                received: 0,
                gathered: BytesMut::new(),
                to: Some(to),
                taking: Some(tokio::spawn(way_in.snapshot(head, chunks))),
            }),
        });
        *current = Some(Arc::clone(&transfer));
        tokio::spawn(self.clone().give_up_when_left(Arc::clone(&transfer)));
        Ok(transfer)
    }

    /// Ends a transfer that nobody goes on with.
    async fn give_up_when_left(self, transfer: Arc<Transfer>) {
        let mut left_at = None;
        while self.find(transfer.id).is_some() {
            tokio::time::sleep(KEPT).await;
            // While it is locked, it is being fed.
            let Ok(mut arriving) = transfer.arriving.try_lock() else {
                left_at = None;
                continue;
            };
            if left_at == Some(arriving.received) {
                let _ = arriving.end().await;
                self.forget(&transfer);
            }
            left_at = Some(arriving.received);
        }
    }
}

/// The first message of the body, and what came after it.
async fn read_head(body: &mut web::Payload) -> Result<(Bytes, Bytes), Refusal> {
    let mut frames = Frames::default();
    loop {
        let head = frames.next();
        if let Some(head) = head.map_err(|error| Refusal::Malformed(error.to_string()))? {
            return Ok((head, frames.rest()));
        }
        match body.next().await {
            Some(Ok(bytes)) => frames.push(&bytes),
            _ => return Err(cut()),
        }
    }
}

fn cut() -> Refusal {
    Refusal::Malformed("the snapshot is cut".to_owned())
}
