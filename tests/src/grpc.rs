//! A gRPC connection that carries encoded messages unchanged, so that a test sends exactly the
//! bytes it means (unknown enum numbers, broken messages, unknown methods) and sees exactly the
//! bytes that came back. `unary` is the typed call on top of it.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, stream};
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc::UnboundedReceiver;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// Messages pass through as bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verbatim;

impl Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Verbatim;
    type Decoder = Verbatim;

    fn encoder(&mut self) -> Verbatim {
        Verbatim
    }

    fn decoder(&mut self) -> Verbatim {
        Verbatim
    }
}

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// One HTTP/2 connection to a member; clones share it.
#[derive(Clone, Debug)]
pub struct Grpc {
    client: tonic::client::Grpc<Channel>,
}

impl Grpc {
    /// Connects to a member on this host.
    ///
    /// # Errors
    /// When nobody listens on `port`.
    pub async fn connect(port: u16) -> Result<Grpc, tonic::transport::Error> {
        Grpc::connect_to((Ipv4Addr::LOCALHOST, port).into()).await
    }

    /// Connects to a member anywhere.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect_to(address: SocketAddr) -> Result<Grpc, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let channel = endpoint.tcp_nodelay(true).connect().await?;
        let client = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
        Ok(Grpc { client })
    }

    /// Sends encoded bytes to a method of one request and one answer.
    ///
    /// # Errors
    /// The status that the member (or the connection) answered with.
    pub async fn raw(&mut self, path: &'static str, request: Bytes) -> Result<Bytes, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = self
            .client
            .unary(Request::new(request), path, Verbatim)
            .await?;
        Ok(answer.into_inner())
    }

    /// Sends encoded bytes to a method that answers with a stream, and collects the stream.
    ///
    /// # Errors
    /// The status that ended the stream, unless it was OK.
    pub async fn stream(
        &mut self,
        path: &'static str,
        request: Bytes,
    ) -> Result<Vec<Bytes>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let request = Request::new(request);
        let mut stream = self
            .client
            .server_streaming(request, path, Verbatim)
            .await?
            .into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// Sends encoded bytes with metadata, and returns the answer with its metadata.
    ///
    /// # Errors
    /// The status that the member (or the connection) answered with.
    pub async fn call(
        &mut self,
        path: &'static str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(path);
        self.client.unary(request, path, Verbatim).await
    }

    /// Opens a call whose request and answer both stream.
    ///
    /// # Errors
    /// The status that the member (or the connection) answered with.
    pub async fn both_streams(
        &mut self,
        path: &'static str,
        requests: Request<impl Stream<Item = Bytes> + Send + 'static>,
    ) -> Result<Streaming<Bytes>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = self.client.streaming(requests, path, Verbatim).await?;
        Ok(answer.into_inner())
    }

    /// Opens a stream in both directions; it half-closes when the sender of `requests` is gone. A
    /// server may send its headers only with its first message, and this waits for the headers.
    ///
    /// # Errors
    /// The status that the member (or the connection) answered with.
    pub async fn open(
        &mut self,
        path: &'static str,
        requests: UnboundedReceiver<Bytes>,
    ) -> Result<Streaming<Bytes>, Status> {
        let requests = stream::unfold(requests, |mut requests| async {
            Some((requests.recv().await?, requests))
        });
        self.both_streams(path, Request::new(requests)).await
    }

    /// A typed call.
    ///
    /// # Errors
    /// The status that the member (or the connection) answered with.
    ///
    /// # Panics
    /// When the answer is not a message of the type.
    pub async fn unary<A: Message + Default>(
        &mut self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<A, Status> {
        let answer = self.raw(path, request.encode_to_vec().into()).await?;
        Ok(A::decode(answer).expect("a member answers with valid protobuf"))
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// The paths of the methods that the tests call.
pub mod path {
    #![allow(missing_docs)]
    pub const RANGE: &str = "/etcdserverpb.KV/Range";
    pub const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
    pub const PUT: &str = "/etcdserverpb.KV/Put";
    pub const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
    pub const TXN: &str = "/etcdserverpb.KV/Txn";
    pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
    pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
    pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    pub const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
    pub const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    pub const LEASE_TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
    pub const LEASE_LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
    pub const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
    pub const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
    pub const LOCK: &str = "/v3lockpb.Lock/Lock";
    pub const UNLOCK: &str = "/v3lockpb.Lock/Unlock";
    pub const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
    pub const PROCLAIM: &str = "/v3electionpb.Election/Proclaim";
    pub const LEADER: &str = "/v3electionpb.Election/Leader";
    pub const OBSERVE: &str = "/v3electionpb.Election/Observe";
    pub const RESIGN: &str = "/v3electionpb.Election/Resign";
    pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
    pub const MOVE_LEADER: &str = "/etcdserverpb.Maintenance/MoveLeader";
    pub const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";
    pub const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
    pub const MEMBER_LIST: &str = "/etcdserverpb.Cluster/MemberList";
    pub const MEMBER_ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
    pub const MEMBER_REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
    pub const MEMBER_UPDATE: &str = "/etcdserverpb.Cluster/MemberUpdate";
    pub const MEMBER_PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";
}
