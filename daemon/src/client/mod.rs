//! The client port: one listener for gRPC over HTTP/2, the JSON gateway over either version of
//! HTTP, and the end-points for operators.
//!
//! ```text
//! accept (actix-server) -> place free? -> first bytes -+- HTTP/1.1 -> actix-web application
//!                                                      +- HTTP/2 -+- gRPC -> generated services
//!                                                                 +- else -> the application
//! ```
//!
//! Each worker is a thread; a connection stays on the worker that accepted it, from its first byte
//! to its last. Workers share the member behind the services, the counters and the number of open
//! connections; each builds its own application and services over them.
//!
//! The port owns sockets and requests in flight, and nothing that outlives them. It waits only for
//! the services. On an orderly stop listeners close, HTTP/2 connections get GOAWAY, streams end
//! with "server stopped", requests in flight finish; what is left after the time limit is cut off.
//! A connection's error ends that connection alone.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_server::{GracefulShutdownSignal, Server, ServerBuilder, ServerHandle};
use actix_service::{fn_factory, fn_service};
use prometheus::Registry;
use tokio::net::TcpStream;

mod access;
mod api;
mod bridge;
mod connection;
mod deadline;
mod exchanges;
mod first_head;
mod gateway;
mod grpc;
mod grpc_body;
mod grpc_head;
mod grpc_health;
mod grpc_watch;
mod health;
mod held;
pub(crate) mod info;
mod lazy_io;
mod methods;
mod paths;
mod pings;
pub(crate) mod plain;
#[cfg(test)]
mod port_test;
mod slow_calls;
mod sniff;
mod status;
mod web;

pub use api::Api;

use connection::{Gate, Worker};
use gateway::Gateway;
use grpc::Services;
use health::{HealthMetrics, Probes};
use methods::Methods;
use web::Pages;

use crate::settings::Live;

/// How much larger than the largest command a request may be: etcd's overhead for the message
/// around it.
const RECEIVE_OVERHEAD_BYTES: usize = 512 * 1024;

/// Workers of a listener that answers probes only.
const PROBE_WORKERS: usize = 1;
/// Connections of one worker; more than the gate ever admits, so that none waits unseen.
const WORKER_CONNECTIONS_MAX: usize = 1 << 24;
/// An orderly stop ends by itself after this time; the caller that stops a listener waits no longer
/// than the settings of that moment say.
const STOP_MAX: Duration = Duration::from_secs(24 * 3600);

/// How the client port behaves; a connection takes over what concerns it when it begins.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// Open connections of the whole process; one more is closed at once.
    pub connections_max: usize,
    /// Open streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// Largest encoded command, in bytes; a received message may be 512 KiB larger.
    pub request_bytes_max: usize,
    /// The least time between two pings of a client that has calls open; others may ping every two
    /// hours.
    pub ping_interval_min: Duration,
    /// Idle time of an HTTP/2 connection after which it is pinged; `None` for never.
    pub keepalive_interval: Option<Duration>,
    /// How long a ping may stay unanswered.
    pub keepalive_timeout: Duration,
    /// A unary call that takes longer is logged.
    pub slow_call: Duration,
    /// Whether /metrics has what etcd's has with `--metrics=extensive`.
    pub is_metrics_extensive: bool,
    /// Whether `/v3/...` is served.
    pub gateway: bool,
    /// Origins that browsers may ask from; empty or `*`: every one.
    pub cors: Vec<String>,
    /// Names under which the member may be asked; empty or `*`: every one.
    pub host_whitelist: Vec<String>,
    /// How long an orderly stop waits for requests in flight.
    pub shutdown_timeout: Duration,
}

impl PortSettings {
    fn receive_bytes_max(&self) -> usize {
        self.request_bytes_max
            .saturating_add(RECEIVE_OVERHEAD_BYTES)
    }
}

/// What a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Everything.
    Everything,
    /// Only `/metrics`, `/health`, `/livez` and `/readyz`.
    Probes,
}

