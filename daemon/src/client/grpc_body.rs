//! Bodies of gRPC requests and answers on their way between hyper and the services.
//!
//! Both count messages and bytes. The answer's body also keeps a large answer's part of the read
//! budget, and ends a waiting stream when the client's deadline passes or the member stops: an open
//! watch would otherwise hold back an orderly stop until its time limit.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use althing_actors::client_session::{Permit, Session};
use althing_api::error::Error;
use bytes::Bytes;
use futures_util::future::{Either, FutureExt, LocalBoxFuture, select};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::held::Outgoing;
use super::methods::{Call, Method};
use super::status::in_words_of_go;
use crate::rpc::status;

/// A gRPC message begins with a flag and four bytes of length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Follows the length-prefixed messages of a stream through its pieces.
#[derive(Debug, Default)]
struct MessageCounter {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of `prefix` that have arrived.
    prefix_bytes: usize,
    /// Bytes of the current message still to come.
    remaining: usize,
}

impl MessageCounter {
    /// Returns how many messages began in `data`, and the bytes of messages in it.
    fn feed(&mut self, mut data: &[u8]) -> (u64, u64) {
        let (mut messages, mut bytes) = (0, 0);
        while !data.is_empty() {
            if self.remaining > 0 {
                let count = self.remaining.min(data.len());
                self.remaining -= count;
                bytes += count as u64;
                data = &data[count..];
                continue;
            }
            let count = (PREFIX_BYTES - self.prefix_bytes).min(data.len());
            self.prefix[self.prefix_bytes..][..count].copy_from_slice(&data[..count]);
            self.prefix_bytes += count;
            data = &data[count..];
            if self.prefix_bytes == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.remaining = u32::from_be_bytes(length) as usize;
                self.prefix_bytes = 0;
                messages += 1;
            }
        }
        (messages, bytes)
    }
}

