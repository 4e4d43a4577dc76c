//! A member without raft or disk: keys in a map, and answers that a test can steer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use althing_api::etcdserverpb::auth_server::Auth;
use althing_api::etcdserverpb::cluster_server::Cluster;
use althing_api::etcdserverpb::kv_server::Kv;
use althing_api::etcdserverpb::lease_server::Lease;
use althing_api::etcdserverpb::maintenance_server::Maintenance;
use althing_api::etcdserverpb::watch_server::Watch;
use althing_api::etcdserverpb::*;
use althing_api::mvccpb::KeyValue;
use althing_api::v3electionpb::election_server::Election;
use althing_api::v3electionpb::*;
use althing_api::v3lockpb::lock_server::Lock;
use althing_api::v3lockpb::*;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, future};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::client::api::{Member, WatchReplies};
use crate::rpc::Replies;

/// What the tests steer.
#[derive(Debug)]
pub(super) struct State {
    keys: BTreeMap<Bytes, Bytes>,
    pub(super) has_leader: bool,
    pub(super) is_learner: bool,
    pub(super) alarms: Vec<AlarmType>,
    pub(super) cluster_version: Option<String>,
    /// The refusal of every read.
    pub(super) read_error: Option<Status>,
}

/// Clones are the same member.
#[derive(Clone, Debug)]
pub(super) struct FakeMember(pub(super) Arc<Mutex<State>>);

impl FakeMember {
    pub(super) fn new() -> FakeMember {
        FakeMember(Arc::new(Mutex::new(State {
            keys: BTreeMap::new(),
            has_leader: true,
            is_learner: false,
            alarms: Vec::new(),
            cluster_version: Some("3.7.0".to_string()),
            read_error: None,
        })))
    }
}

#[tonic::async_trait]
impl Member for FakeMember {
    fn has_leader(&self) -> bool {
        self.0.lock().unwrap().has_leader
    }

    fn is_learner(&self) -> bool {
        self.0.lock().unwrap().is_learner
    }

    fn cluster_version(&self) -> Option<String> {
        self.0.lock().unwrap().cluster_version.clone()
    }

    fn alarms(&self) -> Vec<AlarmType> {
        self.0.lock().unwrap().alarms.clone()
    }

    async fn trial_read(&self, _is_serializable: bool) -> Result<(), Status> {
        let read_error = self.0.lock().unwrap().read_error.clone();
        read_error.map_or(Ok(()), Err)
    }
}

fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: u64::MAX,
        member_id: 1,
        revision: 2,
        raft_term: 3,
    })
}

fn absent<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the fake member lacks it"))
}

#[tonic::async_trait]
impl Kv for FakeMember {
    /// Key `wait` never answers; key `metadata/<name>` answers with the caller's metadata.
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let key = request.get_ref().key.clone();
        if key == "wait" {
            future::pending::<()>().await;
        }
        let (value, read_error) = {
            let state = self.0.lock().unwrap();
            (state.keys.get(&key).cloned(), state.read_error.clone())
        };
        if let Some(status) = read_error {
            return Err(status);
        }
        let name = key.strip_prefix(b"metadata/");
        let told = name.and_then(|name| {
            let value = request.metadata().get(std::str::from_utf8(name).ok()?)?;
            Some(Bytes::copy_from_slice(value.as_bytes()))
        });
        let kvs: Vec<_> = value
            .or(told)
            .map(|value| KeyValue {
                key,
                value,
                create_revision: 2,
                mod_revision: 2,
                version: 1,
                lease: 0,
            })
            .into_iter()
            .collect();
        Ok(Response::new(RangeResponse {
            header: header(),
            count: kvs.len() as i64,
            kvs,
            more: false,
        }))
    }

    type RangeStreamStream = BoxStream<'static, Result<RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        absent()
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let put = request.into_inner();
        self.0.lock().unwrap().keys.insert(put.key, put.value);
        Ok(Response::new(PutResponse {
            header: header(),
            prev_kv: None,
        }))
    }

    async fn delete_range(
        &self,
        _request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        absent()
    }

    async fn txn(&self, _request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        absent()
    }

    async fn compact(
        &self,
        _request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let text = "etcdserver: mvcc: required revision is a future revision";
        Err(Status::new(Code::OutOfRange, text))
    }
}

