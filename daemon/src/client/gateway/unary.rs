//! Calls with one request and one answer, and what every call does with its request.

use std::sync::Arc;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Extensions, Request, Response, Status};

use super::super::api::Api;
use super::super::held::HeldBody;
use super::super::methods::Call;
use super::super::status::too_large;
use super::refusal::refusal;
use super::{Answer, Exchange, json, metadata};
use crate::rpc::read_budget::ReadPermit;

/// How many times larger than the message in it a JSON body may be: base64 adds a third, blanks and
/// names add more. What is larger still is refused unread.
const JSON_BYTES_PER_MESSAGE_BYTE: usize = 2;
const JSON_BYTES_MIN: usize = 64 * 1024;

/// A method of a service, as the generated traits declare it.
pub(super) type Method<A, Q, R> =
    for<'a> fn(&'a A, Request<Q>) -> BoxFuture<'a, Result<Response<R>, Status>>;

/// The route of a unary method.
pub(super) fn unary<A, Q, R>(method: Method<A, Q, R>) -> Answer<A>
where
    A: Api,
    Q: Message + Default + DeserializeOwned + 'static,
    R: Message + Serialize + 'static,
{
    Box::new(move |exchange| {
        Box::pin(async move {
            match exchange.unary(method).await {
                Ok(response) => response,
                Err(status) => refusal(&status),
            }
        })
    })
}

impl<A: Api> Exchange<A> {
    async fn unary<Q, R>(self, method: Method<A, Q, R>) -> Result<HttpResponse, Status>
    where
        Q: Message + Default + DeserializeOwned,
        R: Message + Serialize,
    {
        let (mut call, request, rest) = self.start().await?;
        let answer = method(&rest.api, request);
        let answer = rest.limits.bound(rest.method.is_queue, answer);
        let answer = call.span.around(answer).await;
        let (permit, own, message) = match answer.flatten() {
            Ok(mut answer) => {
                let permit = answer.extensions_mut().remove::<Arc<ReadPermit>>();
                let (metadata, message, _) = answer.into_parts();
                (permit, metadata::to_headers(metadata), message)
            }
            Err(status) => {
                call.finish(status.code());
                return Err(status);
            }
        };
        let bytes = message.encoded_len();
        let mut body = Vec::new();
        json::encode(&message, bytes, &mut body)?;
        call.sent(1, bytes as u64);
        call.finish(tonic::Code::Ok);
        let mut head = ok();
        for header in own {
            head.insert_header(header);
        }
        Ok(match permit {
            None => head.body(body),
            Some(permit) => head.body(HeldBody::new(body, permit)),
        })
    }

    /// Reads, decodes and counts the request message.
    pub(super) async fn start<Q>(mut self) -> Result<(Call, Request<Q>, Exchange<A>), Status>
    where
        Q: Message + Default + DeserializeOwned,
    {
        let body = read(&mut self.payload, self.body_bytes, self.receive_bytes_max).await?;
        let message: Q = json::decode(&body)?;
        let bytes = message.encoded_len();
        let call = Call::start(
            &self.method,
            self.limits.session.peer(),
            self.metadata.as_ref(),
        );
        if bytes > self.receive_bytes_max {
            let status = too_large(bytes, self.receive_bytes_max);
            let mut call = call;
            call.finish(status.code());
            return Err(status);
        }
        call.method.received(1, bytes as u64);
        let metadata = std::mem::take(&mut self.metadata);
        let request = Request::from_parts(metadata, Extensions::default(), message);
        Ok((call, request, self))
    }
}

/// The head of every successful answer.
pub(super) fn ok() -> actix_web::HttpResponseBuilder {
    let mut builder = HttpResponse::Ok();
    builder
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header(("Grpc-Metadata-Content-Type", "application/grpc"));
    builder
}

/// Reads a whole body; one that comes in a single piece is not copied. A body that is too large is
/// refused with its own size, or what was read of it: the size of the message in it, which etcd
/// names, shows only when all is decoded.
async fn read(
    payload: &mut web::Payload,
    body_bytes: Option<usize>,
    receive_bytes_max: usize,
) -> Result<Bytes, Status> {
    let bytes_max = JSON_BYTES_MIN + receive_bytes_max * JSON_BYTES_PER_MESSAGE_BYTE;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(|error| Status::invalid_argument(error.to_string()))?;
        if first.is_empty() {
            first = piece;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&piece);
        if all.len() > bytes_max {
            let bytes = body_bytes.unwrap_or(all.len());
            return Err(too_large(bytes, receive_bytes_max));
        }
    }
    if all.is_empty() {
        Ok(first)
    } else {
        Ok(all.freeze())
    }
}
