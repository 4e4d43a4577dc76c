//! A snapshot's bytes between a blocking thread, which reads or writes files, and the network.
//!
//! The channel between them is short: who is faster waits, so a slow member costs no memory.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::message::Outgoing;
use super::sendings::Sending;
use crate::chunks::{CHUNKS_MAX, Chunked};
use crate::ground;
use crate::peer_link::SnapshotBytes;

impl Outgoing {
    /// The bytes, written by a blocking thread while somebody reads them; `moved` is told of them.
    /// They end with an error when the store's file cannot be read.
    pub(crate) fn stream(self, mut moved: impl FnMut(usize) + Send + 'static) -> SnapshotBytes {
        let (chunks, body) = mpsc::channel(chunks_max());
        ground::detach(move || {
            let mut sink = Chunked::new(|chunk| {
                let bytes = chunk.len();
                send(&chunks, Ok(chunk)).inspect(|()| moved(bytes))
            });
            if let Err(error) = self.source.export(&mut sink) {
                // Nobody may read any more, which is why it failed.
                let _ = send(&chunks, Err(io::Error::other(error)));
            }
        });
        body
    }

    /// A transfer of it to `member` begins, and lasts as long as the returned value.
    pub(crate) fn begin(&self, member: u64) -> Sending {
        self.sendings.begin(member)
    }
}

/// On one thread nobody could read while the export writes, so all of it must find room.
fn chunks_max() -> usize {
    match ground::is_simulated() {
        true => tokio::sync::Semaphore::MAX_PERMITS,
        false => CHUNKS_MAX,
    }
}

/// Waits only where there is no room.
fn send(chunks: &mpsc::Sender<io::Result<Bytes>>, chunk: io::Result<Bytes>) -> io::Result<()> {
    let sent = match chunks.try_send(chunk) {
        Err(mpsc::error::TrySendError::Full(chunk)) => chunks.blocking_send(chunk).is_ok(),
        sent => sent.is_ok(),
    };
    match sent {
        true => Ok(()),
        false => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Where the import reads.
pub(super) struct Incoming {
    body: SnapshotBytes,
    chunk: Bytes,
}

impl Incoming {
    pub(super) fn new(body: SnapshotBytes) -> Incoming {
        Incoming {
            body,
            chunk: Bytes::new(),
        }
    }
}

impl BufRead for Incoming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() {
            let next = match self.body.try_recv() {
                Ok(chunk) => Some(chunk),
                Err(mpsc::error::TryRecvError::Disconnected) => None,
                Err(mpsc::error::TryRecvError::Empty) => self.body.blocking_recv(),
            };
            match next {
                Some(chunk) => self.chunk = chunk?,
                None => break,
            }
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, taken: usize) {
        self.chunk.advance(taken);
    }
}

impl Read for Incoming {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let arrived = self.fill_buf()?;
        let taken = bytes.len().min(arrived.len());
        bytes[..taken].copy_from_slice(&arrived[..taken]);
        self.consume(taken);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::chunks::CHUNK_BYTES;

    #[test]
    fn bytes_arrive_in_order_whatever_the_sizes() {
        let (chunks, body) = mpsc::channel(1_000);
        let mut sink = Chunked::new(move |chunk| send(&chunks, Ok(chunk)));
        let sent: Vec<u8> = (0..CHUNK_BYTES * 2 + 77).map(|n| n as u8).collect();
        for piece in sent.chunks(1_013) {
            sink.write_all(piece).unwrap();
        }
        sink.flush().unwrap();
        drop(sink);
        let mut received = Vec::new();
        Incoming::new(body).read_to_end(&mut received).unwrap();
        assert!(received == sent);
    }

    #[test]
    fn a_stream_that_fails_is_an_error_and_not_an_end() {
        let (chunks, body) = mpsc::channel(2);
        chunks.try_send(Ok(Bytes::from_static(b"half"))).unwrap();
        let gone = io::Error::from(io::ErrorKind::ConnectionReset);
        chunks.try_send(Err(gone)).unwrap();
        drop(chunks);
        assert!(Incoming::new(body).read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn writing_to_nobody_fails() {
        let (chunks, body) = mpsc::channel(1);
        drop(body);
        let mut sink = Chunked::new(move |chunk| send(&chunks, Ok(chunk)));
        sink.write_all(b"x").unwrap();
        assert!(sink.flush().is_err());
    }
}
