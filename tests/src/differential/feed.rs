//! An open stream of answers, read by a task of its own so that nothing waits in the connection:
//! a gRPC stream, or the lines of a JSON route. Both give the same messages.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::play::status_as_json;
use crate::grpc::Grpc;
use crate::json::Json;

/// How long to wait for what a stream must bring.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Turns an encoded message into its JSON form.
pub type Decode = fn(&Bytes) -> Result<Value, String>;

/// One message of a stream, or its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A message, in its JSON form.
    Message(Value),
    /// The end of the stream: a status, an error line, or a body that is not a stream.
    End(Value),
}

/// An open stream; dropping it ends the call.
#[derive(Debug)]
pub struct Feed {
    requests: Option<UnboundedSender<Bytes>>,
    frames: UnboundedReceiver<Frame>,
    task: JoinHandle<()>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feed {
    /// Opens a gRPC stream.
    pub fn grpc(grpc: &Grpc, path: &'static str, decode: Decode) -> Feed {
        let mut grpc = grpc.clone();
        let (requests, outgoing) = unbounded_channel();
        let (sender, frames) = unbounded_channel();
        let task = tokio::spawn(async move {
            let end = match grpc.open(path, outgoing).await {
                Err(status) => status_as_json(&status),
                Ok(mut stream) => loop {
                    match stream.message().await {
                        Ok(Some(bytes)) => match decode(&bytes) {
                            Ok(message) => send(&sender, Frame::Message(message)),
                            Err(reason) => break json!({ "undecodable": reason }),
                        },
                        Ok(None) => break json!({ "code": 0 }),
                        Err(status) => break status_as_json(&status),
                    }
                },
            };
            send(&sender, Frame::End(end));
        });
        Feed {
            requests: Some(requests),
            frames,
            task,
        }
    }

    /// Posts a body to a route that answers with lines; nothing can be sent after the body.
    pub fn json(port: u16, path: &'static str, body: String) -> Feed {
        let (sender, frames) = unbounded_channel();
        let task = tokio::spawn(async move {
            let mut connection = Json::new(port);
            let end = match connection.begin(Method::POST, path, body.into()).await {
                Err(error) => json!({ "lost": error.to_string() }),
                Ok(answer) => lines(answer, &sender).await,
            };
            send(&sender, Frame::End(end));
        });
        Feed {
            requests: None,
            frames,
            task,
        }
    }

    /// Sends a request; false if this side of the stream is closed.
    pub fn send(&self, request: Bytes) -> bool {
        let open = self.requests.as_ref();
        open.is_some_and(|requests| requests.send(request).is_ok())
    }

    /// Ends the requests; the answers go on.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// Whether requests can still be sent.
    pub fn is_open(&self) -> bool {
        self.requests.is_some()
    }

    /// The next frame, if it is there.
    pub fn take(&mut self) -> Option<Frame> {
        self.frames.try_recv().ok()
    }

    /// The next frame; `None` if none came in time or the stream has ended.
    pub async fn next(&mut self, deadline: Instant) -> Option<Frame> {
        timeout_at(deadline, self.frames.recv())
            .await
            .ok()
            .flatten()
    }
}

/// Reads the lines of an answer; returns how it ended.
async fn lines(
    answer: http::Response<hyper::body::Incoming>,
    sender: &UnboundedSender<Frame>,
) -> Value {
    let (head, mut body) = answer.into_parts();
    let content_type = head.headers.get("content-type");
    let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let content_type = content_type.unwrap_or_default().into_owned();
    let mut rest = BytesMut::new();
    let mut strange = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return json!({ "lost": "the body broke off" });
        };
        rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest.split_to(end + 1);
            match serde_json::from_slice::<Value>(&line) {
                Ok(Value::Object(mut fields))
                    if fields.len() == 1 && fields.contains_key("result") =>
                {
                    let message = fields.shift_remove("result").unwrap_or_default();
                    send(sender, Frame::Message(message));
                }
                Ok(other) => strange.push(other),
                Err(_) => strange.push(json!(String::from_utf8_lossy(&line))),
            }
        }
    }
    if !rest.is_empty() {
        let whole = serde_json::from_slice(&rest);
        strange.push(whole.unwrap_or_else(|_| json!(String::from_utf8_lossy(&rest))));
    }
    json!({
        "status": head.status.as_u16(),
        "content_type": content_type,
        "body": strange,
    })
}

/// Sends a frame; a reader that is gone needs no more.
fn send(sender: &UnboundedSender<Frame>, frame: Frame) {
    let _ = sender.send(frame);
}
