//! Stands in front of a member as the source of a migration, and differs from it like old sources
//! and guarded ones do: a watch reports how far the cluster is and never an event, as etcd before
//! 3.4.25 and 3.5.8 may for a while; and a login says that authentication is enabled, if that is
//! asked for. All other answers are the member's own.

use std::net::SocketAddr;
use std::sync::Arc;

use althing_api::error::Error;
use althing_api::etcdserverpb as pb;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use pb::watch_request::RequestUnion;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::server::{StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};

use crate::grpc::{Grpc, Verbatim, path};
use crate::member::Member;

/// The calls that are passed on.
const PASSED: [&str; 4] = [
    path::RANGE,
    path::STATUS,
    path::LEASE_LEASES,
    path::LEASE_TIME_TO_LIVE,
];

/// The stand-in; it ends when this is dropped.
#[derive(Debug)]
pub struct HastySource {
    address: SocketAddr,
    facts: Facts,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Facts {
    member: Grpc,
    has_auth: bool,
    /// A key to be written right after the first read at a revision.
    late: Arc<Mutex<Option<pb::PutRequest>>>,
}

impl HastySource {
    /// Stands in front of `member`.
    ///
    /// # Panics
    /// When the member does not serve, or no port is free.
    pub async fn before(member: &Member, has_auth: bool) -> HastySource {
        let facts = Facts {
            member: member.grpc().await,
            has_auth,
            late: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("the system has a port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(serve(listener, facts.clone()));
        HastySource {
            address,
            facts,
            task,
        }
    }

    /// Its client URL.
    pub fn client_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes a key as soon as somebody has read at a revision, and so at a later one.
    pub fn write_late(&self, put: pb::PutRequest) {
        *self.facts.late.lock() = Some(put);
    }
}

impl Drop for HastySource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, facts: Facts) {
    while let Ok((io, _)) = listener.accept().await {
        let facts = facts.clone();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let facts = facts.clone();
            async move { Ok::<_, std::convert::Infallible>(facts.answer(request).await) }
        });
        let serving = http2::Builder::new(TokioExecutor::new());
        tokio::spawn(serving.serve_connection(TokioIo::new(io), service));
    }
}

impl Facts {
    async fn answer(&self, request: http::Request<Incoming>) -> http::Response<tonic::body::Body> {
        let mut server = tonic::server::Grpc::new(Verbatim);
        let path = request.uri().path().to_owned();
        match path.as_str() {
            path::WATCH => server.streaming(Watch(self.clone()), request).await,
            _ => server.unary(Call(self.clone(), path), request).await,
        }
    }

    async fn call(mut self, path: &str, request: Bytes) -> Result<Bytes, Status> {
        if path == path::AUTHENTICATE && self.has_auth {
            return Err(Status::invalid_argument(Error::AuthFailed.text()));
        }
        let Some(path) = PASSED.into_iter().find(|passed| *passed == path) else {
            return Err(Status::unimplemented(format!("unknown method {path}")));
        };
        let is_pinned = path == path::RANGE
            && pb::RangeRequest::decode(request.clone()).is_ok_and(|range| range.revision > 0);
        let answer = self.member.raw(path, request).await?;
        let late = is_pinned.then(|| self.late.lock().take()).flatten();
        if let Some(put) = late {
            self.member
                .unary::<pb::PutResponse>(path::PUT, &put)
                .await?;
        }
        Ok(answer)
    }

    /// The messages of a watch: its creation, or progress up to the cluster's revision.
    async fn said(&self, request: Bytes) -> Result<Bytes, Status> {
        let request = pb::WatchRequest::decode(request);
        let request = request.map_err(|error| Status::internal(error.to_string()))?;
        let created = matches!(request.request_union, Some(RequestUnion::CreateRequest(_)));
        let range = pb::RangeRequest {
            key: Bytes::from_static(b"\0"),
            count_only: true,
            ..pb::RangeRequest::default()
        };
        let mut member = self.member.clone();
        let answer: pb::RangeResponse = member.unary(path::RANGE, &range).await?;
        let said = pb::WatchResponse {
            header: answer.header,
            watch_id: if created { 0 } else { -1 },
            created,
            ..pb::WatchResponse::default()
        };
        Ok(said.encode_to_vec().into())
    }
}

struct Call(Facts, String);

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (facts, path) = (self.0.clone(), self.1.clone());
        async move {
            let answer = facts.call(&path, request.into_inner()).await;
            answer.map(Response::new)
        }
        .boxed()
    }
}

struct Watch(Facts);

impl StreamingService<Bytes> for Watch {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, requests: Request<Streaming<Bytes>>) -> Self::Future {
        let state = (self.0.clone(), requests.into_inner());
        let answers = stream::unfold(state, |(facts, mut requests)| async {
            let request = requests.message().await.ok().flatten()?;
            Some((facts.said(request).await, (facts, requests)))
        });
        std::future::ready(Ok(Response::new(answers.boxed()))).boxed()
    }
}
