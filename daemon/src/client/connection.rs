//! One client connection, from its first byte to its last, on the worker that accepted it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use actix_server::GracefulShutdownSignal;
use althing_actors::client_session::{
    ClientSession, Disconnected, Drain, Session, SessionSettings,
};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::api::Api;
use super::bridge::{self, Http2Body};
use super::exchanges::Exchanges;
use super::grpc::Services;
use super::grpc_head;
use super::held::Unsent;
use super::lazy_io::LazyIo;
use super::pings::TOO_MANY_PINGS;
use super::sniff::{Protocol, STALL_TIMEOUT, SniffedIo};
use super::web::{Http1Service, WebService};
use crate::settings::Live;

/// A client that connects and says nothing is let go after this time.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle time after which the kernel asks whether a client is there, and time until it asks again.
const TCP_PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// Resets that a client may have outstanding before the connection counts as an attack: clients
/// rightly cancel thousands of calls at once.
const RESET_STREAMS_MAX: usize = 10_000;
/// The headers of one request, names, values and 32 bytes for each: more than tokens and traces
/// take. The library's own bound would be 16 KiB.
const HEADERS_BYTES_MAX: u32 = 1 << 20;

/// Admits connections up to a number that all workers share.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: AtomicUsize,
}

/// The place of one open connection.
pub(super) struct Place(Arc<Gate>);

impl Gate {
    pub(super) fn new() -> Arc<Gate> {
        Arc::default()
    }

    /// `None` when all of the `connections_max` places are taken.
    pub(super) fn enter(self: &Arc<Gate>, connections_max: usize) -> Option<Place> {
        let place = Place(self.clone());
        if self.open.fetch_add(1, Ordering::Relaxed) < connections_max {
            Some(place)
        } else {
            None
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the connections of one worker share.
pub(super) struct Worker<A> {
    pub(super) services: Option<Services<A>>,
    pub(super) web: WebService,
    pub(super) http1: Http1Service,
    pub(super) stop: GracefulShutdownSignal,
    pub(super) gate: Arc<Gate>,
    pub(super) settings: Live,
}

/// Serves one accepted socket until it closes. Errors of a connection are its client's business
/// and appear only in the debug log.
pub(super) async fn serve<A: Api>(worker: Rc<Worker<A>>, io: TcpStream) {
    let connections_max = worker.settings.get().port.connections_max;
    let Some(_place) = worker.gate.enter(connections_max) else {
        tracing::debug!("connection refused: client.connections_max are open");
        return;
    };
    let (Ok(()), Ok(peer)) = (prepare(&io), io.peer_addr()) else {
        return;
    };
    let streams_max = worker.settings.get().port.streams_max;
    let streams_max = usize::try_from(streams_max).unwrap_or(usize::MAX);
    let limits = SessionSettings {
        streams_max: streams_max.max(1),
    };
    let session = Rc::new(ClientSession::start(peer, limits));
    let mut served = pin!(serve_session(&worker, io, &session));
    let result = tokio::select! {
        result = &mut served => result,
        () = worker.stop.notified() => {
            session.addr().do_send(Drain);
            served.await
        }
    };
    session.addr().do_send(Disconnected);
    if let Err(error) = result {
        tracing::debug!(%peer, error, "client connection ended");
    }
}

async fn serve_session<A: Api>(
    worker: &Rc<Worker<A>>,
    io: TcpStream,
    session: &Rc<Session>,
) -> Result<(), String> {
    let sniff = SniffedIo::sniff(io, session.clone());
    let sniffed = tokio::select! {
        sniffed = tokio::time::timeout(FIRST_BYTES_TIMEOUT, sniff) => sniffed,
        () = session.drained() => return Ok(()),
    };
    match sniffed {
        Ok(Ok((conn, Protocol::Http1))) => {
            let peer = Some(session.peer());
            let served = actix_service::Service::call(&worker.http1, (conn, peer));
            served.await.map_err(|error| error.to_string())
        }
        Ok(Ok((conn, Protocol::Http2))) => serve_http2(worker, session, conn).await,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no request arrived in time".to_string()),
    }
}

/// Sends small answers at once, and finds out about clients that vanished: an open watch sends
/// nothing for hours.
fn prepare(io: &TcpStream) -> std::io::Result<()> {
    io.set_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(TCP_PROBE_INTERVAL)
        .with_interval(TCP_PROBE_INTERVAL);
    SockRef::from(io).set_tcp_keepalive(&probes)
}

async fn serve_http2<A: Api>(
    worker: &Rc<Worker<A>>,
    session: &Rc<Session>,
    conn: SniffedIo,
) -> Result<(), String> {
    let settings = worker.settings.get().port.clone();
    let io = LazyIo::new(conn, settings.ping_interval_min);
    let unsent = Arc::new(Unsent::default());
    let service = {
        let shared = (worker.clone(), session.clone(), unsent.clone());
        service_fn(move |request| {
            let (worker, session, unsent) = shared.clone();
            // Boxed, because hyper keeps its space for as long as the answer's body lasts: for a
            // watch, the life of the connection.
            Box::pin(async move {
                Ok::<_, Infallible>(answer(&worker, &session, &unsent, request).await)
            })
        })
    };
    let mut exchanges = Exchanges::default();
    let connection = hyper::server::conn::http2::Builder::new(exchanges.begin())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(settings.streams_max)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(None)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .serve_connection(TokioIo::new(io.clone()), service);
    let mut connection = pin!(connection);
    let mut drained = pin!(session.drained());
    let mut is_draining = false;
    let mut pinged = false;
    let served = poll_fn(|cx| {
        if !is_draining && drained.as_mut().poll(cx).is_ready() {
            is_draining = true;
            connection.as_mut().graceful_shutdown();
        }
        // Answers first, so that the connection sends them; then what new requests began.
        exchanges.poll(cx);
        let served = connection.as_mut().poll(cx);
        exchanges.poll(cx);
        if served.is_pending() && io.ends_for_pings(exchanges.count()) {
            pinged = true;
            return Poll::Ready(Err(TOO_MANY_PINGS.to_owned()));
        }
        // Everything that this wake-up produced leaves in one write.
        let drained = io.poll_drain(cx);
        match (served, drained) {
            (Poll::Ready(result), _) => Poll::Ready(result.map_err(|error| error.to_string())),
            (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error.to_string())),
            _ => Poll::Pending,
        }
    });
    let served = tokio::select! {
        served = served => served,
        () = unsent.stalled(STALL_TIMEOUT) => Err("the client takes nothing".to_owned()),
    };
    if pinged {
        Box::pin(io.clone().close()).await
    } else {
        io.drain().await
    }
    served
}

async fn answer<A: Api>(
    worker: &Worker<A>,
    session: &Rc<Session>,
    unsent: &Arc<Unsent>,
    request: Request<Incoming>,
) -> Response<Http2Body> {
    match &worker.services {
        Some(services) if grpc_head::is_grpc(request.headers()) => {
            let answer = services.call(session, unsent, request).await;
            answer.map(Http2Body::Grpc)
        }
        _ => bridge::call(&worker.web, session, request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_connection_frees_its_place() {
        let gate = Gate::new();
        let place = gate.enter(1);
        assert!(place.is_some());
        assert!(gate.enter(1).is_none());
        assert!(gate.enter(2).is_some(), "the bound of this moment counts");
        drop(place);
        assert!(gate.enter(1).is_some());
    }
}
