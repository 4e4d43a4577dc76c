//! The receiving end of what members send one another: checked, handed to the node, answered.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use althing_actors::node::{Inbound, Refusal};
use althing_actors::peer_link::{Call, Pipe, SnapshotBytes};
use althing_api::id::{ClusterId, MemberId};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, unfold};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};

use super::frame::{Chunks, Frames};
use super::path::{
    self, CALL_BYTES_MAX, CLUSTER_HEADER, FROM_HEADER, OFFSET_HEADER, PROCESS_HEADER, TO_HEADER,
    TRANSFER_HEADER,
};
use super::senders::Senders;
use super::snapshot_in::SnapshotIn;
use crate::client::plain::plain_error;

/// Chunks of answers between the connection and the node.
const CHUNKS_MAX: usize = 4;

/// A member that is set up wrongly asks again and again; that is logged once in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Where messages of other members go. The port is generic over it, so that it is tested without a
/// node.
pub trait WayIn: Clone + Send + 'static {
    /// Checks who sent a message and for whom it is.
    fn admit(&self, cluster: ClusterId, from: MemberId, to: MemberId) -> Result<(), Refusal>;
    /// Answers a call.
    fn call(&self, call: Call, body: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>>;
    /// Takes the next message of a pipe at once; the future is its answer.
    fn send(&self, pipe: Pipe, body: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>>;
    /// Notes that a pipe of member `from` ended at the other end.
    fn pipe_ended(&self, pipe: Pipe, from: MemberId);
    /// Takes a snapshot over.
    fn snapshot(
        &self,
        head: Bytes,
        body: SnapshotBytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>>;
}

impl WayIn for Inbound {
    fn admit(&self, cluster: ClusterId, from: MemberId, to: MemberId) -> Result<(), Refusal> {
        Inbound::admit(self, cluster, from, to)
    }

    fn call(&self, call: Call, body: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let inbound = self.clone();
        async move { Inbound::call(&inbound, call, body).await }.boxed()
    }

    fn send(&self, pipe: Pipe, body: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        Inbound::send(self, pipe, body)
    }

    fn pipe_ended(&self, pipe: Pipe, from: MemberId) {
        Inbound::pipe_ended(self, pipe, from);
    }

    fn snapshot(
        &self,
        head: Bytes,
        body: SnapshotBytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let inbound = self.clone();
        async move { Inbound::snapshot(&inbound, head, body).await }.boxed()
    }
}

/// One place where members' requests come in.
#[derive(Clone)]
struct Door<W> {
    way_in: W,
    snapshot_in: SnapshotIn,
    /// Ends the pipes when the port closes.
    closing: watch::Receiver<bool>,
    complaints: Arc<Complaints>,
    senders: Arc<Senders>,
}

/// When the last line was logged about a request that was turned away.
struct Complaints {
    start: Instant,
    /// Seconds after `start`, plus one; zero for never.
    last: AtomicU64,
}

impl Complaints {
    fn log(&self, request: &HttpRequest, refusal: &Refusal) {
        let now = self.start.elapsed().as_secs() + 1;
        let last = self.last.load(Ordering::Relaxed);
        if last != 0 && now - last < COMPLAINT_INTERVAL.as_secs() {
            return;
        }
        self.last.store(now, Ordering::Relaxed);
        let text = |name| request.headers().get(name).and_then(|id| id.to_str().ok());
        tracing::warn!(
            remote_addr = request.peer_addr().map(tracing::field::display),
            remote_member = text(FROM_HEADER),
            remote_cluster = text(CLUSTER_HEADER),
            %refusal,
            "turned a message of another member away"
        );
    }
}

/// Adds the routes. `closing` turns true when the port closes.
pub(super) fn routes<W: WayIn>(
    config: &mut web::ServiceConfig,
    way_in: &W,
    snapshot_in: &SnapshotIn,
    closing: &watch::Receiver<bool>,
) {
    let door = Door {
        way_in: way_in.clone(),
        snapshot_in: snapshot_in.clone(),
        closing: closing.clone(),
        complaints: Arc::new(Complaints {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }),
        senders: Arc::default(),
    };
    for call in path::CALLS {
        let door = door.clone();
        let answer = move |request: HttpRequest, body: web::Payload| {
            let door = door.clone();
            async move { door.call(&request, call, body).await }
        };
        config.route(path::of_call(call), web::post().to(answer));
    }
    for pipe in path::PIPES {
        let door = door.clone();
        let answer = move |request: HttpRequest, body: web::Payload| {
            std::future::ready(door.pipe(&request, pipe, body))
        };
        config.route(path::of_pipe(pipe), web::post().to(answer));
    }
    let at_snapshot = door.clone();
    let answer = move |request: HttpRequest, body: web::Payload| {
        let door = at_snapshot.clone();
        async move { door.snapshot(&request, body).await }
    };
    config.route(path::SNAPSHOT, web::post().to(answer));
    let answer = move |request: HttpRequest| {
        let door = door.clone();
        async move { door.snapshot_arrived(&request).await }
    };
    config.route(path::SNAPSHOT, web::get().to(answer));
}

fn hex_in(request: &HttpRequest, header: &str) -> Option<u64> {
    let text = request.headers().get(header)?.to_str().ok()?;
    u64::from_str_radix(text, 16).ok()
}

fn unnamed() -> HttpResponse {
    let text = "the request does not say which snapshot it is about";
    refused(&Refusal::Malformed(text.to_owned()))
}

impl<W: WayIn> Door<W> {
    /// Checks a request before its body is looked at.
    fn admit(&self, request: &HttpRequest) -> Result<(), Refusal> {
        let id = |name| hex_in(request, name);
        let admitted = match (id(CLUSTER_HEADER), id(FROM_HEADER), id(TO_HEADER)) {
            (Some(cluster), Some(from), Some(to)) => {
                let (from, to) = (MemberId(from), MemberId(to));
                self.way_in.admit(ClusterId(cluster), from, to)
            }
            _ => Err(Refusal::Malformed(
                "the request does not say of which cluster and member it is, and for whom"
                    .to_owned(),
            )),
        };
        admitted.inspect_err(|refusal| self.complaints.log(request, refusal))?;
        if let (Some(from), Some(process)) = (id(FROM_HEADER), id(PROCESS_HEADER))
            && self
                .senders
                .are_two(MemberId(from), process, Instant::now())
        {
            tracing::warn!(
                remote_addr = request.peer_addr().map(tracing::field::display),
                remote_member = %MemberId(from),
                "two processes run as this member, this one and another: stop the one that is not \
                meant, and start it with a name, URLs and a data directory of its own"
            );
        }
        Ok(())
    }

    async fn call(&self, request: &HttpRequest, call: Call, body: web::Payload) -> HttpResponse {
        if let Err(refusal) = self.admit(request) {
            return refused(&refusal);
        }
        match body.to_bytes_limited(CALL_BYTES_MAX).await {
            Ok(Ok(body)) => answered(self.way_in.call(call, body).await),
            Ok(Err(error)) => plain_error(StatusCode::BAD_REQUEST, &error.to_string()),
            Err(_) => plain_error(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"),
        }
    }

    fn pipe(&self, request: &HttpRequest, pipe: Pipe, body: web::Payload) -> HttpResponse {
        if let Err(refusal) = self.admit(request) {
            return refused(&refusal);
        }
        let (to, answers) = mpsc::channel(CHUNKS_MAX);
        let (way_in, mut closing) = (self.way_in.clone(), self.closing.clone());
        let from = hex_in(request, FROM_HEADER);
        actix_rt::spawn(async move {
            tokio::select! {
                () = carry(&way_in, pipe, body, &to) => {}
                () = to.closed() => {}
                _ = closing.wait_for(|closing| *closing) => return,
            }
            if let Some(from) = from {
                way_in.pipe_ended(pipe, MemberId(from));
            }
        });
        let body = unfold(answers, |mut answers| async {
            answers
                .recv()
                .await
                .map(|chunk| (Ok::<_, io::Error>(chunk), answers))
        });
        HttpResponse::Ok().streaming(body)
    }

    /// Takes a snapshot in, or what was left of it.
    async fn snapshot(&self, request: &HttpRequest, body: web::Payload) -> HttpResponse {
        if let Err(refusal) = self.admit(request) {
            return refused(&refusal);
        }
        let (id, offset) = (TRANSFER_HEADER, OFFSET_HEADER);
        let (Some(id), Some(offset)) = (hex_in(request, id), hex_in(request, offset)) else {
            return unnamed();
        };
        let taken = self.snapshot_in.receive(&self.way_in, id, offset, body);
        answered(taken.await)
    }

    /// Tells how many bytes of a snapshot have arrived.
    async fn snapshot_arrived(&self, request: &HttpRequest) -> HttpResponse {
        if let Err(refusal) = self.admit(request) {
            return refused(&refusal);
        }
        let Some(id) = hex_in(request, TRANSFER_HEADER) else {
            return unnamed();
        };
        let arrived = self.snapshot_in.arrived(id).await;
        answered(arrived.map(|arrived| arrived.to_string().into()))
    }
}

/// Messages in, answers out, both in order, as many under way as the pipe's window.
async fn carry<W: WayIn>(way_in: &W, pipe: Pipe, mut body: web::Payload, to: &mpsc::Sender<Bytes>) {
    let mut frames = Frames::default();
    let mut under_way = FuturesOrdered::new();
    let mut chunks = Chunks::default();
    loop {
        while under_way.len() < pipe.window() {
            match frames.next() {
                Ok(Some(message)) => under_way.push_back(way_in.send(pipe, message)),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a member sends what is no message");
                    return;
                }
            }
        }
        tokio::select! {
            biased;
            Some(answer) = under_way.next() => {
                chunks.answer(answer.map_err(|refusal| refusal.to_string()));
                while !chunks.is_full()
                    && let Some(Some(more)) = under_way.next().now_or_never()
                {
                    chunks.answer(more.map_err(|refusal| refusal.to_string()));
                }
                while let Some(chunk) = chunks.next() {
                    if to.send(chunk).await.is_err() {
                        return;
                    }
                }
            }
            bytes = body.next(), if under_way.len() < pipe.window() => match bytes {
                Some(Ok(bytes)) => frames.push(&bytes),
                // The other end closed it, or is gone.
                Some(Err(_)) | None => return,
            },
        }
    }
}

fn answered(answer: Result<Bytes, Refusal>) -> HttpResponse {
    match answer {
        Ok(body) => HttpResponse::Ok().body(body),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> HttpResponse {
    let status = match refusal {
        Refusal::OtherCluster { .. } | Refusal::OtherMember { .. } => {
            StatusCode::PRECONDITION_FAILED
        }
        Refusal::Removed => StatusCode::GONE,
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::Busy(_) | Refusal::Stopped => StatusCode::SERVICE_UNAVAILABLE,
    };
    plain_error(status, &refusal.to_string())
}
