//! Messages on a pipe: each with its length before it, many in one chunk of the body.
//!
//! ```text
//!  request: length u32 LE, bytes        answer: length u32 LE, kind u8, bytes
//! ```

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use tokio::sync::mpsc;

/// The largest message: about a mebibyte of entries, or one entry that is larger. Memory grows
/// with what arrives, not with what a length claims.
pub(super) const MESSAGE_BYTES_MAX: usize = 512 << 20;

/// Messages up to this size are copied together; larger ones are passed on as they are.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// The size of a chunk of copied messages, about.
const CHUNK_BYTES: usize = 64 << 10;

const HEAD_BYTES: usize = 4;
const KIND_DONE: u8 = 0;
const KIND_REFUSED: u8 = 1;

/// Splits what arrives into messages.
#[derive(Debug, Default)]
pub(super) struct Frames {
    arrived: BytesMut,
}

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.arrived.extend_from_slice(bytes);
    }

    /// The next message that is complete. Error: one that is too large.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(head) = self.arrived.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MESSAGE_BYTES_MAX {
            let text = format!("a message of {length} bytes is too large");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if self.arrived.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.arrived.advance(HEAD_BYTES);
        Ok(Some(self.arrived.split_to(length).freeze()))
    }

    /// What follows the messages taken so far.
    pub(super) fn rest(self) -> Bytes {
        self.arrived.freeze()
    }
}

/// Gathers messages into chunks.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    ready: VecDeque<Bytes>,
    copied: BytesMut,
}

impl Chunks {
    /// Adds a request.
    pub(super) fn request(&mut self, body: Bytes) {
        self.head(body.len());
        self.body(body);
    }

    /// Adds an answer: what was done, or the text of a refusal.
    pub(super) fn answer(&mut self, answer: Result<Bytes, String>) {
        let (kind, body) = match answer {
            Ok(body) => (KIND_DONE, body),
            Err(text) => (KIND_REFUSED, Bytes::from(text)),
        };
        self.head(body.len() + 1);
        self.copied.put_u8(kind);
        self.body(body);
    }

    fn head(&mut self, length: usize) {
        let length = u32::try_from(length).expect("messages are far smaller than 4 GiB");
        self.copied.put_u32_le(length);
    }

    fn body(&mut self, body: Bytes) {
        if body.len() <= COPIED_BYTES_MAX {
            self.copied.put(body);
            return;
        }
        self.ready.push_back(self.copied.split().freeze());
        self.ready.push_back(body);
    }

    /// Whether there is enough for one write.
    pub(super) fn is_full(&self) -> bool {
        !self.ready.is_empty() || self.copied.len() >= CHUNK_BYTES
    }

    /// The next chunk, if there is anything.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let chunk = self.ready.pop_front();
        chunk.or_else(|| (!self.copied.is_empty()).then(|| self.copied.split().freeze()))
    }
}

/// Reads an answer.
pub(super) fn answer(mut message: Bytes) -> io::Result<Result<Bytes, String>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "an answer of an unknown kind");
    if message.is_empty() {
        return Err(damaged());
    }
    match message.get_u8() {
        KIND_DONE => Ok(Ok(message)),
        KIND_REFUSED => Ok(Err(String::from_utf8_lossy(&message).into_owned())),
        _ => Err(damaged()),
    }
}

/// The body of a request that carries what is sent into `requests`, until its sender is dropped.
pub(super) fn request_body(
    requests: mpsc::Receiver<Bytes>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let state = (requests, Chunks::default());
    stream::unfold(state, |(mut requests, mut chunks)| async move {
        if let Some(chunk) = chunks.next() {
            return Some((Ok(chunk), (requests, chunks)));
        }
        chunks.request(requests.recv().await?);
        while !chunks.is_full()
            && let Ok(more) = requests.try_recv()
        {
            chunks.request(more);
        }
        let chunk = chunks.next().expect("a request was added above");
        Some((Ok(chunk), (requests, chunks)))
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn all(mut chunks: Chunks) -> Vec<u8> {
        std::iter::from_fn(|| chunks.next()).flatten().collect()
    }

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let large = Bytes::from(vec![7; COPIED_BYTES_MAX + 1]);
        let sent = [
            Bytes::from_static(b"a"),
            Bytes::new(),
            large,
            Bytes::from_static(b"z"),
        ];
        let mut chunks = Chunks::default();
        sent.iter().for_each(|body| chunks.request(body.clone()));
        let bytes = all(chunks);
        for piece in [1, 3, 1_000, bytes.len()] {
            let (mut frames, mut received) = (Frames::default(), Vec::new());
            for part in bytes.chunks(piece) {
                frames.push(part);
                while let Some(message) = frames.next().unwrap() {
                    received.push(message);
                }
            }
            assert_eq!(received, sent, "in pieces of {piece}");
            assert!(frames.rest().is_empty());
        }
    }

    #[test]
    fn answers_keep_what_was_done_and_what_was_refused_apart() {
        let mut chunks = Chunks::default();
        chunks.answer(Ok(Bytes::from_static(b"done")));
        chunks.answer(Err("no".into()));
        let mut frames = Frames::default();
        frames.push(&all(chunks));
        let first = frames.next().unwrap().unwrap();
        assert_eq!(answer(first).unwrap(), Ok(Bytes::from_static(b"done")));
        let second = frames.next().unwrap().unwrap();
        assert_eq!(answer(second).unwrap(), Err("no".into()));
        assert!(answer(Bytes::new()).is_err());
        assert!(answer(Bytes::from_static(b"\x09")).is_err());
    }

    #[test]
    fn a_length_that_no_message_has_is_refused_before_it_is_waited_for() {
        let mut frames = Frames::default();
        frames.push(&u32::MAX.to_le_bytes());
        assert!(frames.next().is_err());
    }

    #[actix_web::test]
    async fn small_requests_share_a_chunk_and_the_body_ends_with_its_sender() {
        let (sender, receiver) = mpsc::channel(8);
        for _ in 0..3 {
            sender.send(Bytes::from_static(b"abc")).await.unwrap();
        }
        drop(sender);
        let chunks: Vec<_> = request_body(receiver).collect().await;
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].as_ref().unwrap().len(), 3 * (HEAD_BYTES + 3));
    }
}
