//! A snapshot on its way to another member. A connection that breaks costs nothing but the bytes
//! that were under way: the next one goes on where the member says it is.
//!
//! ```text
//!  POST, head and bytes from 0 --answer--> done
//!    '-- lost --> GET: how far did it come? --n--> POST, head and bytes from n
//!                   '-- the member knows nothing of it, or too far back --> lost; raft starts over
//! ```

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use althing_actors::peer_link::{LinkError, Peer, SnapshotBytes};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderValue, Method};
use tokio::sync::Mutex;

use super::dial::whole;
use super::frame::Chunks;
use super::path::{self, OFFSET_HEADER, TRANSFER_HEADER};
use super::transport::{HttpTransport, answer, header, lost, streamed};

/// Bytes that were handed to a connection and are kept in case they do not arrive: more than the
/// buffers of both ends hold.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Tries in a row that bring no byte further, and the wait before the first; it doubles.
const TRIES_MAX: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How long a member may take to say how far a transfer came. TCP goes on to acknowledge for a
/// process that is frozen.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The part of a snapshot that is still to be sent, with the end of what was sent.
struct Outpour {
    body: SnapshotBytes,
    kept: VecDeque<Bytes>,
    /// Offsets of the first kept byte, and of the first that was not taken from the body yet.
    begin: u64,
    end: u64,
    /// Offset of the byte that is sent next.
    next: u64,
    /// Whether the snapshot could not be read to its end.
    is_broken: bool,
}

impl Outpour {
    fn new(body: SnapshotBytes) -> Outpour {
        Outpour {
            body,
            kept: VecDeque::new(),
            begin: 0,
            end: 0,
            next: 0,
            is_broken: false,
        }
    }

    /// Goes on from `offset`, if what is there is still kept; returns whether it is.
    fn seek(&mut self, offset: u64) -> bool {
        let is_kept = (self.begin..=self.end).contains(&offset);
        if is_kept {
            self.next = offset;
        }
        is_kept
    }

    async fn chunk(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(kept) = self.kept() {
            return Some(Ok(kept));
        }
        let chunk = self.body.recv().await?;
        match &chunk {
            Ok(chunk) => self.keep(chunk.clone()),
            Err(_) => self.is_broken = true,
        }
        Some(chunk)
    }

    /// Kept bytes that are to be sent again, to the end of a chunk.
    fn kept(&mut self) -> Option<Bytes> {
        if self.next == self.end {
            return None;
        }
        let mut at = self.begin;
        for chunk in &self.kept {
            let behind = at + chunk.len() as u64;
            if self.next < behind {
                let rest = chunk.slice((self.next - at) as usize..);
                self.next = behind;
                return Some(rest);
            }
            at = behind;
        }
        None
    }

    fn keep(&mut self, chunk: Bytes) {
        self.end += chunk.len() as u64;
        self.next = self.end;
        self.kept.push_back(chunk);
        while self.kept.len() > 1 && self.end - self.begin > KEPT_BYTES_MAX as u64 {
            let first = self.kept.pop_front().map_or(0, |chunk| chunk.len());
            self.begin += first as u64;
        }
    }
}

/// The chunks from where `outpour` is, for as long as the connection takes them.
fn chunks(outpour: Arc<Mutex<Outpour>>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(outpour, |outpour| async {
        let chunk = outpour.lock().await.chunk().await;
        chunk.map(|chunk| (chunk, outpour))
    })
}

impl HttpTransport {
    pub(super) async fn snapshot(
        self,
        peer: Peer,
        head: Bytes,
        body: SnapshotBytes,
    ) -> Result<Bytes, LinkError> {
        let transfer = header(format_args!("{:x}", rand::random::<u64>()));
        let outpour = Arc::new(Mutex::new(Outpour::new(body)));
        let (mut offset, mut tries) = (0, 0);
        loop {
            let poured = self.pour(&peer, &transfer, offset, &head, &outpour).await;
            let why = match poured {
                Err(LinkError::Lost(why)) => why,
                // The member took the beginning.
                Err(LinkError::NotSent(why)) if offset > 0 => why,
                answer => return answer,
            };
            let lost = || LinkError::Lost(why.clone());
            if outpour.lock().await.is_broken {
                return Err(lost());
            }
            let arrived = loop {
                if tries == TRIES_MAX {
                    return Err(lost());
                }
                tokio::time::sleep(FIRST_WAIT * (1 << tries)).await;
                tries += 1;
                let asking = self.arrived(&peer, &transfer);
                match tokio::time::timeout(ANSWER_TIMEOUT, asking).await {
                    Ok(Ok(arrived)) => break arrived,
                    Err(_) | Ok(Err(LinkError::NotSent(_) | LinkError::Lost(_))) => {}
                    Ok(Err(LinkError::Refused(_) | LinkError::Removed)) => return Err(lost()),
                }
            };
            if !outpour.lock().await.seek(arrived) {
                return Err(lost());
            }
            tracing::info!(remote_member = %peer.id, offset = arrived, %why, "resumes a snapshot");
            if arrived > offset {
                tries = 0;
            }
            offset = arrived;
        }
    }

    /// Sends what is left on a connection of its own.
    async fn pour(
        &self,
        peer: &Peer,
        transfer: &HeaderValue,
        offset: u64,
        head: &Bytes,
        outpour: &Arc<Mutex<Outpour>>,
    ) -> Result<Bytes, LinkError> {
        let mut connection = self.dial(peer).await?;
        let mut first = Chunks::default();
        first.request(head.clone());
        let first = first.next().expect("a head was added above");
        let first = stream::once(std::future::ready(Ok(first)));
        let body = streamed(first.chain(chunks(Arc::clone(outpour))));
        let mut request = self.request(&connection, peer, Method::POST, path::SNAPSHOT, body);
        let headers = request.headers_mut();
        headers.insert(TRANSFER_HEADER, transfer.clone());
        headers.insert(OFFSET_HEADER, header(format_args!("{offset:x}")));
        let head = connection.send(request).await.map_err(lost)?;
        answer(head).await
    }

    /// Asks how far a transfer came; what is still under way is given up.
    async fn arrived(&self, peer: &Peer, transfer: &HeaderValue) -> Result<u64, LinkError> {
        let mut connection = self.dial(peer).await?;
        let nothing = whole(Bytes::new());
        let mut request = self.request(&connection, peer, Method::GET, path::SNAPSHOT, nothing);
        request
            .headers_mut()
            .insert(TRANSFER_HEADER, transfer.clone());
        let head = connection.send(request).await.map_err(lost)?;
        let body = answer(head).await?;
        let arrived = std::str::from_utf8(&body).ok();
        let arrived = arrived.and_then(|text| text.parse().ok());
        arrived.ok_or_else(|| LinkError::Refused("it does not say how far it is".to_owned()))
    }
}
