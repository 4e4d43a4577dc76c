//! A snapshot's bytes between a blocking thread, which reads or writes files, and the network.
//!
//! The channel between them is short: the faster side waits, so a slow member costs no memory.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::message::Outgoing;
use super::sendings::Sending;
use crate::chunks::{CHUNKS_MAX, Chunked};
use crate::ground;
use crate::peer_link::SnapshotBytes;

impl Outgoing {
    /// Streams the bytes, which a blocking thread writes while they are read; `moved` is told how
    /// many. The stream ends with an error if the store's file cannot be read.
    pub(crate) fn stream(self, mut moved: impl FnMut(usize) + Send + 'static) -> SnapshotBytes {
        let (chunks, body) = mpsc::channel(chunks_max());
        ground::detach(move || {
            let mut sink = Chunked::new(|chunk| {
                let bytes = chunk.len();
                send(&chunks, Ok(chunk)).inspect(|()| moved(bytes))
            });
            if let Err(error) = self.source.export(&mut sink) {
                // The reader may be gone, which would be why this failed.
                let _ = send(&chunks, Err(io::Error::other(error)));
            }
        });
        body
    }

    /// Begins a transfer of this snapshot to `member`; it lasts as long as the returned value.
    pub(crate) fn begin(&self, member: u64) -> Sending {
        self.sendings.begin(member)
    }
}

/// On one thread nothing could read while the export writes, so all of it must find room.
fn chunks_max() -> usize {
    if ground::is_simulated() {
        tokio::sync::Semaphore::MAX_PERMITS
    } else {
        CHUNKS_MAX
    }
}

/// Waits only if there is no room.
fn send(chunks: &mpsc::Sender<io::Result<Bytes>>, chunk: io::Result<Bytes>) -> io::Result<()> {
    let sent = match chunks.try_send(chunk) {
        Err(mpsc::error::TrySendError::Full(chunk)) => chunks.blocking_send(chunk).is_ok(),
        sent => sent.is_ok(),
    };
    if sent {
        Ok(())
    } else {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// Bytes that arrive between two looks at the disk.
const ROOM_BYTES: u64 = 16 << 20;
/// What the disk may have to take until the next look, in units of [`ROOM_BYTES`]: what arrives
/// until then, and what is on its way from memory to the file.
const PIECES_OF_ROOM: u64 = 2;

/// The reading end of the import. It ends with the error of `seek_room`, which is asked whether the
/// disk has room for that many more bytes.
pub(super) struct Incoming<F> {
    body: SnapshotBytes,
    chunk: Bytes,
    seek_room: F,
    /// Bytes that may still arrive before `seek_room` is asked.
    unasked: u64,
}

impl<F: FnMut(u64) -> io::Result<()>> Incoming<F> {
    pub(super) fn new(body: SnapshotBytes, seek_room: F) -> Incoming<F> {
        Incoming {
            body,
            chunk: Bytes::new(),
            seek_room,
            unasked: ROOM_BYTES,
        }
    }

    /// Counts arrived bytes. For a small snapshot `seek_room` is never asked.
    fn arrived(&mut self, bytes: usize) -> io::Result<()> {
        match self.unasked.checked_sub(bytes as u64) {
            Some(left) => self.unasked = left,
            None => {
                (self.seek_room)(PIECES_OF_ROOM * ROOM_BYTES)?;
                self.unasked = ROOM_BYTES;
            }
        }
        Ok(())
    }
}

impl<F: FnMut(u64) -> io::Result<()>> BufRead for Incoming<F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() {
            let next = match self.body.try_recv() {
                Ok(chunk) => Some(chunk),
                Err(mpsc::error::TryRecvError::Disconnected) => None,
                Err(mpsc::error::TryRecvError::Empty) => self.body.blocking_recv(),
            };
            match next {
                Some(chunk) => {
                    self.chunk = chunk?;
                    self.arrived(self.chunk.len())?;
                }
                None => break,
            }
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, taken: usize) {
        self.chunk.advance(taken);
    }
}

impl<F: FnMut(u64) -> io::Result<()>> Read for Incoming<F> {
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
        let mut incoming = Incoming::new(body, |_| Ok(()));
        incoming.read_to_end(&mut received).unwrap();
        assert!(received == sent);
    }

    #[test]
    fn a_stream_that_fails_is_an_error_and_not_an_end() {
        let (chunks, body) = mpsc::channel(2);
        chunks.try_send(Ok(Bytes::from_static(b"half"))).unwrap();
        let gone = io::Error::from(io::ErrorKind::ConnectionReset);
        chunks.try_send(Err(gone)).unwrap();
        drop(chunks);
        let mut incoming = Incoming::new(body, |_| Ok(()));
        assert!(incoming.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn what_has_no_room_on_the_disk_is_not_read_on() {
        let (chunks, body) = mpsc::channel(1_000);
        let chunk = Bytes::from(vec![7; 1 << 20]);
        for _ in 0..100 {
            chunks.try_send(Ok(chunk.clone())).unwrap();
        }
        drop(chunks);
        let mut free = 100_u64 << 20;
        let mut incoming = Incoming::new(body, |more| {
            free -= ROOM_BYTES;
            if free < more {
                Err(io::ErrorKind::StorageFull.into())
            } else {
                Ok(())
            }
        });
        let mut received = Vec::new();
        let refused = incoming.read_to_end(&mut received).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(
            (64..100).contains(&(received.len() >> 20)),
            "{}",
            received.len()
        );
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
