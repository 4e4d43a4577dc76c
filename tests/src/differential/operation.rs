//! What a step of a sequence does: one request, and the way it travels.

use althing_api::etcdserverpb as pb;
use althing_api::{v3electionpb as election, v3lockpb as lock};
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
    LeaseGrant(pb::LeaseGrantRequest),
    /// `alias` takes the route that older clients use.
    LeaseRevoke {
        request: pb::LeaseRevokeRequest,
        alias: bool,
    },
    LeaseTimeToLive {
        request: pb::LeaseTimeToLiveRequest,
        alias: bool,
    },
    LeaseLeases {
        alias: bool,
    },
    /// One stream: all requests, then the end of the requests, then the end of the answers.
    KeepAlive(Vec<pb::LeaseKeepAliveRequest>),
    /// Waits until the member has revoked a short lease by itself.
    Expiry {
        lease: i64,
    },
    Unlock(lock::UnlockRequest),
    Proclaim(election::ProclaimRequest),
    Leader(election::LeaderRequest),
    Resign(election::ResignRequest),
    /// A call that may wait for others.
    Call(Call),
    /// Drops the waiting call for that key.
    Abandon(Bytes),
    /// Opens a stream of a name's leaders.
    Observe {
        slot: usize,
        request: election::LeaderRequest,
    },
    CloseObserve {
        slot: usize,
    },
    /// Sends requests on a watch stream, which is opened if it is not open. A JSON stream is always
    /// opened, because its requests are the body.
    Watch {
        slot: usize,
        requests: Vec<pb::WatchRequest>,
    },
    /// Asks a watch stream how far it is.
    Progress {
        slot: usize,
    },
    HalfCloseWatch {
        slot: usize,
    },
    CloseWatch {
        slot: usize,
    },
    /// Puts one behind the other, without waiting for their events in between.
    Burst(Vec<pb::PutRequest>),
    /// Compares everything that arrived by itself since the last time.
    Settle,
    /// Bytes that are not a message of the method, or a method that does not exist.
    Broken {
        path: &'static str,
        bytes: Bytes,
    },
    /// A body that is not a request of the route, or a route that does not exist.
    Text {
        method: Method,
        path: &'static str,
        body: String,
    },
}

/// A call that waits for its turn.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Call {
    Lock(lock::LockRequest),
    Campaign(election::CampaignRequest),
}

impl Call {
    /// The lock's or election's name.
    pub fn name(&self) -> &Bytes {
        match self {
            Call::Lock(request) => &request.name,
            Call::Campaign(request) => &request.name,
        }
    }

    /// The key under which the caller waits.
    pub fn key(&self) -> Bytes {
        let lease = match self {
            Call::Lock(request) => request.lease,
            Call::Campaign(request) => request.lease,
        };
        party_key(self.name(), lease)
    }
}

/// The key of a lease among those that want `name`.
pub fn party_key(name: &[u8], lease: i64) -> Bytes {
    [name, format!("/{lease:x}").as_bytes()].concat().into()
}

/// How a request travels.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Protobuf over HTTP/2.
    Grpc,
    /// The gateway; the body is fixed when the step is made, since a request can be spelled in many
    /// ways.
    Json(String),
}

