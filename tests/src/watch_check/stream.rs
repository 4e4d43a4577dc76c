//! One watch stream, over gRPC or as JSON. What is not read stays in small windows and in the
//! sockets, so that the member feels it when a reader stops.

use althing_api::etcdserverpb as pb;
use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use pb::watch_client::WatchClient;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

/// What the member may send on a stream that is not read, in bytes.
const STREAM_WINDOW: u32 = 65_535;
/// The same for all streams of a connection: more than its stopped readers can hold together.
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;
/// The number of requests that may wait to be sent.
const REQUESTS: usize = 64;

/// A stream that is watched.
#[derive(Debug)]
pub enum WatchStream {
    /// Over gRPC; requests may be added.
    Grpc {
        /// Requests to be sent; sending never waits.
        requests: mpsc::Sender<pb::WatchRequest>,
        /// Responses.
        responses: tonic::Streaming<pb::WatchResponse>,
    },
    /// Over the gateway; all requests came first.
    Json {
        /// Responses, one a line.
        body: Incoming,
        /// What was received of it.
        buffer: BytesMut,
        /// How much of that is known not to hold the end of a line.
        scanned: usize,
    },
}

/// A line of the gateway.
#[derive(Deserialize)]
struct Line {
    result: Option<pb::WatchResponse>,
}

/// A connection that several streams may share.
///
/// # Errors
/// When nobody listens on `port`.
pub async fn connect(port: u16) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"));
    let endpoint = endpoint.map_err(|error| error.to_string())?;
    let connected = endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect()
        .await;
    connected.map_err(|error| error.to_string())
}

impl WatchStream {
    /// Opens a stream on a connection, with its first requests.
    ///
    /// # Errors
    /// When the member or the connection refuses.
    pub async fn grpc(
        channel: Channel,
        first: Vec<pb::WatchRequest>,
    ) -> Result<WatchStream, String> {
        let (requests, mut queue) = mpsc::channel(first.len() + REQUESTS);
        for request in first {
            // The queue has room for all of them.
            let _ = requests.try_send(request);
        }
        let queue = futures_util::stream::poll_fn(move |context| queue.poll_recv(context));
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let opened = client.watch(queue).await;
        let responses = opened.map_err(|status| status.to_string())?.into_inner();
        Ok(WatchStream::Grpc {
            requests,
            responses,
        })
    }

    /// Opens a stream on a connection of its own, with all its requests.
    ///
    /// # Errors
    /// When the member or the connection refuses.
    pub async fn json(port: u16, first: Vec<pb::WatchRequest>) -> Result<WatchStream, String> {
        let texts = first.iter().map(serde_json::to_string);
        let texts: Result<Vec<_>, _> = texts.collect();
        let text = texts.map_err(|error| error.to_string())?.join("\n");
        let request = Request::post("/v3/watch")
            .header("host", format!("127.0.0.1:{port}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(text)))
            .map_err(|error| error.to_string())?;
        let socket = TcpStream::connect(("127.0.0.1", port)).await;
        let socket = socket.map_err(|error| error.to_string())?;
        let shaken = handshake(TokioIo::new(socket)).await;
        let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
        // The connection ends with its only request, whose body tells how.
        tokio::spawn(async move { connection.await.is_ok() });
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("the gateway answered {}", answer.status()));
        }
        Ok(WatchStream::Json {
            body: answer.into_body(),
            buffer: BytesMut::new(),
            scanned: 0,
        })
    }

    /// Adds a request; false if that is impossible, or the stream has ended.
    pub fn send(&self, request: pb::watch_request::RequestUnion) -> bool {
        match self {
            WatchStream::Grpc { requests, .. } => {
                let request = pb::WatchRequest {
                    request_union: Some(request),
                };
                requests.try_send(request).is_ok()
            }
            WatchStream::Json { .. } => false,
        }
    }

    /// The next response. A call that is dropped loses nothing.
    ///
    /// # Errors
    /// How the stream ended.
    pub async fn next(&mut self) -> Result<pb::WatchResponse, String> {
        match self {
            WatchStream::Grpc { responses, .. } => match responses.message().await {
                Ok(Some(response)) => Ok(response),
                Ok(None) => Err("the member ended the stream".to_owned()),
                Err(status) => Err(status.to_string()),
            },
            WatchStream::Json {
                body,
                buffer,
                scanned,
            } => loop {
                if let Some(at) = buffer[*scanned..].iter().position(|byte| *byte == b'\n') {
                    let line = buffer.split_to(*scanned + at + 1);
                    *scanned = 0;
                    let parsed: Result<Line, _> = serde_json::from_slice(&line);
                    let text = || String::from_utf8_lossy(&line).into_owned();
                    return match parsed {
                        Ok(Line {
                            result: Some(response),
                        }) => Ok(response),
                        _ => Err(text()),
                    };
                }
                *scanned = buffer.len();
                match body.frame().await {
                    Some(Ok(frame)) => {
                        buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                    }
                    Some(Err(error)) => return Err(error.to_string()),
                    None => return Err("the member ended the body".to_owned()),
                }
            },
        }
    }
}
