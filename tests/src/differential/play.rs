//! One side of a comparison: a running member, and what it answers to a step.

use std::path::Path;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tonic::Status;

use super::long_lived::LongLived;
use super::normal::message;
use super::operation::{Operation, Step, Transport};
use crate::cluster::STEADY;
use crate::grpc::Grpc;
use crate::json::Json;
use crate::member::Member;

/// A release of etcd's contract, as `/version` names it: major and minor.
pub type Release = (u32, u32);

/// A member under comparison.
#[derive(Debug)]
pub struct Side {
    /// The member; it dies with this value.
    pub member: Member,
    /// The release whose contract it says it has.
    pub release: Release,
    /// What outlives a step.
    pub long_lived: LongLived,
    grpc: Grpc,
    json: Json,
}

impl Side {
    /// Starts `program` on an empty data directory.
    ///
    /// # Panics
    /// When it does not come to serve or does not tell its version.
    pub async fn start(program: &Path) -> Side {
        // No election comes in between; and the minimum time to live, which follows from the same
        // flag, is longer than one side waits for the other.
        let member = Member::start(program, &STEADY);
        let mut json = member.json();
        let version = json
            .get("/version")
            .await
            .expect("a serving member tells its version");
        let version = version.json();
        let release = release_of(version["etcdserver"].as_str().unwrap_or_default());
        let grpc = member.grpc().await;
        Side {
            long_lived: LongLived::start(member.client_port(), grpc.clone()).await,
            grpc,
            release: release.unwrap_or_else(|| panic!("no version in {version}")),
            json,
            member,
        }
    }

    /// Sends the step and returns the answer as one JSON value, whatever the transport: `messages`,
    /// or `code` and `text`, or `status`, `content_type` and `body`; `lost` if there was no answer,
    /// `wrong` if what came already violates the contract.
    pub async fn play(&mut self, step: &Step) -> Value {
        let answer = match self.long_lived.play(step).await {
            Some(answer) => answer,
            None => match &step.transport {
                Transport::Grpc => self.call(&step.operation).await,
                Transport::Json(body) => self.post(&step.operation, body).await,
            },
        };
        if let Operation::Compact(request) = &step.operation
            && message(&answer).is_some()
        {
            self.long_lived.compacted(request.revision);
        }
        self.without_own_urls(answer)
    }

    async fn call(&mut self, operation: &Operation) -> Value {
        let Some((path, bytes)) = operation.grpc() else {
            panic!("{operation:?} does not travel over gRPC");
        };
        let answer = match operation {
            Operation::RangeStream(_) => self.grpc.stream(path, bytes).await,
            _ => self
                .grpc
                .raw(path, bytes)
                .await
                .map(|message| vec![message]),
        };
        match answer {
            Ok(messages) => messages_as_json(operation, &messages),
            Err(status) => status_as_json(&status),
        }
    }

    async fn post(&mut self, operation: &Operation, body: &str) -> Value {
        let Some((method, path)) = operation.http() else {
            panic!("{operation:?} does not travel over HTTP");
        };
        post(&mut self.json, method, path, body).await
    }

    /// Every record that a sorted Range may choose from, in key order.
    ///
    /// # Errors
    /// The member's refusal.
    pub async fn records(
        &mut self,
        request: &althing_api::etcdserverpb::RangeRequest,
    ) -> Result<Vec<althing_api::mvccpb::KeyValue>, Status> {
        let answer: althing_api::etcdserverpb::RangeResponse =
            self.grpc.unary(crate::grpc::path::RANGE, request).await?;
        Ok(answer.kvs)
    }

    /// Hides ports, which differ between the sides; what they stand for does not.
    fn without_own_urls(&self, answer: Value) -> Value {
        match answer {
            Value::String(text) => Value::String(
                text.replace(&self.member.client_url(), "CLIENT-URL")
                    .replace(&self.member.peer_url(), "PEER-URL"),
            ),
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.without_own_urls(item))
                .collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| (name, self.without_own_urls(value)))
                .collect(),
            other => other,
        }
    }
}

/// Posts a body; returns the whole answer as JSON.
pub async fn post(json: &mut Json, method: Method, path: &str, body: &str) -> Value {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let answer = match json.send(method, path, body).await {
        Ok(answer) => answer,
        Err(error) => return json!({ "lost": error.to_string() }),
    };
    let content_type = answer.headers.get("content-type");
    let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let body = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| json!(String::from_utf8_lossy(&answer.body)));
    json!({
        "status": answer.status.as_u16(),
        "content_type": content_type.unwrap_or_default(),
        "body": body,
    })
}

/// The answer of a gRPC method.
pub fn messages_as_json(operation: &Operation, messages: &[Bytes]) -> Value {
    let decoded: Result<Vec<_>, _> = messages
        .iter()
        .map(|bytes| operation.answer_as_json(bytes))
        .collect();
    match decoded {
        Ok(messages) => json!({ "messages": messages }),
        Err(reason) => json!({ "undecodable": reason }),
    }
}

/// The refusal of a gRPC method.
pub fn status_as_json(status: &Status) -> Value {
    // Only a status that was made on this side has an error behind it.
    if let Some(source) = std::error::Error::source(status) {
        return json!({ "lost": format!("{status}: {source:?}") });
    }
    json!({ "code": i32::from(status.code()), "text": status.message() })
}

fn release_of(version: &str) -> Option<Release> {
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor))
}
