//! The gRPC method Watch, by hand: its replies share encoded events, which the generated service
//! would encode again for each watcher.

use std::sync::Arc;

use althing_api::etcdserverpb::{WatchRequest, WatchResponse};
use futures_util::future::BoxFuture;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::StreamingService;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::api::Api;
use crate::rpc::{Replies, WatchReply};

/// There are many streams and most of them are idle, so they begin with less than the usual 8 KiB
/// each way. Messages are still handed over at once up to the usual size.
const BUFFER_BYTES: usize = 512;
const HANDED_OVER_BYTES: usize = 32 * 1024;

fn buffer() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, HANDED_OVER_BYTES)
}

/// Requests as usual, replies from shared pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WatchCodec;

/// Writes replies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReplyEncoder;

type Usual = ProstCodec<WatchResponse, WatchRequest>;

impl Codec for WatchCodec {
    type Encode = WatchReply;
    type Decode = WatchRequest;
    type Encoder = ReplyEncoder;
    type Decoder = <Usual as Codec>::Decoder;

    fn encoder(&mut self) -> ReplyEncoder {
        ReplyEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        Usual::raw_decoder(buffer())
    }
}

impl Encoder for ReplyEncoder {
    type Item = WatchReply;
    type Error = Status;

    fn buffer_settings(&self) -> BufferSettings {
        buffer()
    }

    fn encode(&mut self, reply: WatchReply, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(reply.encoded_len());
        reply.encode(out);
        Ok(())
    }
}

/// The method of one member.
pub(super) struct WatchMethod<A>(pub(super) Arc<A>);

impl<A: Api> StreamingService<WatchRequest> for WatchMethod<A> {
    type Response = WatchReply;
    type ResponseStream = Replies;
    type Future = BoxFuture<'static, Result<Response<Replies>, Status>>;

    fn call(&mut self, request: Request<Streaming<WatchRequest>>) -> Self::Future {
        let api = self.0.clone();
        Box::pin(async move { api.watch_replies(request).await })
    }
}
