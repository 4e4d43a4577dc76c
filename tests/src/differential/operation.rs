//! What a step of a sequence does: one request, and the way it travels.

use althing_api::etcdserverpb as pb;
use bytes::Bytes;
use http::Method;
use prost::Message;

use crate::grpc::path;

/// One request, whatever its transport.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Operation {
    Put(pb::PutRequest),
    Range(pb::RangeRequest),
    RangeStream(pb::RangeRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    HashKv(pb::HashKvRequest),
    MemberList(pb::MemberListRequest),
    Status(pb::StatusRequest),
    /// Bytes that are no message of the method, or a method that does not exist.
    Broken {
        path: &'static str,
        bytes: Bytes,
    },
    /// A body that is no request of the route, or a route that does not exist.
    Text {
        method: Method,
        path: &'static str,
        body: String,
    },
}

/// How a request travels.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Protobuf over HTTP/2.
    Grpc,
    /// The gateway; the body is fixed when the step is made, as a request has many spellings.
    Json(String),
}

/// A numbered request of a sequence.
#[derive(Clone, Debug)]
pub struct Step {
    /// Place in the sequence, from 1.
    pub number: u64,
    /// The request.
    pub operation: Operation,
    /// Its way.
    pub transport: Transport,
}

impl Operation {
    /// The gRPC method and the encoded request; `None` for what only HTTP can carry.
    pub fn grpc(&self) -> Option<(&'static str, Bytes)> {
        let (path, bytes) = match self {
            Operation::Put(request) => (path::PUT, request.encode_to_vec()),
            Operation::Range(request) => (path::RANGE, request.encode_to_vec()),
            Operation::RangeStream(request) => (path::RANGE_STREAM, request.encode_to_vec()),
            Operation::DeleteRange(request) => (path::DELETE_RANGE, request.encode_to_vec()),
            Operation::Txn(request) => (path::TXN, request.encode_to_vec()),
            Operation::Compact(request) => (path::COMPACT, request.encode_to_vec()),
            Operation::HashKv(request) => (path::HASH_KV, request.encode_to_vec()),
            Operation::MemberList(request) => (path::MEMBER_LIST, request.encode_to_vec()),
            Operation::Status(request) => (path::STATUS, request.encode_to_vec()),
            Operation::Broken { path, bytes } => return Some((path, bytes.clone())),
            Operation::Text { .. } => return None,
        };
        Some((path, bytes.into()))
    }

    /// The HTTP method and route; `None` for what only gRPC can carry.
    pub fn http(&self) -> Option<(Method, &'static str)> {
        let path = match self {
            Operation::Put(_) => "/v3/kv/put",
            Operation::Range(_) => "/v3/kv/range",
            Operation::DeleteRange(_) => "/v3/kv/deleterange",
            Operation::Txn(_) => "/v3/kv/txn",
            Operation::Compact(_) => "/v3/kv/compaction",
            Operation::HashKv(_) => "/v3/maintenance/hashkv",
            Operation::MemberList(_) => "/v3/cluster/member/list",
            Operation::Status(_) => "/v3/maintenance/status",
            Operation::Text { method, path, .. } => return Some((method.clone(), path)),
            Operation::RangeStream(_) | Operation::Broken { .. } => return None,
        };
        Some((Method::POST, path))
    }

    /// The answer's JSON form, for one comparison whatever the transport. `Err` names an answer
    /// that is no message of the method, or that holds more than the message's known fields.
    pub fn answer_as_json(&self, bytes: &Bytes) -> Result<serde_json::Value, String> {
        match self {
            Operation::Put(_) => as_json::<pb::PutResponse>(bytes),
            Operation::Range(_) => as_json::<pb::RangeResponse>(bytes),
            Operation::RangeStream(_) => as_json::<pb::RangeStreamResponse>(bytes),
            Operation::DeleteRange(_) => as_json::<pb::DeleteRangeResponse>(bytes),
            Operation::Txn(_) => as_json::<pb::TxnResponse>(bytes),
            Operation::Compact(_) => as_json::<pb::CompactionResponse>(bytes),
            Operation::HashKv(_) => as_json::<pb::HashKvResponse>(bytes),
            Operation::MemberList(_) => as_json::<pb::MemberListResponse>(bytes),
            Operation::Status(_) => as_json::<pb::StatusResponse>(bytes),
            Operation::Broken { .. } | Operation::Text { .. } => {
                Err(format!("a broken request was answered: {bytes:?}"))
            }
        }
    }
}

fn as_json<M>(bytes: &Bytes) -> Result<serde_json::Value, String>
where
    M: Message + Default + serde::Serialize + std::fmt::Debug,
{
    let message = M::decode(bytes.clone()).map_err(|error| format!("{error} in {bytes:?}"))?;
    if message.encoded_len() != bytes.len() {
        return Err(format!("{bytes:?} holds more than {message:?}"));
    }
    serde_json::to_value(message).map_err(|error| error.to_string())
}
