//! One accepted socket and the protocol it speaks.
//!
//! HTTP/2 opens with 24 fixed bytes; anything that differs from them is HTTP/1.1. The bytes are
//! read, not peeked, because a preface may arrive in pieces and a peek would spin on the first
//! piece; the protocol's implementation then gets them again in front of the stream.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use althing_actors::client_session::Session;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::first_head::{FirstHead, Passed};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client that takes none of its data for this long counts as stopped and is disconnected: a
/// large answer holds a part of the read budget until it is sent. Over HTTP/2 only large answers
/// count: a client may leave other streams unread for longer.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What a client speaks on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection whose first bytes were read to tell its protocol, and are read once more.
#[derive(Debug)]
pub(super) struct SniffedIo {
    io: TcpStream,
    session: Rc<Session>,
    first: [u8; PREFACE.len()],
    /// `replayed <= filled <= first.len()`
    filled: usize,
    replayed: usize,
    /// Set until the first request over HTTP/2 has come, and longer for a client that needs it.
    first_head: Option<FirstHead>,
    /// Bytes that `first_head` passed on, and that are read next.
    ahead: Bytes,
    write_deadline: Option<WriteDeadline>,
}

/// Ends a write that makes no progress.
#[derive(Debug)]
struct WriteDeadline {
    timeout: Duration,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl WriteDeadline {
    fn new(timeout: Duration) -> WriteDeadline {
        WriteDeadline {
            timeout,
            timer: None,
        }
    }

    /// The outcome of a write; a `TimedOut` error for one that has waited too long.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let timeout = self.timeout;
        let begin = || Box::pin(tokio::time::sleep(timeout));
        let timer = self.timer.get_or_insert_with(begin);
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Bytes read at a time while the first head is inspected.
const AHEAD_BYTES: usize = 4096;

impl SniffedIo {
    /// Reads until the protocol is known.
    pub(super) async fn sniff(
        mut io: TcpStream,
        session: Rc<Session>,
    ) -> io::Result<(SniffedIo, Protocol)> {
        let mut first = [0; PREFACE.len()];
        let mut filled = 0;
        let protocol = loop {
            let count = io.read(&mut first[filled..]).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += count;
            if first[..filled] != PREFACE[..filled] {
                break Protocol::Http1;
            }
            if filled == PREFACE.len() {
                break Protocol::Http2;
            }
        };
        let conn = SniffedIo {
            io,
            session,
            first,
            filled,
            replayed: 0,
            first_head: (protocol == Protocol::Http2).then(FirstHead::default),
            ahead: Bytes::new(),
            write_deadline: (protocol == Protocol::Http1)
                .then(|| WriteDeadline::new(STALL_TIMEOUT)),
        };
        Ok((conn, protocol))
    }

    /// The session of this connection.
    pub(super) fn session(&self) -> &Rc<Session> {
        &self.session
    }
}

impl AsyncRead for SniffedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.first[this.replayed..this.filled];
        if !rest.is_empty() {
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            this.replayed += count;
            return Poll::Ready(Ok(()));
        }
        while this.ahead.is_empty() {
            let Some(first_head) = &mut this.first_head else {
                return Pin::new(&mut this.io).poll_read(cx, buf);
            };
            let mut space = [0; AHEAD_BYTES];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let Passed { bytes, is_over } = first_head.push(read.filled());
            this.ahead = bytes;
            if is_over {
                this.first_head = None;
            }
        }
        let count = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..count]);
        this.ahead.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SniffedIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        match &mut this.write_deadline {
            Some(deadline) => deadline.judge(cx, written),
            None => written,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use althing_actors::client_session::{ClientSession, SessionSettings};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Both ends of a connection that has begun.
    pub(in super::super) async fn connected() -> (SniffedIo, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(PREFACE).await.unwrap();
        let (io, peer) = listener.accept().await.unwrap();
        let session = ClientSession::start(peer, SessionSettings { streams_max: 1 });
        let (conn, protocol) = SniffedIo::sniff(io, Rc::new(session)).await.unwrap();
        assert_eq!(protocol, Protocol::Http2);
        (conn, client)
    }

    #[actix::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (mut conn, _client) = connected().await;
        conn.write_deadline = Some(WriteDeadline::new(Duration::from_millis(10)));
        let filled = async {
            loop {
                if let Err(error) = conn.write_all(&[7; 1 << 16]).await {
                    return error;
                }
            }
        };
        let error = tokio::time::timeout(Duration::from_secs(60), filled).await;
        assert_eq!(error.unwrap().kind(), io::ErrorKind::TimedOut);
    }

    #[actix::test]
    async fn a_write_that_goes_on_begins_a_new_wait() {
        let mut deadline = WriteDeadline::new(Duration::from_secs(3600));
        std::future::poll_fn(|cx| {
            assert!(deadline.judge(cx, Poll::Pending).is_pending());
            assert!(deadline.timer.is_some());
            assert!(deadline.judge(cx, Poll::Ready(Ok(1))).is_ready());
            assert!(deadline.timer.is_none());
            Poll::Ready(())
        })
        .await;
    }
}
