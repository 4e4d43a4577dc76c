//! The actix-web application of the client port: which path is answered by what.

use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_server::GracefulShutdownSignal;
use actix_service::boxed::{self, BoxService};
use actix_service::{Service, ServiceFactory, fn_service, map_config};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, KeepAlive, Version};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpMessage, HttpRequest, web};
use althing_actors::client_session::Session;

use super::access;
use super::api::Api;
use super::gateway::Gateway;
use super::health::{self, Probes};
use super::info;
use super::paths::decoded;
use super::plain::not_found;
use super::sniff::SniffedIo;
use crate::settings::Live;

/// The application, shared by the worker's connections of either version of HTTP.
pub(super) type WebService = Rc<BoxService<actix_http::Request, ServiceResponse<BoxBody>, Error>>;
/// Serves one HTTP/1.1 connection with the application.
pub(super) type Http1Service =
    BoxService<(SniffedIo, Option<std::net::SocketAddr>), (), actix_http::error::DispatchError>;

/// How long an idle HTTP/1.1 connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What the application serves.
pub(super) struct Pages<A> {
    pub(super) probes: Rc<Probes<A>>,
    pub(super) api: Arc<A>,
    pub(super) registry: prometheus::Registry,
    pub(super) settings: Live,
    /// Unset on listeners of metrics only.
    pub(super) gateway: Option<Rc<Gateway<A>>>,
}

/// Builds the application once for a worker.
pub(super) async fn build<A: Api>(pages: Pages<A>) -> Result<WebService, ()> {
    let settings = pages.settings.clone();
    match &pages.gateway {
        None => {
            let app = App::new().configure(|config| probes(config, &pages));
            let app = app.default_service(web::to(|| ready(not_found())));
            let factory = map_config(app, |(): ()| AppConfig::default());
            Ok(Rc::new(boxed::service(factory.new_service(()).await?)))
        }
        Some(gateway) => {
            let gateway = gateway.clone();
            let check = move |request: ServiceRequest, next: Next<BoxBody>| {
                access::check(settings.clone(), request, next)
            };
            let rest = move |request: HttpRequest, payload: web::Payload| {
                let gateway = gateway.clone();
                async move {
                    let path = decoded(request.path()).unwrap_or_default();
                    if gateway.is_its(&path) {
                        gateway.serve(&path, &request, payload).await
                    } else {
                        not_found()
                    }
                }
            };
            let app = App::new()
                .configure(|config| {
                    probes(config, &pages);
                    info::version(config, &pages.api);
                })
                .default_service(web::to(rest))
                .wrap(from_fn(check));
            let factory = map_config(app, |(): ()| AppConfig::default());
            Ok(Rc::new(boxed::service(factory.new_service(()).await?)))
        }
    }
}

fn probes<A: Api>(config: &mut web::ServiceConfig, pages: &Pages<A>) {
    health::routes(config, &pages.probes);
    info::metrics(config, &pages.registry, &pages.settings);
}

/// The session of the connection that brought `request`: HTTP/1.1 keeps it with the connection, the
/// bridge puts it into each request.
pub(super) fn session_of(request: &HttpRequest) -> Rc<Session> {
    let of_request = || request.extensions().get::<Rc<Session>>().cloned();
    let session = request
        .conn_data::<Rc<Session>>()
        .cloned()
        .or_else(of_request);
    session.expect("a request comes by one of the two ways")
}

/// Serves HTTP/1.1 with an application that is built already.
pub(super) async fn http1(
    web: &WebService,
    stop: &GracefulShutdownSignal,
) -> Result<Http1Service, ()> {
    let (web, stop) = (web.clone(), stop.clone());
    let answer = fn_service(move |request: actix_http::Request| {
        let answer = web.call(request);
        async move { answer.await.map(for_http1) }
    });
    let factory = HttpService::build()
        .keep_alive(KeepAlive::Timeout(IDLE_TIMEOUT))
        .client_request_timeout(HEAD_TIMEOUT)
        // A client that closed its side counts as gone, as in etcd: otherwise one that went away
        // while it waited for a lock would stay in the queue, and its silent watches would never
        // end.
        .h1_allow_half_closed(false)
        .graceful_shutdown_signal(move || {
            let stop = stop.clone();
            async move { stop.notified().await }
        })
        .on_connect_ext(|conn: &SniffedIo, data| {
            data.insert(conn.session().clone());
        })
        .h1(answer);
    Ok(boxed::service(factory.new_service(()).await?))
}

/// Tells HTTP/1.1's implementation what becomes of the connection behind `answer`.
fn for_http1(mut answer: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let asked = answer.request().head();
    // The implementation ends the connection of a client that offered another protocol, and does
    // not say so: the client's next request would be lost on its way.
    let has_offer = asked.connection_type() == ConnectionType::Upgrade;
    // Before HTTP/1.1 there were no chunks: a stream ends where its connection does.
    let streams = answer.response().body().size() == BodySize::Stream;
    let has_no_chunks = streams && asked.version < Version::HTTP_11;
    let head = answer.response_mut().head_mut();
    if has_no_chunks {
        head.no_chunking(true);
    }
    if has_offer || has_no_chunks {
        head.set_connection_type(ConnectionType::Close);
    }
    answer
}
