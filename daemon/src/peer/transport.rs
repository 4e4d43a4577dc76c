//! The transport of the links: HTTP/1.1 to the peer ports of the other members.
//!
//! ```text
//!  calls      a few kept connections per member, one request each at a time
//!  pipes      one connection each: an endless request, answered by an endless answer
//!  snapshots  one connection each, and another when it breaks; see `snapshot_out`
//! ```
//! Every request names the cluster and the member that it is for; the other end checks both before
//! it looks at anything else.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use althing_actors::peer_link::{
    Call, Knock, LinkError, OpenPipe, Peer, Pipe, SnapshotBytes, Transport,
};
use althing_api::id::{ClusterId, MemberId};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, TryStreamExt};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::dial::{Body, Connection, collect, dial, knock, whole};
use super::frame::{self, Frames};
use super::path::{self, CALL_BYTES_MAX, CLUSTER_HEADER, FROM_HEADER, PROCESS_HEADER, TO_HEADER};

/// Connections kept for the calls of one member: heartbeats, votes and read indexes at once, and
/// renewals of leases that arrive at a follower.
const KEPT_MAX: usize = 32;

/// The transport of one member. Clones share its connections.
#[derive(Clone, Debug)]
pub struct HttpTransport(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cluster: HeaderValue,
    me: HeaderValue,
    process: HeaderValue,
    kept: Mutex<HashMap<MemberId, Vec<Connection>>>,
    /// The URL that accepted last. Where a member has several, dead ones in front of it would take
    /// more time than a heartbeat has; and a member whose URLs were updated still listens there
    /// until it is restarted.
    accepted: Mutex<HashMap<MemberId, String>>,
}

pub(super) fn header(number: impl std::fmt::Display) -> HeaderValue {
    HeaderValue::from_str(&number.to_string()).expect("numbers are written in hex")
}

impl HttpTransport {
    /// The transport of member `me` of `cluster`.
    pub fn new(cluster: ClusterId, me: MemberId) -> HttpTransport {
        HttpTransport(Arc::new(Shared {
            cluster: header(cluster),
            me: header(me),
            process: header(format_args!("{:x}", rand::random::<u64>())),
            kept: Mutex::default(),
            accepted: Mutex::default(),
        }))
    }

    pub(super) fn request(
        &self,
        connection: &Connection,
        peer: &Peer,
        method: Method,
        path: &str,
        body: Body,
    ) -> Request<Body> {
        let mut request = connection.request(method, path, body);
        let headers = request.headers_mut();
        headers.insert(CLUSTER_HEADER, self.0.cluster.clone());
        headers.insert(FROM_HEADER, self.0.me.clone());
        headers.insert(PROCESS_HEADER, self.0.process.clone());
        headers.insert(TO_HEADER, header(peer.id));
        request
    }

    /// The URLs to try: the one that accepted last comes first, or last if the member no longer has
    /// it.
    fn urls(&self, peer: &Peer) -> Vec<String> {
        let mut urls = peer.urls.clone();
        if let Some(last) = self.0.accepted.lock().get(&peer.id) {
            match urls.iter().position(|url| url == last) {
                Some(at) => urls[..=at].rotate_right(1),
                None => urls.push(last.clone()),
            }
        }
        urls
    }

    /// A new connection.
    pub(super) async fn dial(&self, peer: &Peer) -> Result<Connection, LinkError> {
        let dialed = dial(&self.urls(peer)).await;
        let connection = dialed.map_err(LinkError::NotSent)?;
        let url = connection.url().to_owned();
        self.0.accepted.lock().insert(peer.id, url);
        Ok(connection)
    }

    fn kept(&self, peer: &Peer) -> Option<Connection> {
        let mut kept = self.0.kept.lock();
        let connections = kept.get_mut(&peer.id)?;
        std::iter::from_fn(|| connections.pop()).find(Connection::is_open)
    }

    fn keep(&self, peer: &Peer, connection: Connection) {
        let mut kept = self.0.kept.lock();
        let connections = kept.entry(peer.id).or_default();
        if connections.len() < KEPT_MAX && connection.is_open() {
            connections.push(connection);
        }
    }

    /// One call on one connection, which is kept when it was answered.
    async fn ask(
        &self,
        mut connection: Connection,
        peer: &Peer,
        call: Call,
        body: Bytes,
    ) -> Result<Bytes, LinkError> {
        let (path, body) = (path::of_call(call), whole(body));
        let request = self.request(&connection, peer, Method::POST, path, body);
        let head = connection.send(request).await.map_err(lost)?;
        let answer = answer(head).await;
        if !matches!(answer, Err(LinkError::Lost(_))) {
            self.keep(peer, connection);
        }
        answer
    }