#[tonic::async_trait]
impl Watch for FakeMember {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    /// Answers every request with `created`, and stays open when the requests end.
    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let answers = request.into_inner().map(|request| {
            request.map(|_| WatchResponse {
                header: header(),
                created: true,
                ..WatchResponse::default()
            })
        });
        Ok(Response::new(answers.chain(stream::pending()).boxed()))
    }
}

#[tonic::async_trait]
impl WatchReplies for FakeMember {
    async fn watch_replies(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let messages = self.watch(request).await?;
        Ok(messages.map(|messages| messages.map(|message| message.map(Into::into)).boxed()))
    }
}

#[tonic::async_trait]
impl Election for FakeMember {
    async fn campaign(
        &self,
        _request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        absent()
    }

    async fn proclaim(
        &self,
        _request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        absent()
    }

    async fn leader(
        &self,
        _request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        absent()
    }

    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;

    /// One message, then an error.
    async fn observe(
        &self,
        _request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let answers = [
            Ok(LeaderResponse::default()),
            Err(Status::unavailable("etcdserver: no leader")),
        ];
        Ok(Response::new(stream::iter(answers).boxed()))
    }

    async fn resign(
        &self,
        _request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        absent()
    }
}

macro_rules! lacks {
    ($service:ident { $($method:ident: $request:ty => $response:ty,)* } $($stream:item)*) => {
        #[tonic::async_trait]
        impl $service for FakeMember {
            $($stream)*
            $(
                async fn $method(
                    &self,
                    _request: Request<$request>,
                ) -> Result<Response<$response>, Status> {
                    absent()
                }
            )*
        }
    };
}

lacks! {
    Lease {
        lease_grant: LeaseGrantRequest => LeaseGrantResponse,
        lease_revoke: LeaseRevokeRequest => LeaseRevokeResponse,
        lease_keep_alive: Streaming<LeaseKeepAliveRequest> => Self::LeaseKeepAliveStream,
        lease_time_to_live: LeaseTimeToLiveRequest => LeaseTimeToLiveResponse,
        lease_leases: LeaseLeasesRequest => LeaseLeasesResponse,
    }
    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;
}

lacks! {
    Cluster {
        member_add: MemberAddRequest => MemberAddResponse,
        member_remove: MemberRemoveRequest => MemberRemoveResponse,
        member_update: MemberUpdateRequest => MemberUpdateResponse,
        member_list: MemberListRequest => MemberListResponse,
        member_promote: MemberPromoteRequest => MemberPromoteResponse,
    }
}

lacks! {
    Maintenance {
        alarm: AlarmRequest => AlarmResponse,
        status: StatusRequest => StatusResponse,
        defragment: DefragmentRequest => DefragmentResponse,
        hash: HashRequest => HashResponse,
        hash_kv: HashKvRequest => HashKvResponse,
        snapshot: SnapshotRequest => Self::SnapshotStream,
        move_leader: MoveLeaderRequest => MoveLeaderResponse,
        downgrade: DowngradeRequest => DowngradeResponse,
    }
    type SnapshotStream = BoxStream<'static, Result<SnapshotResponse, Status>>;
}

lacks! {
    Auth {
        auth_enable: AuthEnableRequest => AuthEnableResponse,
        auth_disable: AuthDisableRequest => AuthDisableResponse,
        auth_status: AuthStatusRequest => AuthStatusResponse,
        authenticate: AuthenticateRequest => AuthenticateResponse,
        user_add: AuthUserAddRequest => AuthUserAddResponse,
        user_get: AuthUserGetRequest => AuthUserGetResponse,
        user_list: AuthUserListRequest => AuthUserListResponse,
        user_delete: AuthUserDeleteRequest => AuthUserDeleteResponse,
        user_change_password: AuthUserChangePasswordRequest => AuthUserChangePasswordResponse,
        user_grant_role: AuthUserGrantRoleRequest => AuthUserGrantRoleResponse,
        user_revoke_role: AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse,
        role_add: AuthRoleAddRequest => AuthRoleAddResponse,
        role_get: AuthRoleGetRequest => AuthRoleGetResponse,
        role_list: AuthRoleListRequest => AuthRoleListResponse,
        role_delete: AuthRoleDeleteRequest => AuthRoleDeleteResponse,
        role_grant_permission: AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse,
        role_revoke_permission: AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse,
    }
}

lacks! {
    Lock {
        lock: LockRequest => LockResponse,
        unlock: UnlockRequest => UnlockResponse,
    }
}
