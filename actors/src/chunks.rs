//! Cuts what a blocking thread writes into chunks for a short channel.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};

/// Size of one chunk.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that a channel holds at most.
pub(crate) const CHUNKS_MAX: usize = 4;

/// Hands each chunk to `send`, which may wait for room.
pub(crate) struct Chunked<S> {
    send: S,
    chunk: BytesMut,
}

impl<S: FnMut(Bytes) -> io::Result<()>> Chunked<S> {
    pub(crate) fn new(send: S) -> Chunked<S> {
        Chunked {
            send,
            chunk: BytesMut::with_capacity(CHUNK_BYTES),
        }
    }
}

impl<S: FnMut(Bytes) -> io::Result<()>> Write for Chunked<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        let next = BytesMut::with_capacity(CHUNK_BYTES);
        (self.send)(std::mem::replace(&mut self.chunk, next).freeze())
    }
}