    async fn call(self, peer: Peer, call: Call, body: Bytes) -> Result<Bytes, LinkError> {
        // A change that arrived must not be sent again as if it had not: it is rare enough for a
        // connection of its own.
        let may_repeat = call != Call::ChangeMembers;
        if may_repeat && let Some(connection) = self.kept(&peer) {
            match self.ask(connection, &peer, call, body.clone()).await {
                // The member may have closed it while it was idle. No other call does harm when it
                // arrives twice, or cares whether it arrived.
                Err(LinkError::Lost(_)) => {}
                answer => return answer,
            }
        }
        let connection = self.dial(&peer).await?;
        self.ask(connection, &peer, call, body).await
    }

    async fn open(self, peer: Peer, pipe: Pipe) -> Result<OpenPipe, LinkError> {
        let mut connection = self.dial(&peer).await?;
        let (requests, from) = mpsc::channel(pipe.window());
        let body = streamed(frame::request_body(from));
        let request = self.request(&connection, &peer, Method::POST, path::of_pipe(pipe), body);
        // Only the head was sent so far.
        let unsent = |error: hyper::Error| LinkError::NotSent(error.to_string());
        let answer = connection.send(request).await.map_err(unsent)?;
        if answer.status() != StatusCode::OK {
            let refused = self::answer(answer).await;
            return Err(refused.expect_err("an answer that is not OK is a refusal"));
        }
        let (to, answers) = mpsc::channel(pipe.window());
        tokio::spawn(async move {
            // The connection lives as long as its answers are read.
            let _connection = connection;
            if let Err(error) = read_answers(answer.into_body(), &to).await {
                let _ = to.send(Err(lost(error))).await;
            }
        });
        Ok(OpenPipe { requests, answers })
    }
}

pub(super) fn streamed(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
}

/// Hands answers on until the body ends or nobody reads them.
async fn read_answers(
    mut body: Incoming,
    to: &mpsc::Sender<Result<Bytes, LinkError>>,
) -> io::Result<()> {
    let mut frames = Frames::default();
    loop {
        let arrived = tokio::select! {
            arrived = body.frame() => arrived,
            () = to.closed() => return Ok(()),
        };
        let Some(arrived) = arrived else {
            return Ok(());
        };
        if let Some(data) = arrived.map_err(io::Error::other)?.data_ref() {
            frames.push(data);
        }
        while let Some(message) = frames.next()? {
            let answer = frame::answer(message)?.map_err(LinkError::Refused);
            if to.send(answer).await.is_err() {
                return Ok(());
            }
        }
    }
}

pub(super) fn lost(error: impl std::fmt::Display) -> LinkError {
    LinkError::Lost(error.to_string())
}

/// The answer with this head: what was done, or a refusal.
pub(super) async fn answer(head: Response<Incoming>) -> Result<Bytes, LinkError> {
    let status = head.status();
    let body = collect(head.into_body(), CALL_BYTES_MAX).await;
    let body = body.map_err(lost)?;
    match status {
        StatusCode::OK => Ok(body),
        status => Err(refused(status, &body)),
    }
}

fn refused(status: StatusCode, body: &[u8]) -> LinkError {
    match status {
        // As etcd's members tell one that was removed.
        StatusCode::GONE => LinkError::Removed,
        _ => LinkError::Refused(String::from_utf8_lossy(body).trim_end().to_owned()),
    }
}

impl Transport for HttpTransport {
    fn call(
        &self,
        peer: &Peer,
        call: Call,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        self.clone().call(peer.clone(), call, body).boxed()
    }

    fn knock(&self, peer: &Peer) -> BoxFuture<'static, Knock> {
        let urls = self.urls(peer);
        async move { knock(&urls).await }.boxed()
    }

    fn open(&self, peer: &Peer, pipe: Pipe) -> BoxFuture<'static, Result<OpenPipe, LinkError>> {
        self.clone().open(peer.clone(), pipe).boxed()
    }

    fn send_snapshot(
        &self,
        peer: &Peer,
        head: Bytes,
        body: SnapshotBytes,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        self.clone().snapshot(peer.clone(), head, body).boxed()
    }
}

#[cfg(test)]
#[path = "transport_test.rs"]
mod tests;
