//! One HTTP/1.1 connection to another member's peer port.

use std::io;
use std::time::Duration;

use althing_actors::peer_link::Knock;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a host may take to say whether anybody listens.
const KNOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// Sent data that is not acknowledged within this time ends the connection; a silent connection is
/// probed.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBES: u32 = 3;

/// The body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// An open connection, which carries one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Body>,
    host: HeaderValue,
    url: String,
}

/// A whole body.
pub(super) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Connects to the first of `urls` that accepts. Error: what the last one said.
pub(super) async fn dial(urls: &[String]) -> Result<Connection, String> {
    let mut failure = "it has no URL".to_owned();
    for url in urls {
        match dial_one(url).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failure = format!("{url}: {error}"),
        }
    }
    Err(failure)
}

/// Connects to `url`. Error: why that is not possible.
pub(super) async fn dial_one(url: &str) -> Result<Connection, String> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connect(url));
    match connecting.await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err("it does not accept in time".to_owned()),
    }
}

/// Whether anybody listens at one of `urls`.
pub(super) async fn knock(urls: &[String]) -> Knock {
    let mut heard = match urls {
        [] => Knock::Silent,
        _ => Knock::Refused,
    };
    for url in urls {
        let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host);
        let connecting = tokio::time::timeout(KNOCK_TIMEOUT, TcpStream::connect(host));
        match connecting.await {
            Ok(Ok(_)) => return Knock::Open,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(_)) | Err(_) => heard = Knock::Silent,
        }
    }
    heard
}

async fn connect(url: &str) -> io::Result<Connection> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text.to_owned());
    let host = url.strip_prefix("http://");
    let host = host.ok_or_else(|| invalid("this version speaks http:// to members"))?;
    let io = TcpStream::connect(host).await?;
    prepare(&io)?;
    let made = http1::handshake(TokioIo::new(io)).await;
    let (sender, connection) = made.map_err(io::Error::other)?;
    // It ends with its sender, or with an error that the request under way gets.
    tokio::spawn(connection);
    let host = HeaderValue::from_str(host).map_err(|_| invalid("not a host"))?;
    let url = url.to_owned();
    Ok(Connection { sender, host, url })
}

/// Makes small messages leave at once, and lets a vanished member be noticed.
pub(super) fn prepare(io: &TcpStream) -> io::Result<()> {
    io.set_nodelay(true)?;
    let socket = SockRef::from(io);
    let probes = TcpKeepalive::new()
        .with_time(PROBE_INTERVAL)
        .with_interval(PROBE_INTERVAL)
        .with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))?;
    Ok(())
}

impl Connection {
    /// A request to this connection's member.
    pub(super) fn request(&self, method: Method, path: &str, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = http::Uri::try_from(path).expect("paths are fixed and valid");
        let headers = request.headers_mut();
        headers.insert(http::header::HOST, self.host.clone());
        request
    }

    /// Sends `request` and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// The URL that it leads to.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether another request can be sent.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// The whole of a body. Errors: the connection's, or that it is longer than `bytes_max`.
pub(super) async fn collect(mut body: Incoming, bytes_max: usize) -> io::Result<Bytes> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(io::Error::other)?;
        if let Some(data) = frame.data_ref() {
            if collected.len() + data.len() > bytes_max {
                return Err(io::Error::other("the answer is too large"));
            }
            collected.extend_from_slice(data);
        }
    }
    Ok(collected.freeze())
}
