//! Write coalescing for HTTP/2.
//!
//! The HTTP/2 library writes a response's data and its trailers apart, and flushes per stream. The
//! socket would see two calls per answer. `LazyIo` collects what the connection writes while it is
//! polled; its driver then writes everything at once. A flush is therefore a promise of the driver,
//! not an action here.
//!
//! What passes is also looked at for pings, and a client that sends too many is told goodbye.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::pings::Pings;
use super::sniff::SniffedIo;

/// Above this many waiting bytes a write first goes to the socket, so that a client that does not
/// read holds back its own connection.
const PENDING_BYTES_MAX: usize = 64 * 1024;
/// A buffer that grew above this for one large answer is given back once it is empty.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// How long a client has to read the last of a connection that is ended before it ends itself.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(1);
/// What the client still sends meanwhile is read in pieces of this size and thrown away.
const UNREAD_BYTES: usize = 4096;

#[derive(Debug)]
struct Shared {
    conn: SniffedIo,
    pending: BytesMut,
    pings: Pings,
}

/// A connection with a shared write buffer. Clones are the same connection.
#[derive(Clone, Debug)]
pub(super) struct LazyIo(Rc<RefCell<Shared>>);

impl LazyIo {
    /// Wraps `conn`, whose client may ping at this interval while it has calls open.
    pub(super) fn new(conn: SniffedIo, ping_interval_min: Duration) -> LazyIo {
        LazyIo(Rc::new(RefCell::new(Shared {
            conn,
            pending: BytesMut::new(),
            pings: Pings::new(ping_interval_min),
        })))
    }

    /// Writes what is pending; the driver calls it after it polled the connection.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_drain(cx)
    }

    /// Writes what is pending of a connection that has ended, for a client that still reads.
    pub(super) async fn drain(&self) {
        let drained = poll_fn(|cx| self.poll_drain(cx));
        // It is closed in any case.
        let _ = tokio::time::timeout(LAST_BYTES_TIMEOUT, drained).await;
    }

    /// Whether the client, which has this many calls open, pinged too often and has been told so.
    /// The message waits until no frame is partly sent; nothing else may be written after it.
    pub(super) fn ends_for_pings(&self, calls: usize) -> bool {
        let mut shared = self.0.borrow_mut();
        if !shared.pings.are_too_many(calls, Instant::now()) {
            return false;
        }
        let farewell = shared.pings.farewell();
        shared.pending.extend(farewell.iter().flatten());
        farewell.is_some()
    }

    /// Closes once the client has: a socket that is closed with something unread takes back what
    /// was sent last.
    pub(super) async fn close(mut self) {
        let closed = async {
            self.shutdown().await?;
            let mut unread = [0; UNREAD_BYTES];
            while self.read(&mut unread).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        // It is closed in any case; a client that reads nothing has only lost the reason.
        let _ = tokio::time::timeout(LAST_BYTES_TIMEOUT, closed).await;
    }
}

impl Shared {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let count = ready!(Pin::new(&mut self.conn).poll_write(cx, &self.pending))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(count);
        }
        if self.pending.capacity() > KEPT_BYTES_MAX {
            self.pending = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pending.len() < PENDING_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        self.poll_drain(cx)
    }
}

impl AsyncRead for LazyIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Shared { conn, pings, .. } = &mut *self.0.borrow_mut();
        let before = buf.filled().len();
        let read = Pin::new(conn).poll_read(cx, buf);
        pings.received(&buf.filled()[before..]);
        read
    }
}

impl AsyncWrite for LazyIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.borrow_mut();
        ready!(shared.poll_room(cx))?;
        shared.pings.sent(buf);
        shared.pending.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.borrow_mut();
        ready!(shared.poll_room(cx))?;
        let before = shared.pending.len();
        for buf in bufs {
            shared.pings.sent(buf);
            shared.pending.extend_from_slice(buf);
        }
        Poll::Ready(Ok(shared.pending.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.borrow_mut();
        ready!(shared.poll_drain(cx))?;
        Pin::new(&mut shared.conn).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sniff::tests::connected;
    use super::*;

    #[actix::test]
    async fn a_connection_that_ended_waits_no_longer_than_a_moment_for_its_client_to_read() {
        let (conn, _client) = connected().await;
        let mut io = LazyIo::new(conn, Duration::ZERO);
        // More than the sockets take; the client reads nothing.
        let filled = async { while io.write_all(&[7; 1 << 16]).await.is_ok() {} };
        assert!(
            tokio::time::timeout(LAST_BYTES_TIMEOUT, filled)
                .await
                .is_err()
        );
        let drained = tokio::time::timeout(Duration::from_secs(60), io.drain());
        assert!(drained.await.is_ok());
    }
}
