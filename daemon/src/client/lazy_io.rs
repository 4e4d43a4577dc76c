//! Write coalescing for HTTP/2.
//!
//! The HTTP/2 library writes a response's data and its trailers apart, and flushes per stream. The
//! socket would see two calls per answer. `LazyIo` collects what the connection writes while it is
//! polled; its driver then writes everything at once. A flush is therefore a promise of the driver,
//! not an action here.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::Conn;

/// Above this many waiting bytes a write first goes to the socket, so that a client that does not
/// read holds back its own connection.
const PENDING_BYTES_MAX: usize = 64 * 1024;
/// A buffer that grew above this for one large answer is given back once it is empty.
const KEPT_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug)]
struct Shared {
    conn: Conn,
    pending: BytesMut,
}

/// A connection with a shared write buffer. Clones are the same connection.
#[derive(Clone, Debug)]
pub(super) struct LazyIo(Rc<RefCell<Shared>>);

impl LazyIo {
    pub(super) fn new(conn: Conn) -> LazyIo {
        LazyIo(Rc::new(RefCell::new(Shared {
            conn,
            pending: BytesMut::new(),
        })))
    }

    /// Writes what is pending; the driver calls it after it polled the connection.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_drain(cx)
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
        Pin::new(&mut self.0.borrow_mut().conn).poll_read(cx, buf)
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