/// What all listeners of clients share. Each is a server of its own, so that one can be closed
/// while the connections of the others go on.
#[derive(Debug)]
pub struct ClientPort<A>(Shared<A>);

impl<A: Api> ClientPort<A> {
    /// A port that will serve `api`. Error: `registry` has one of the metrics already.
    pub fn new(
        api: A,
        registry: &Registry,
        settings: Live,
    ) -> Result<ClientPort<A>, prometheus::Error> {
        Ok(ClientPort(Shared {
            api: Arc::new(api),
            registry: registry.clone(),
            methods: Methods::register(registry, settings.clone())?,
            health_metrics: HealthMetrics::register(registry)?,
            gate: Gate::new(),
            settings,
        }))
    }

    /// Serves a bound socket on `workers` threads. Must be called inside an actix system.
    ///
    /// The server is a future that ends once the handle has stopped it. It takes no signals of the
    /// process. Errors: a listener that cannot be used.
    pub fn listen(
        &self,
        listener: TcpListener,
        serves: Serves,
        workers: usize,
    ) -> io::Result<(Server, ServerHandle)> {
        let workers = match serves {
            Serves::Everything => workers.max(1),
            Serves::Probes => PROBE_WORKERS,
        };
        let builder = Server::build()
            .workers(workers)
            .max_concurrent_connections(WORKER_CONNECTIONS_MAX)
            .shutdown_timeout(STOP_MAX.as_secs())
            .disable_signals();
        let stop = builder.graceful_shutdown_signal();
        let server = listen(builder, listener, &self.0, &stop, serves)?.run();
        let handle = server.handle();
        Ok((server, handle))
    }
}

/// What workers build their part from.
#[derive(Debug)]
struct Shared<A> {
    api: Arc<A>,
    registry: Registry,
    methods: Methods,
    health_metrics: HealthMetrics,
    gate: Arc<Gate>,
    settings: Live,
}

impl<A> Clone for Shared<A> {
    fn clone(&self) -> Shared<A> {
        Shared {
            api: self.api.clone(),
            registry: self.registry.clone(),
            methods: self.methods.clone(),
            health_metrics: self.health_metrics.clone(),
            gate: self.gate.clone(),
            settings: self.settings.clone(),
        }
    }
}

fn listen<A: Api>(
    builder: ServerBuilder,
    listener: TcpListener,
    shared: &Shared<A>,
    stop: &GracefulShutdownSignal,
    serves: Serves,
) -> io::Result<ServerBuilder> {
    let (shared, stop) = (shared.clone(), stop.clone());
    builder.listen("client", listener, move || {
        let (shared, stop) = (shared.clone(), stop.clone());
        fn_factory(move || {
            let (shared, stop) = (shared.clone(), stop.clone());
            async move {
                let worker = Rc::new(shared.worker(stop, serves).await?);
                Ok::<_, ()>(fn_service(move |io: TcpStream| {
                    let worker = worker.clone();
                    async move {
                        connection::serve(worker, io).await;
                        Ok::<_, ()>(())
                    }
                }))
            }
        })
    })
}

impl<A: Api> Shared<A> {
    async fn worker(self, stop: GracefulShutdownSignal, serves: Serves) -> Result<Worker<A>, ()> {
        let is_front = serves == Serves::Everything;
        let services =
            is_front.then(|| Services::new(&self.api, self.methods.clone(), self.settings.clone()));
        let gateway = is_front.then(|| {
            let (api, settings) = (self.api.clone(), self.settings.clone());
            Rc::new(Gateway::new(api, &self.methods, settings))
        });
        let pages = Pages {
            probes: Rc::new(Probes::new(self.api.clone(), self.health_metrics)),
            api: self.api,
            registry: self.registry,
            settings: self.settings.clone(),
            gateway,
        };
        let web = web::build(pages).await?;
        let http1 = web::http1(&web, &stop).await?;
        Ok(Worker {
            services,
            web,
            http1,
            stop,
            gate: self.gate,
            settings: self.settings,
        })
    }
}
