//! Calls whose answer is a stream: one JSON object per line, `{"result":...}` for a message and
//! `{"error":...}` for the status that ends the stream, if it is an error.
//!
//! Where the request streams too (Watch, LeaseKeepAlive), the body is a sequence of JSON values. A
//! task turns each, as it arrives, into a message of a gRPC request body, so that the service sees
//! the very stream that a gRPC client would have opened.

use std::pin::Pin;

use actix_web::body::BoxBody;
use actix_web::{HttpResponse, web};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::{Stream, StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tonic::codec::Codec;
use tonic::{Extensions, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::super::api::Api;
use super::super::grpc_body::{Limits, PREFIX_BYTES};
use super::super::methods::Call;
use super::super::status::too_large;
use super::pending::Pending;
use super::refusal::{refusal, stream_refusal};
use super::unary::{Method, ok};
use super::{Answer, Exchange, json};

/// Request messages that wait for the service; then the client waits.
const REQUESTS_WAITING_MAX: usize = 16;

type Messages<R> = Pin<Box<dyn Stream<Item = Result<R, Status>>>>;
type Pieces = mpsc::Sender<Result<Frame<Bytes>, Status>>;

/// The route of a method with one request.
pub(super) fn server_stream<A, Q, S, R>(method: Method<A, Q, S>) -> Answer<A>
where
    A: Api,
    Q: Message + Default + DeserializeOwned + 'static,
    S: Stream<Item = Result<R, Status>> + 'static,
    R: Message + Serialize + 'static,
{
    Box::new(move |exchange: Exchange<A>| {
        Box::pin(async move {
            let (mut call, request, rest) = match exchange.start().await {
                Ok(started) => started,
                Err(status) => return refusal(&status),
            };
            let answer = method(&rest.api, request);
            match rest.limits.bound(false, answer).await.flatten() {
                Ok(answer) => lines(call, answer.into_inner(), rest.limits).await,
                Err(status) => {
                    call.finish(status.code());
                    refusal(&status)
                }
            }
        })
    })
}

/// The route of a method whose request is a stream.
pub(super) fn both_streams<A, Q, S, R>(method: Method<A, Streaming<Q>, S>) -> Answer<A>
where
    A: Api,
    Q: Message + Default + DeserializeOwned + 'static,
    S: Stream<Item = Result<R, Status>> + 'static,
    R: Message + Serialize + Default + 'static,
{
    Box::new(move |exchange: Exchange<A>| {
        Box::pin(async move {
            let Exchange {
                api,
                method: counters,
                metadata,
                limits,
                receive_bytes_max,
                payload,
                ..
            } = exchange;
            let mut call = Call::start(&counters, limits.session.peer(), metadata.as_ref());
            let (pieces, body) = mpsc::channel(REQUESTS_WAITING_MAX);
            let body = StreamBody::new(stream::unfold(body, |mut body| async move {
                body.recv().await.map(|piece| (piece, body))
            }));
            tokio::task::spawn_local(forward::<Q>(payload, pieces, receive_bytes_max));
            let decoder = ProstCodec::<R, Q>::default().decoder();
            let stream = Streaming::new_request(decoder, body, None, Some(receive_bytes_max));
            let request = Request::from_parts(metadata, Extensions::default(), stream);
            match call.span.around(method(&api, request)).await {
                Ok(answer) => lines(call, answer.into_inner(), limits).await,
                Err(status) => {
                    call.finish(status.code());
                    refused_stream(&status)
                }
            }
        })
    })
}

/// The answer when a stream failed before its first message, but after it began.
fn refused_stream(status: &Status) -> HttpResponse {
    let body = BoxBody::new(stream_refusal(status));
    refusal(status).set_body(body)
}

/// Sends the JSON values of `payload` as gRPC messages, until either side ends. A mistake behind
/// the first value ends them as the body's end does: as an error it would take the place of answers
/// to the values before it, or not, as chance has it.
async fn forward<Q: Message + Default + DeserializeOwned>(
    mut payload: web::Payload,
    pieces: Pieces,
    receive_bytes_max: usize,
) {
    let mut pending = Pending::default();
    let mut has_begun = false;
    while let Some(piece) = payload.next().await {
        let Ok(piece) = piece else { return };
        pending.add(&piece);
        loop {
            let message = match next_message::<Q>(&mut pending) {
                Ok(Some(message)) => Ok(message),
                Ok(None) if pending.bytes.len() > receive_bytes_max * 2 => {
                    Err(too_large(pending.bytes.len(), receive_bytes_max))
                }
                Ok(None) => break,
                Err(_) if has_begun => return,
                Err(status) => Err(status),
            };
            let is_last = message.is_err();
            has_begun = true;
            if pieces.send(message.map(Frame::data)).await.is_err() || is_last {
                return;
            }
        }
    }
}

/// Takes the first JSON value from `pending` and encodes it; `None` if part of it is still to come.
fn next_message<Q: Message + Default + DeserializeOwned>(
    pending: &mut Pending,
) -> Result<Option<Bytes>, Status> {
    if !pending.is_worth_parsing() {
        return Ok(None);
    }
    let bytes = &pending.bytes;
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>();
    let message: Q = match values.next() {
        None => return Ok(None),
        Some(Ok(value)) => json::decode(value.get().as_bytes())?,
        Some(Err(error)) if error.is_eof() => return Ok(None),
        Some(Err(error)) => return Err(Status::invalid_argument(error.to_string())),
    };
    let consumed = values.byte_offset();
    pending.consume(consumed);
    let length = message.encoded_len();
    let mut encoded = BytesMut::with_capacity(PREFIX_BYTES + length);
    encoded.put_u8(0);
    let length = u32::try_from(length).expect("the body's bound is far below 4 GiB");
    encoded.put_u32(length);
    message
        .encode(&mut encoded)
        .expect("the buffer was made large enough");
    Ok(Some(encoded.freeze()))
}

/// Answers with `messages`, one per line. The HTTP status waits for the first of them.
async fn lines<R>(
    call: Call,
    messages: impl Stream<Item = Result<R, Status>> + 'static,
    limits: Limits,
) -> HttpResponse
where
    R: Message + Serialize + 'static,
{
    let mut lines = Lines {
        call,
        messages: Box::pin(messages),
        reached: Box::pin(limits.reached()),
        ended: false,
    };
    let first = match lines.next().await {
        Some(Err(status)) => return refused_stream(&status),
        Some(Ok(line)) => Some(line),
        None => None,
    };
    let rest = stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        let line = line.unwrap_or_else(|status| stream_refusal(&status).into());
        Some((line, lines))
    });
    let all = stream::iter(first).chain(rest);
    ok().streaming(all.map(Ok::<_, std::convert::Infallible>))
}

