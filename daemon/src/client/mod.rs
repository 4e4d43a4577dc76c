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
//! It owns sockets and requests in flight, nothing that outlives them. It waits for the services
//! only. On an orderly stop listeners close, HTTP/2 connections get GOAWAY, streams end with
//! "server stopped", requests in flight finish; what is left after the time limit is cut off. A
//! connection's error ends that connection alone.

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
mod conn;
mod connection;
mod deadline;
mod exchanges;
mod gateway;
mod grpc;
mod grpc_body;
mod grpc_health;
mod grpc_watch;
mod health;
mod held;
pub(crate) mod info;
mod lazy_io;
mod methods;
pub(crate) mod plain;
#[cfg(test)]
mod port_test;
mod status;
mod web;

pub use api::{Api, Member};

use access::Access;
use connection::{Gate, Worker};
use gateway::Gateway;
use grpc::Services;
use health::{HealthMetrics, Probes};
use methods::Methods;
use web::{Front, Pages};

/// What a request may be larger than the largest command: etcd's overhead for the message around
/// it.
const RECEIVE_OVERHEAD_BYTES: usize = 512 * 1024;

/// How the client port behaves.
#[derive(Debug)]
pub struct ClientSettings {
    /// Bound sockets that serve everything.
    pub listeners: Vec<TcpListener>,
    /// Bound sockets that serve only `/metrics`, `/health`, `/livez` and `/readyz`.
    pub metrics_listeners: Vec<TcpListener>,
    /// Worker threads; at least 1.
    pub workers: usize,
    /// Open connections of the whole process; one more is closed at once.
    pub connections_max: usize,
    /// Open streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// Largest encoded command, in bytes; a received message may be 512 KiB larger.
    pub request_bytes_max: usize,
    /// Idle time of an HTTP/2 connection after which it is pinged.
    pub keepalive_interval: Duration,
    /// How long a ping may stay unanswered.
    pub keepalive_timeout: Duration,
    /// Whether `/v3/...` is served.
    pub gateway: bool,
    /// Origins that browsers may ask from; empty or `*`: every one.
    pub cors: Vec<String>,
    /// Names under which the member may be asked; empty or `*`: every one.
    pub host_whitelist: Vec<String>,
    /// How long an orderly stop waits for requests in flight; whole seconds count.
    pub shutdown_timeout: Duration,
}

/// Serves `api` on the listeners of `settings`. To be called inside an actix system.
///
/// The server is a future: it ends when the handle stopped it. It takes no signals of the process.
/// Errors: a listener that can not be used; a metric that `registry` has already.
pub fn serve<A: Api>(
    api: A,
    registry: &Registry,
    mut settings: ClientSettings,
) -> io::Result<(Server, ServerHandle)> {
    let listeners = std::mem::take(&mut settings.listeners);
    let metrics_listeners = std::mem::take(&mut settings.metrics_listeners);
    let mut builder = Server::build()
        .workers(settings.workers.max(1))
        // The gate counts connections of the process; workers shall not make them wait unseen.
        .max_concurrent_connections(settings.connections_max.saturating_add(1))
        .shutdown_timeout(settings.shutdown_timeout.as_secs())
        .disable_signals();
    let shared = Shared {
        api: Arc::new(api),
        registry: registry.clone(),
        methods: Methods::register(registry).map_err(io::Error::other)?,
        health_metrics: HealthMetrics::register(registry).map_err(io::Error::other)?,
        gate: Gate::new(settings.connections_max),
        stop: builder.graceful_shutdown_signal(),
        settings: Arc::new(settings),
    };
    for listener in listeners {
        builder = listen(builder, "client", listener, &shared, true)?;
    }
    for listener in metrics_listeners {
        builder = listen(builder, "metrics", listener, &shared, false)?;
    }
    let server = builder.run();
    let handle = server.handle();
    Ok((server, handle))
}

/// What workers build their part from.
struct Shared<A> {
    api: Arc<A>,
    registry: Registry,
    methods: Methods,
    health_metrics: HealthMetrics,
    gate: Arc<Gate>,
    stop: GracefulShutdownSignal,
    settings: Arc<ClientSettings>,
}

impl<A> Clone for Shared<A> {
    fn clone(&self) -> Shared<A> {
        Shared {
            api: self.api.clone(),
            registry: self.registry.clone(),
            methods: self.methods.clone(),
            health_metrics: self.health_metrics.clone(),
            gate: self.gate.clone(),
            stop: self.stop.clone(),
            settings: self.settings.clone(),
        }
    }
}

fn listen<A: Api>(
    builder: ServerBuilder,
    name: &str,
    listener: TcpListener,
    shared: &Shared<A>,
    is_front: bool,
) -> io::Result<ServerBuilder> {
    let shared = shared.clone();
    builder.listen(name, listener, move || {
        let shared = shared.clone();
        fn_factory(move || {
            let shared = shared.clone();
            async move {
                let worker = Rc::new(shared.worker(is_front).await?);
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
    async fn worker(self, is_front: bool) -> Result<Worker<A>, ()> {
        let receive_bytes_max = self.settings.request_bytes_max + RECEIVE_OVERHEAD_BYTES;
        let services =
            is_front.then(|| Services::new(&self.api, self.methods.clone(), receive_bytes_max));
        let front = is_front.then(|| {
            let access = Access::new(&self.settings.cors, &self.settings.host_whitelist);
            let gateway = self.settings.gateway.then(|| {
                let api = self.api.clone();
                Rc::new(Gateway::new(api, &self.methods, receive_bytes_max))
            });
            Front {
                access: Rc::new(access),
                gateway,
            }
        });
        let pages = Pages {
            probes: Rc::new(Probes::new(self.api.clone(), self.health_metrics)),
            api: self.api,
            registry: self.registry,
            front,
        };
        let web = web::build(pages).await?;
        let http1 = web::http1(&web, &self.stop).await?;
        Ok(Worker {
            services,
            web,
            http1,
            stop: self.stop,
            gate: self.gate,
            settings: self.settings,
        })
    }
}
