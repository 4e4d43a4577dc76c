//! The client port over real sockets, with a fake member behind it.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use actix_server::ServerHandle;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{PortSettings, Serves};
use crate::rpc::Limits;
use crate::settings::{Live, Settings};
use fake_member::FakeMember;

mod fake_member;
mod grpc;
mod http1;
mod http2;
mod json;
mod pings;
mod probes;
mod stop;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The client's side of a connection runs on the test's thread.
#[derive(Clone, Copy)]
struct LocalExec;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExec {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// A running port.
struct Port {
    address: SocketAddr,
    metrics_address: SocketAddr,
    member: FakeMember,
    handle: ServerHandle,
    metrics_handle: ServerHandle,
    live: Live,
}

/// Settings of a whole member, for the port of a fake one.
pub(super) fn live(port: PortSettings) -> Live {
    let second = Duration::from_secs(1);
    let limits = Limits {
        request_bytes_max: port.request_bytes_max,
        txn_ops_max: 128,
        slow_request: second / 10,
        request_timeout: 7 * second,
        election_timeout: second,
        watch_progress_interval: 600 * second,
        read_bytes_max: usize::MAX,
    };
    Live::new(Settings { limits, port })
}

pub(super) fn settings() -> PortSettings {
    PortSettings {
        connections_max: 1000,
        streams_max: u32::MAX,
        request_bytes_max: 1_572_864,
        ping_interval_min: Duration::from_secs(5),
        keepalive_interval: Some(Duration::from_secs(7200)),
        keepalive_timeout: Duration::from_secs(20),
        slow_call: Duration::MAX,
        is_metrics_extensive: true,
        gateway: true,
        cors: Vec::new(),
        host_whitelist: Vec::new(),
        shutdown_timeout: Duration::from_secs(15),
    }
}

/// Runs `test` against a port with these settings and stops the port.
fn with_port<F: Future<Output = ()>>(settings: PortSettings, test: impl FnOnce(Rc<Port>) -> F) {
    actix_rt::System::new().block_on(async {
        let port = Rc::new(Port::start(settings));
        let tested = tokio::time::timeout(PATIENCE, test(port.clone())).await;
        tested.expect("the test should have ended by now");
        port.handle.stop(false).await;
        port.metrics_handle.stop(false).await;
    });
}

impl Port {
    fn start(port: PortSettings) -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics_listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let metrics_address = metrics_listener.local_addr().unwrap();
        let member = FakeMember::new();
        let registry = prometheus::Registry::new();
        let live = live(port);
        let client = super::ClientPort::new(member.clone(), &registry, live.clone()).unwrap();
        let serve = |listener, serves| {
            let (server, handle) = client.listen(listener, serves, 2).unwrap();
            actix_rt::spawn(server);
            handle
        };
        let handle = serve(listener, Serves::Everything);
        let metrics_handle = serve(metrics_listener, Serves::Probes);
        Port {
            address,
            metrics_address,
            member,
            handle,
            metrics_handle,
            live,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// One HTTP/1.1 request on a connection of its own.
    async fn http1(&self, head: &str, body: &[u8]) -> Http1Answer {
        http1(self.address, head, body).await
    }

    async fn get(&self, path: &str) -> Http1Answer {
        self.http1(&format!("GET {path}"), b"").await
    }

    async fn post(&self, path: &str, body: &str) -> Http1Answer {
        self.http1(&format!("POST {path}"), body.as_bytes()).await
    }

    /// An HTTP/2 connection.
    async fn http2(&self) -> SendRequest<RequestBody> {
        let io = TokioIo::new(self.connect().await);
        let handshake = hyper::client::conn::http2::handshake(LocalExec, io);
        let (sender, connection) = handshake.await.unwrap();
        // Its errors show up as errors of the requests.
        actix_rt::spawn(async move { drop(connection.await) });
        sender
    }

    /// The value of one line of `/metrics`.
    async fn metric(&self, line: &str) -> f64 {
        let text = self.get("/metrics").await.body;
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        let value = found.unwrap_or_else(|| panic!("no {line} in\n{text}"));
        value.trim().parse().unwrap()
    }
}

type RequestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

fn full(body: impl Into<Bytes>) -> RequestBody {
    Full::new(body.into()).boxed_unsync()
}

/// A body that is sent while it is made.
fn open_body() -> (mpsc::Sender<Bytes>, RequestBody) {
    let (pieces, body) = mpsc::channel::<Bytes>(4);
    let body = futures_util::stream::unfold(body, |mut body| async move {
        let piece = body.recv().await?;
        Some((Ok(Frame::data(piece)), body))
    });
    (pieces, StreamBody::new(body).boxed_unsync())
}

/// An HTTP/1.1 answer; header names are in lower case.
#[derive(Debug)]
struct Http1Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Http1Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }
}

/// `head` is a request line without its version, and further header lines.
async fn http1(address: SocketAddr, head: &str, body: &[u8]) -> Http1Answer {
    let (line, headers) = head.split_once("\r\n").unwrap_or((head, "host: a"));
    let mut request = Vec::new();
    write!(
        request,
        "{line} HTTP/1.1\r\n{headers}\r\nconnection: close\r\n"
    )
    .unwrap();
    if !body.is_empty() {
        write!(request, "content-length: {}\r\n", body.len()).unwrap();
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    last_answer(address, &request).await
}

/// The answer to a request that is sent as it is, on a connection that the port closes then.
async fn last_answer(address: SocketAddr, request: &[u8]) -> Http1Answer {
    let mut io = TcpStream::connect(address).await.unwrap();
    io.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    io.read_to_end(&mut answer).await.unwrap();
    parse(&String::from_utf8(answer).unwrap())
}

fn parse(answer: &str) -> Http1Answer {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    Http1Answer {
        status: status.parse().unwrap(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_string()))
            .collect(),
        body: body.to_string(),
    }
}

/// A message as gRPC frames it.
fn framed(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.encoded_len() as u32);
    message.encode(&mut framed).unwrap();
    framed.freeze()
}

fn grpc_request(path: &str, body: RequestBody) -> Request<RequestBody> {
    Request::post(format!("http://a{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

/// The outcome of a unary call.
#[derive(Debug)]
struct GrpcAnswer {
    code: i32,
    text: String,
    message: Bytes,
}

async fn call(sender: &mut SendRequest<RequestBody>, request: Request<RequestBody>) -> GrpcAnswer {
    let answer = sender.send_request(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let collected = body.collect().await.unwrap();
    let mut headers = head.headers;
    headers.extend(collected.trailers().cloned().unwrap_or_default());
    let (code, text) = status_of(&headers);
    let message = collected.to_bytes();
    GrpcAnswer {
        code,
        text,
        message: message.slice(message.len().min(5)..),
    }
}

fn status_of(headers: &HeaderMap) -> (i32, String) {
    let status = tonic::Status::from_header_map(headers).expect("an answer has a status");
    (status.code().into(), status.message().to_string())
}

/// Reads an answer of HTTP/2 as text.
async fn text(answer: Response<Incoming>) -> String {
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}
