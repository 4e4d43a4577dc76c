//! gRPC requests: from the path to a generated service.

use std::rc::Rc;
use std::sync::Arc;

use althing_actors::client_session::Session;
use althing_api::etcdserverpb::auth_server::AuthServer;
use althing_api::etcdserverpb::cluster_server::ClusterServer;
use althing_api::etcdserverpb::kv_server::KvServer;
use althing_api::etcdserverpb::lease_server::LeaseServer;
use althing_api::etcdserverpb::maintenance_server::MaintenanceServer;
use althing_api::healthpb::health_server::HealthServer;
use althing_api::v3electionpb::election_server::ElectionServer;
use althing_api::v3lockpb::lock_server::LockServer;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Status;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::codegen::Service as _;

use super::api::Api;
use super::grpc_body::{Limits, RequestBody, ResponseBody};
use super::grpc_head;
use super::grpc_health::GrpcHealth;
use super::grpc_watch::{WatchCodec, WatchMethod};
use super::held::{Outgoing, Unsent};
use super::methods::{self, Call, Methods, Service};
use super::status::in_words_of_go;
use crate::rpc::read_budget::ReadPermit;
use crate::rpc::status;
use crate::settings::Live;

type Answer = BoxFuture<'static, Result<Response<tonic::body::Body>, std::convert::Infallible>>;

/// The generated services over one member. Requests may be compressed, answers never are: no client
/// depends on it, and compressing a large one would hold up the worker's other connections.
pub(super) struct Services<A> {
    kv: KvServer<A>,
    watch: Arc<A>,
    lease: LeaseServer<A>,
    cluster: ClusterServer<A>,
    maintenance: MaintenanceServer<A>,
    auth: AuthServer<A>,
    lock: LockServer<A>,
    election: ElectionServer<A>,
    health: HealthServer<GrpcHealth>,
    methods: Methods,
    settings: Live,
}

impl<A: Api> Services<A> {
    pub(super) fn new(api: &Arc<A>, methods: Methods, settings: Live) -> Services<A> {
        let api = || api.clone();
        Services {
            kv: KvServer::from_arc(api()).accept_compressed(Gzip),
            watch: api(),
            lease: LeaseServer::from_arc(api()).accept_compressed(Gzip),
            cluster: ClusterServer::from_arc(api()).accept_compressed(Gzip),
            maintenance: MaintenanceServer::from_arc(api()).accept_compressed(Gzip),
            auth: AuthServer::from_arc(api()).accept_compressed(Gzip),
            lock: LockServer::from_arc(api()).accept_compressed(Gzip),
            election: ElectionServer::from_arc(api()).accept_compressed(Gzip),
            health: HealthServer::new(GrpcHealth).accept_compressed(Gzip),
            methods,
            settings,
        }
    }

    /// Serves one request of a connection; `unsent` counts the connection's unsent slices. The
    /// future may be dropped when the client goes away.
    pub(super) async fn call(
        &self,
        session: &Rc<Session>,
        unsent: &Arc<Unsent>,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let timeout = match grpc_head::read(request.method(), request.headers()) {
            Ok(timeout) => timeout,
            Err(refusal) => return refusal.into_http(),
        };
        let path = request.uri().path();
        let Some(method) = self.methods.get(path) else {
            return methods::unknown(path).into_http();
        };
        let call = Call::start(method, session.peer(), request.headers());
        let limits = Limits {
            deadline: timeout.map(|timeout| Instant::now() + timeout),
            session: session.clone(),
        };
        let place = match method.is_stream.then(|| session.open_stream()).transpose() {
            Ok(place) => place,
            Err(error) => return refused(call, status::of(error)),
        };
        let service = method.service;
        let body = method.clone();
        let request = request.map(|inner| RequestBody::new(inner, body));
        let answer = call.span.around(self.route(service, request));
        let mut answer = match limits.bound(method.is_queue, answer).await {
            Ok(Ok(answer)) => answer,
            Err(status) => return refused(call, status),
        };
        // A status in the headers is the whole answer; otherwise trailers bring it.
        match Status::from_header_map(answer.headers()) {
            None => {
                let permit = answer.extensions_mut().remove::<Arc<ReadPermit>>();
                let large = permit.map(|permit| Outgoing::new(permit, unsent.clone()));
                let bytes_max = method.is_stream.then(|| self.receive_bytes_max());
                answer.map(|inner| ResponseBody::new(inner, call, limits, bytes_max, place, large))
            }
            Some(status) => {
                let rewritten = in_words_of_go(&status, method.is_stream, self.receive_bytes_max());
                refused(call, rewritten.unwrap_or(status))
            }
        }
    }

    /// The largest message that is received now.
    fn receive_bytes_max(&self) -> usize {
        self.settings.get().port.receive_bytes_max()
    }

    fn route(&self, service: Service, request: Request<RequestBody>) -> Answer {
        let max = self.receive_bytes_max();
        match service {
            Service::Kv => self.kv.clone().max_decoding_message_size(max).call(request),
            Service::Watch => {
                let method = WatchMethod(self.watch.clone());
                let server = tonic::server::Grpc::new(WatchCodec);
                let server = server.accept_compressed(Gzip);
                let mut server = server.max_decoding_message_size(max);
                Box::pin(async move { Ok(server.streaming(method, request).await) })
            }
            Service::Lease => self
                .lease
                .clone()
                .max_decoding_message_size(max)
                .call(request),
            Service::Cluster => self
                .cluster
                .clone()
                .max_decoding_message_size(max)
                .call(request),
            Service::Maintenance => self
                .maintenance
                .clone()
                .max_decoding_message_size(max)
                .call(request),
            Service::Auth => self
                .auth
                .clone()
                .max_decoding_message_size(max)
                .call(request),
            Service::Lock => self
                .lock
                .clone()
                .max_decoding_message_size(max)
                .call(request),
            Service::Election => self
                .election
                .clone()
                .max_decoding_message_size(max)
                .call(request),
            Service::Health => self
                .health
                .clone()
                .max_decoding_message_size(max)
                .call(request),
        }
    }
}

fn refused(mut call: Call, status: Status) -> Response<ResponseBody> {
    call.finish(status.code());
    status.into_http()
}
