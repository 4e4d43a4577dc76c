//! One accepted socket and the protocol it speaks.
//!
//! HTTP/2 opens with 24 fixed bytes; anything that differs from them is HTTP/1.1. The bytes are
//! read, not peeked, because a preface may arrive in pieces and a peek would spin on the first
//! piece; the protocol's implementation then gets them again in front of the stream.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use althing_actors::client_session::Session;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::first_head::{FirstHead, Passed};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection whose first bytes were read to tell its protocol, and are read once more.
#[derive(Debug)]
pub(super) struct Conn {
    io: TcpStream,
    session: Rc<Session>,
    first: [u8; PREFACE.len()],
    /// `replayed <= filled <= first.len()`
    filled: usize,
    replayed: usize,
    /// Until the first request of HTTP/2 has come.
    first_head: Option<FirstHead>,
    /// What that looked at, and is read next.
    ahead: Bytes,
}

/// Read at once until then.
const AHEAD_BYTES: usize = 4096;

impl Conn {
    /// Reads until the protocol is known.
    pub(super) async fn sniff(
        mut io: TcpStream,
        session: Rc<Session>,
    ) -> io::Result<(Conn, Protocol)> {
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
        let conn = Conn {
            io,
            session,
            first,
            filled,
            replayed: 0,
            first_head: (protocol == Protocol::Http2).then(FirstHead::default),
            ahead: Bytes::new(),
        };
        Ok((conn, protocol))
    }

    /// The session of this connection.
    pub(super) fn session(&self) -> &Rc<Session> {
        &self.session
    }
}

impl AsyncRead for Conn {
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

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
