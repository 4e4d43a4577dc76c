//! One member per test, and clients of it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use althing_api::error::Error;
use althing_api::etcdserverpb::cluster_client::ClusterClient;
use althing_api::etcdserverpb::kv_client::KvClient;
use althing_api::etcdserverpb::maintenance_client::MaintenanceClient;
use althing_api::etcdserverpb::*;
use althing_api::mvccpb::KeyValue;
use althing_conf::Config;
use althing_daemon::boot::{self, Running};
use althing_daemon::shutdown;
use bytes::{BufMut, BytesMut};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

/// No test takes longer, also where many share a busy machine: only a guard against hanging.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running member and its directory.
pub struct Member {
    running: Option<Running>,
    directory: TempDir,
    options: Vec<String>,
}

/// Runs `test` against a new member with these options beside the usual ones, and stops it.
pub fn with_member<F>(options: &[&str], test: F)
where
    F: AsyncFnOnce(&mut Member),
{
    actix_rt::System::new().block_on(async {
        let mut member = Member {
            running: None,
            directory: tempfile::tempdir().unwrap(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        let tested = async {
            member.start().await;
            test(&mut member).await;
            member.stop().await;
        };
        let in_time = tokio::time::timeout(PATIENCE, tested).await;
        in_time.expect("the test should have ended by now");
    });
}

fn config(directory: &Path, options: &[String]) -> Config {
    let data_dir = directory.join("data");
    let usual = [
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://127.0.0.1:0",
        "--listen-peer-urls=http://127.0.0.1:0",
        "--wal-segment-bytes=4MiB",
    ];
    let mut args: Vec<OsString> = vec!["althingd".into(), "--data-dir".into(), data_dir.into()];
    args.extend(usual.iter().map(OsString::from));
    args.extend(options.iter().map(OsString::from));
    Config::load(args, std::iter::empty()).unwrap().config
}

impl Member {
    pub async fn start(&mut self) {
        let config = config(self.directory.path(), &self.options);
        let running = loop {
            match boot::start(&config).await {
                Ok(running) => break running,
                // The threads of a member that stopped let go of its files one after the other.
                Err(error) if error.to_string().contains("lock") => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        self.running = Some(running);
    }

    pub async fn stop(&mut self) {
        shutdown::stop(self.running.take().expect("it runs")).await;
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    pub fn address(&self) -> SocketAddr {
        self.running().client_addresses()[0]
    }

    async fn channel(&self) -> Channel {
        let io = TokioIo::new(TcpStream::connect(self.address()).await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(Spawn, io);
        let (sender, connection) = handshake.await.unwrap();
        // Its errors show up as errors of the requests.
        actix_rt::spawn(async move { drop(connection.await) });
        Channel(sender)
    }

    /// Sends one request over a connection of its own and leaves the answer's body unread.
    pub async fn open(&self, path: &str, message: &[u8]) -> http::Response<Incoming> {
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(message.len() as u32);
        framed.put_slice(message);
        let request = http::Request::post(format!("http://{}{path}", self.address()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(Full::new(framed.freeze())))
            .unwrap();
        self.channel().await.call(request).await.unwrap()
    }

    /// A connection whose receive buffer is small, so that little waits unread in the system.
    pub async fn narrow_connection(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(self.address()).await.unwrap()
    }

    /// The text of a request to the gateway; the connection ends with its answer.
    pub fn json_request(&self, path: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    }

    /// Asks the gateway; returns the HTTP status and the body.
    pub async fn json(&self, path: &str, body: &str) -> (u16, String) {
        let mut io = TcpStream::connect(self.address()).await.unwrap();
        let request = self.json_request(path, body);
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn origin(&self) -> http::Uri {
        format!("http://{}", self.address()).parse().unwrap()
    }

    pub async fn kv(&self) -> KvClient<Channel> {
        let client = KvClient::with_origin(self.channel().await, self.origin());
        client.max_decoding_message_size(usize::MAX)
    }

    pub async fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::with_origin(self.channel().await, self.origin())
    }

    pub async fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::with_origin(self.channel().await, self.origin())
    }
}

/// One HTTP/2 connection as tonic's clients want it.
#[derive(Clone)]
pub struct Channel(SendRequest<Body>);

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// hyper's tasks run where the test runs.
#[derive(Clone, Copy)]
struct Spawn;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, task: F) {
        actix_rt::spawn(task);
    }
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

pub fn between(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        range_end: range_end.to_owned().into(),
        ..get(key)
    }
}

pub fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    }
}

/// Every key with its value, as one line.
pub fn shown(kvs: &[KeyValue]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs: Vec<_> = kvs
        .iter()
        .map(|kv| format!("{}={}", text(&kv.key), text(&kv.value)))
        .collect();
    pairs.join(" ")
}

/// Asserts that a call was refused with this error of etcd's table.
#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Status>, error: Error) {
    let status = outcome.expect_err("it should have been refused");
    let expected = (Code::from_i32(error.code() as i32), error.text());
    assert_eq!((status.code(), status.message()), expected);
}
