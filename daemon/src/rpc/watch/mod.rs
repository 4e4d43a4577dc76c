//! gRPC service etcdserverpb.Watch: many watchers on one stream of requests and one of answers.
//!
//! ```text
//!  requests --> create: check, name --> WatchHub --> notices --> replies, pieces --> client
//!               |   refusals, in the order of the requests  ------^
//!               '-- timer: how far silent watchers are
//! ```
//! A stream is not an actor but the body of its answer: it runs when its client can be sent
//! something. It owns the ids of its watchers and at most one message in work; the queue before it
//! has a bound of its own. It ends with its client, its connection, the hub or the leader.

mod create;
mod reply;
mod stream;

use std::task::{Poll, ready};

use althing_api::etcdserverpb::watch_server::Watch;
use althing_api::etcdserverpb::*;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, poll_fn};
use tonic::{Request, Response, Status, Streaming};

use super::Rpc;
use super::guard::{Call, Learner};

pub use self::reply::WatchReply;
use self::stream::WatchStream;

/// Replies as they are sent.
pub type Replies = BoxStream<'static, Result<WatchReply, Status>>;

impl Rpc {
    /// As [`Watch::watch`], with replies that share their encoded events.
    pub(crate) fn watch_replies(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Replies>, Status> {
        self.admit(request.metadata(), Call::Stream, Learner::Refuses)?;
        let leader_lost = self.leader_lost(request.metadata());
        let stream = WatchStream::new(self.clone(), request.into_inner(), leader_lost);
        let mut open = Some(stream);
        let replies = poll_fn(move |cx| {
            let Some(stream) = &mut open else {
                return Poll::Ready(None);
            };
            let reply = ready!(stream.poll_next(cx));
            if reply.is_err() {
                open = None;
            }
            Poll::Ready(Some(reply))
        });
        Ok(Response::new(replies.boxed()))
    }
}

#[tonic::async_trait]
impl Watch for Rpc {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let replies = self.watch_replies(request)?;
        Ok(replies.map(|replies| {
            let messages = replies.map(|reply| reply.map(WatchReply::into_message));
            messages.boxed()
        }))
    }
}