/// A request's body that counts what it brings.
#[derive(Debug)]
pub(super) struct RequestBody {
    inner: Incoming,
    counter: MessageCounter,
    method: Arc<Method>,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, method: Arc<Method>) -> RequestBody {
        RequestBody {
            inner,
            counter: MessageCounter::default(),
            method,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let (messages, bytes) = this.counter.feed(data);
            this.method.received(messages, bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Why an answer that still streams has to end early.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// The client's deadline.
    pub(super) deadline: Option<Instant>,
    /// The connection; it drains when the member stops.
    pub(super) session: Rc<Session>,
}

impl Limits {
    /// Waits for an answer, but no longer than the client's deadline; and for a call that stands in
    /// a queue, no longer than the member runs, so that it leaves the queue in time.
    pub(super) async fn bound<T>(
        &self,
        is_queue: bool,
        answer: impl Future<Output = T>,
    ) -> Result<T, Status> {
        match (is_queue, self.deadline) {
            (true, _) => tokio::select! {
                answer = answer => Ok(answer),
                status = self.clone().reached() => Err(status),
            },
            (false, None) => Ok(answer.await),
            (false, Some(deadline)) => tokio::time::timeout_at(deadline, answer)
                .await
                .map_err(|_| status::of(Error::ContextDeadline)),
        }
    }

    /// Resolves with what the client is told, when the first of the limits is reached.
    pub(super) async fn reached(self) -> Status {
        let stopped = std::pin::pin!(self.session.drained());
        let Some(deadline) = self.deadline else {
            stopped.await;
            return status::of(Error::Stopped);
        };
        match select(stopped, std::pin::pin!(tokio::time::sleep_until(deadline))).await {
            Either::Left(_) => status::of(Error::Stopped),
            Either::Right(_) => status::of(Error::ContextDeadline),
        }
    }
}

/// An answer's body: counted, and ended with a status of ours when a limit is reached.
/// The default is the body of an answer that is all headers.
#[derive(Default)]
pub(super) struct ResponseBody {
    inner: tonic::body::Body,
    counter: MessageCounter,
    call: Option<Call>,
    /// Taken once `reached` waits for them.
    limits: Option<Limits>,
    /// The largest message of a streaming call, for the text of a refusal; a unary call is refused
    /// in the headers.
    receive_bytes_max: Option<usize>,
    /// The place of a stream among those of its connection.
    _place: Option<Permit>,
    /// Set for a large answer.
    outgoing: Option<Outgoing>,
    /// Made only when the answer has to wait for a message: most answers never do.
    reached: Option<LocalBoxFuture<'static, Status>>,
    ended: bool,
}

impl ResponseBody {
    /// The body of a running call.
    pub(super) fn new(
        inner: tonic::body::Body,
        call: Call,
        limits: Limits,
        receive_bytes_max: Option<usize>,
        place: Option<Permit>,
        outgoing: Option<Outgoing>,
    ) -> ResponseBody {
        ResponseBody {
            inner,
            counter: MessageCounter::default(),
            call: Some(call),
            limits: Some(limits),
            receive_bytes_max,
            _place: place,
            outgoing,
            reached: None,
            ended: false,
        }
    }

    /// Counts what a frame brings, and turns it into the frame that is sent.
    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(data) = frame.data_ref() {
            let (messages, bytes) = self.counter.feed(data);
            if let Some(call) = &mut self.call {
                call.sent(messages, bytes);
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            if let Some(status) = self.refusal(trailers) {
                return self.end_with(&status);
            }
            self.finish(trailers);
        }
        let Some(outgoing) = &mut self.outgoing else {
            return frame;
        };
        match frame.into_data() {
            Ok(data) => {
                outgoing.push(data);
                Frame::data(outgoing.slice().unwrap_or_default())
            }
            Err(trailers) => trailers,
        }
    }

    /// Counts the outcome that these trailers tell.
    fn finish(&mut self, trailers: &HeaderMap) {
        if let Some(mut call) = self.call.take() {
            let code = trailers.get(Status::GRPC_STATUS);
            call.finish(code.map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes())));
        }
    }

    /// The status for a stream whose request cannot be read.
    fn refusal(&self, trailers: &HeaderMap) -> Option<Status> {
        let bytes_max = self.receive_bytes_max?;
        let status = Status::from_header_map(trailers)?;
        in_words_of_go(&status, true, bytes_max)
    }

    fn end_with(&mut self, status: &Status) -> Frame<Bytes> {
        let mut trailers = HeaderMap::new();
        status
            .add_header(&mut trailers)
            .expect("our own texts are valid header values");
        self.ended = true;
        self.finish(&trailers);
        Frame::trailers(trailers)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(slice) = this.outgoing.as_mut().and_then(Outgoing::slice) {
            return Poll::Ready(Some(Ok(Frame::data(slice))));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(this.pass(frame)))),
            Poll::Ready(rest) => Poll::Ready(rest),
            Poll::Pending => {
                if this.reached.is_none() {
                    let limits = this.limits.take();
                    this.reached = limits.map(|limits| Limits::reached(limits).boxed_local());
                }
                let Some(reached) = &mut this.reached else {
                    return Poll::Pending;
                };
                let status = ready!(reached.as_mut().poll(cx));
                Poll::Ready(Some(Ok(this.end_with(&status))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_given_out = self.outgoing.as_ref().is_none_or(Outgoing::is_empty);
        is_given_out && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_are_counted_the_same_however_the_stream_is_cut(
            lengths in prop::collection::vec(0usize..300, 0..8),
            cut in 1usize..50,
        ) {
            let mut stream = Vec::new();
            for length in &lengths {
                stream.push(0);
                stream.extend_from_slice(&(*length as u32).to_be_bytes());
                stream.resize(stream.len() + length, 7);
            }
            let mut counter = MessageCounter::default();
            let (mut messages, mut bytes) = (0, 0);
            for piece in stream.chunks(cut) {
                let (more_messages, more_bytes) = counter.feed(piece);
                messages += more_messages;
                bytes += more_bytes;
            }
            prop_assert_eq!(messages as usize, lengths.len());
            prop_assert_eq!(bytes as usize, lengths.iter().sum::<usize>());
        }
    }
}