/// A numbered request of a sequence.
#[derive(Clone, Debug)]
pub struct Step {
    /// Place in the sequence, from 1.
    pub number: u64,
    /// The request.
    pub operation: Operation,
    /// The transport that it takes.
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
            Operation::LeaseGrant(request) => (path::LEASE_GRANT, request.encode_to_vec()),
            Operation::LeaseRevoke { request, .. } => (path::LEASE_REVOKE, request.encode_to_vec()),
            Operation::LeaseTimeToLive { request, .. } => {
                (path::LEASE_TIME_TO_LIVE, request.encode_to_vec())
            }
            Operation::LeaseLeases { .. } => (path::LEASE_LEASES, Vec::new()),
            Operation::Unlock(request) => (path::UNLOCK, request.encode_to_vec()),
            Operation::Proclaim(request) => (path::PROCLAIM, request.encode_to_vec()),
            Operation::Leader(request) => (path::LEADER, request.encode_to_vec()),
            Operation::Resign(request) => (path::RESIGN, request.encode_to_vec()),
            Operation::Call(Call::Lock(request)) => (path::LOCK, request.encode_to_vec()),
            Operation::Call(Call::Campaign(request)) => (path::CAMPAIGN, request.encode_to_vec()),
            Operation::Observe { request, .. } => (path::OBSERVE, request.encode_to_vec()),
            // Each request is encoded when it is sent.
            Operation::Watch { .. } => (path::WATCH, Vec::new()),
            Operation::KeepAlive(_) => (path::LEASE_KEEP_ALIVE, Vec::new()),
            Operation::Broken { path, bytes } => return Some((path, bytes.clone())),
            _ => return None,
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
            Operation::LeaseGrant(_) => "/v3/lease/grant",
            Operation::LeaseRevoke { alias: true, .. } => "/v3/kv/lease/revoke",
            Operation::LeaseRevoke { .. } => "/v3/lease/revoke",
            Operation::LeaseTimeToLive { alias: true, .. } => "/v3/kv/lease/timetolive",
            Operation::LeaseTimeToLive { .. } => "/v3/lease/timetolive",
            Operation::LeaseLeases { alias: true } => "/v3/kv/lease/leases",
            Operation::LeaseLeases { .. } => "/v3/lease/leases",
            Operation::KeepAlive(_) => "/v3/lease/keepalive",
            Operation::Unlock(_) => "/v3/lock/unlock",
            Operation::Proclaim(_) => "/v3/election/proclaim",
            Operation::Leader(_) => "/v3/election/leader",
            Operation::Resign(_) => "/v3/election/resign",
            Operation::Call(Call::Lock(_)) => "/v3/lock/lock",
            Operation::Call(Call::Campaign(_)) => "/v3/election/campaign",
            Operation::Observe { .. } => "/v3/election/observe",
            Operation::Watch { .. } => "/v3/watch",
            Operation::Text { method, path, .. } => return Some((method.clone(), path)),
            _ => return None,
        };
        Some((Method::POST, path))
    }

    /// The answer's JSON form, so that one comparison does for any transport. `Err` names an answer
    /// that is not a message of the method, or that holds more than the message's known fields.
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
            Operation::LeaseGrant(_) => as_json::<pb::LeaseGrantResponse>(bytes),
            Operation::LeaseRevoke { .. } => as_json::<pb::LeaseRevokeResponse>(bytes),
            Operation::LeaseTimeToLive { .. } => as_json::<pb::LeaseTimeToLiveResponse>(bytes),
            Operation::LeaseLeases { .. } => as_json::<pb::LeaseLeasesResponse>(bytes),
            Operation::Unlock(_) => as_json::<lock::UnlockResponse>(bytes),
            Operation::Proclaim(_) => as_json::<election::ProclaimResponse>(bytes),
            Operation::Leader(_) => as_json::<election::LeaderResponse>(bytes),
            Operation::Resign(_) => as_json::<election::ResignResponse>(bytes),
            Operation::Call(Call::Lock(_)) => as_json::<lock::LockResponse>(bytes),
            Operation::Call(Call::Campaign(_)) => as_json::<election::CampaignResponse>(bytes),
            _ => Err(format!("a request without an answer has one: {bytes:?}")),
        }
    }
}

/// The JSON form of an encoded message; `Err` if it is not of the type, or holds more.
pub fn as_json<M>(bytes: &Bytes) -> Result<serde_json::Value, String>
where
    M: Message + Default + serde::Serialize + std::fmt::Debug,
{
    let message = M::decode(bytes.clone()).map_err(|error| format!("{error} in {bytes:?}"))?;
    if message.encoded_len() != bytes.len() {
        return Err(format!("{bytes:?} holds more than {message:?}"));
    }
    serde_json::to_value(message).map_err(|error| error.to_string())
}