/// The lines of one answer.
struct Lines<R> {
    call: Call,
    messages: Messages<R>,
    reached: LocalBoxFuture<'static, Status>,
    ended: bool,
}

impl<R: Message + Serialize> Lines<R> {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        if self.ended {
            return None;
        }
        let message = match select(self.messages.next(), &mut self.reached).await {
            Either::Left((message, _)) => message,
            Either::Right((status, _)) => Some(Err(status)),
        };
        let line = match message {
            None => {
                self.call.finish(tonic::Code::Ok);
                self.ended = true;
                return None;
            }
            Some(message) => message.and_then(|message| self.line(&message)),
        };
        if let Err(status) = &line {
            self.call.finish(status.code());
            self.ended = true;
        }
        Some(line)
    }

    fn line(&mut self, message: &R) -> Result<Bytes, Status> {
        let bytes = message.encoded_len();
        let mut line = br#"{"result":"#.to_vec();
        json::encode(message, bytes, &mut line)?;
        line.extend_from_slice(b"}\n");
        self.call.sent(1, bytes as u64);
        Ok(line.into())
    }
}

#[cfg(test)]
mod tests {
    use althing_api::etcdserverpb::WatchRequest;

    use super::*;

    fn feed(pending: &mut Pending, text: &str) -> Vec<Result<Bytes, Status>> {
        pending.add(text.as_bytes());
        let mut messages = Vec::new();
        while let Some(message) = next_message::<WatchRequest>(pending).transpose() {
            let is_last = message.is_err();
            messages.push(message);
            if is_last {
                break;
            }
        }
        messages
    }

    #[test]
    fn values_are_taken_one_by_one_however_they_arrive() {
        let mut pending = Pending::default();
        assert!(feed(&mut pending, r#" {"create_request":{"key":"#).is_empty());
        let messages = feed(&mut pending, r#""YQ=="}}{"progress_request":{}} {"ca"#);
        assert_eq!(messages.len(), 2);
        let first = messages[0].as_ref().unwrap();
        assert_eq!(first[..PREFIX_BYTES], [0, 0, 0, 0, first.len() as u8 - 5]);
        assert!(WatchRequest::decode(&first[PREFIX_BYTES..]).is_ok());
        assert_eq!(
            feed(&mut pending, r#"ncel_request":{"watch_id":"3"}}"#).len(),
            1
        );
    }

    #[test]
    fn a_value_that_is_no_request_ends_the_requests() {
        let values = [
            "nonsense",
            "12",
            "\"text\"",
            "null",
            "{nonsense",
            "[}",
            " ]",
        ];
        for value in values {
            let messages = feed(&mut Pending::default(), value);
            assert!(messages[0].is_err(), "{value}");
        }
    }
}
